"""Which weights of a model stay: by magnitude over all matrices or in each, in N:M groups, along a schedule.

Masks are True where a weight stays. Magnitude is the criterion of Han 2015 (arXiv:1506.02626).

Shapes: O outputs, I inputs of a matrix, G groups, M members of a group.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from bento.errors import UserError

if TYPE_CHECKING:
    import torch

Masks = dict[str, "torch.Tensor"]
Scope = Literal["global", "matrix"]

MAX_GROUP = 32


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """At most `kept` of `group` weights in a row are not zero."""

    kept: int
    group: int

    @property
    def sparsity(self) -> float:
        """Share of zeros that the pattern asks for."""
        return 1 - self.kept / self.group


def parse_pattern(text: str) -> Pattern:
    """`2:4` as a Pattern. Raises: ValueError saying what it should be."""
    found = re.fullmatch(r"(\d+):(\d+)", text)
    kept, group = (int(number) for number in found.groups()) if found else (0, 0)
    if not 1 <= kept < group <= MAX_GROUP:
        raise ValueError(
            f"pattern: expected N:M, at most N of M weights in a row not zero, 1 <= N < M <= {MAX_GROUP}, "
            f"got {text!r}; write 2:4"
        )
    return Pattern(kept=kept, group=group)


def cubic_sparsity(progress: float, target: float) -> float:
    """Sparsity when the share `progress` of the ramp is done: fast first, slow at its end.

    Zhu and Gupta 2017, arXiv:1710.01878, eq. 1, from a dense model.
    """
    left = 1 - min(max(progress, 0.0), 1.0)
    return target * (1 - left**3)


def magnitude_masks(
    weights: Mapping[str, "torch.Tensor"], sparsity: float, *, scope: Scope = "global", pattern: Pattern | None = None
) -> Masks:
    """Keep the largest weights so that exactly `sparsity` of them, rounded to whole ones, are left out.

    With a `pattern`, only weights that are not among the largest of their group are left out, so that at the pattern's
    own sparsity each group holds it.
    """
    scores = {name: _scores(weight, pattern) for name, weight in weights.items()}
    if scope == "global":
        return _keep_largest(scores, sparsity)
    return {name: _keep_largest({name: score}, sparsity)[name] for name, score in scores.items()}


def group_mask(weight_OI: "torch.Tensor", pattern: Pattern) -> "torch.Tensor":
    """The `kept` largest of every `group` weights in a row of inputs (Zhou 2021, arXiv:2102.04010).

    Raises: UserError for inputs that are no whole number of groups.
    """
    import torch

    if weight_OI.shape[-1] % pattern.group:
        raise UserError(
            f"pattern: expected groups that divide the {weight_OI.shape[-1]} inputs of a matrix, got groups of "
            f"{pattern.group}"
        )
    groups_GM = weight_OI.abs().reshape(-1, pattern.group)
    largest = groups_GM.topk(pattern.kept, dim=1).indices
    mask_GM = torch.zeros_like(groups_GM, dtype=torch.bool).scatter_(1, largest, value=True)
    return mask_GM.reshape(weight_OI.shape)


def measured_sparsity(weights: Mapping[str, "torch.Tensor"]) -> float:
    """Share of the weights that are zero."""
    num_zero = sum(int((weight == 0).sum()) for weight in weights.values())
    return num_zero / sum(weight.numel() for weight in weights.values())


def _scores(weight: "torch.Tensor", pattern: Pattern | None) -> "torch.Tensor":
    """What the weights are ranked by: magnitude; without end for those that their group keeps."""
    magnitude = weight.detach().abs()
    return magnitude if pattern is None else magnitude.masked_fill(group_mask(magnitude, pattern), float("inf"))


def _keep_largest(scores: Mapping[str, Any], sparsity: float) -> Masks:
    """Of all scores together. Among equal ones at the border, the first stay."""
    import torch

    flat = torch.cat([score.flatten() for score in scores.values()])
    num_left_out = round(sparsity * len(flat))
    if num_left_out == 0:
        return {name: torch.ones_like(score, dtype=torch.bool) for name, score in scores.items()}
    border = flat.kthvalue(num_left_out).values
    mask = flat > border
    equal = (flat == border).nonzero().flatten()
    mask[equal[: len(flat) - num_left_out - int(mask.sum())]] = True
    parts = torch.split(mask, [score.numel() for score in scores.values()])
    return {name: part.view(score.shape) for (name, score), part in zip(scores.items(), parts, strict=True)}
