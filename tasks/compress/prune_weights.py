"""Unstructured pruning: most weights of the encoder's matrices become zero while the rest learn from the teacher.

Which ones go is decided by magnitude: at once (Han 2015, arXiv:1506.02626); along a cubic schedule (Zhu and Gupta 2017,
arXiv:1710.01878); or in rounds after each of which the weights that are left go back to where they began (the lottery
ticket hypothesis, Frankle and Carbin 2019, arXiv:1803.03635; for BERT, Chen 2020, arXiv:2007.12223).

The model gets smaller in storage, by `pack`, and not faster: a dense runtime multiplies by the zeros too.
"""

import logging
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from bento.errors import RetortError, UserError
from tasks.architecture import Architecture, load_classifier
from tasks.compress.context import Context
from tasks.compress.prune_structure import VECTOR_WIDTH
from tasks.distillation import Training, check_training, distil_into
from tasks.sparsity import Masks, Pattern, Scope, cubic_sparsity, magnitude_masks, measured_sparsity, parse_pattern
from tasks.store import Step
from tasks.training import Epoch, write_history
from tasks.types import Artifact

log = logging.getLogger("retort.prune_weights")

DEFAULT_SPARSITY = 0.9
ZEROED = "zeroed_weights"
"""Name of the buffer beside a weight that is True where it is held at zero, so that checkpoints hold the masks."""


class PruneWeights(Training):
    """Set most weights to zero, and train the others."""

    kind: Literal["prune_weights"] = "prune_weights"
    sparsity: float | None = Field(default=None, gt=0, le=0.99)
    """Share of the encoder's linear weights that become zero; 0.9, or what the pattern says."""
    method: Literal["one_shot", "gradual", "lottery_ticket"] = "gradual"
    """All at once before training; a few at a time while it goes on; or in rounds that each train from the start."""
    pattern: str | None = None
    """N:M, as in 2:4: at most N of M weights in a row of a matrix stay."""
    scope: Scope = "global"
    """Whether the smallest weights are looked for in all matrices together or in each one."""
    embeddings: bool = True
    """Prune the word embeddings too, to the same sparsity on their own."""
    ramp: float = Field(default=0.6, gt=0, le=1)
    """gradual: share of the steps over which the sparsity rises; then its zeros stay where they are."""
    every: int = Field(default=20, ge=1)
    """gradual: steps from one choice of zeros to the next."""
    rounds: int = Field(default=4, ge=1, le=50)
    """lottery_ticket: how often a share of the weights is cut and the others start again; each round trains for all
    epochs, and so does the last ticket."""

    consumes: ClassVar[str] = "torch"
    produces: ClassVar[str] = "torch"

    @model_validator(mode="after")
    def _sparsity_is_said_once(self) -> Self:
        if self.pattern is not None and self.sparsity is not None:
            raise ValueError(
                f"prune_weights: expected sparsity or pattern, got both; {self.pattern} already means "
                f"{parse_pattern(self.pattern).sparsity:.3g}"
            )
        if self.pattern is not None:
            parse_pattern(self.pattern)
        return self

    @property
    def groups(self) -> Pattern | None:
        """The pattern, read."""
        return parse_pattern(self.pattern) if self.pattern is not None else None

    @property
    def target(self) -> float:
        """Share of zeros in the end."""
        if self.groups is not None:
            return self.groups.sparsity
        return DEFAULT_SPARSITY if self.sparsity is None else self.sparsity

    def check(self, shape: Architecture) -> Architecture:
        """The same sizes. Raises: UserError for a pattern that does not divide them."""
        heads = shape.head_size if "heads" in shape.searched else shape.query_size
        neurons = VECTOR_WIDTH if "neurons" in shape.searched else shape.intermediate_size
        sizes = list(dict.fromkeys((shape.hidden_size, heads, neurons)))
        if self.groups is not None and any(size % self.groups.group for size in sizes):
            raise UserError(
                f"prune_weights.pattern: expected groups that divide the sizes {', '.join(map(str, sizes))} of the "
                f"matrices, got {self.pattern}; take groups of {math.gcd(*sizes)} or a divisor of it"
            )
        check_training(self, shape, "prune_weights")
        return shape

    def run(self, artifact: Artifact, context: Context) -> Step:
        """`artifact` with zeros. Raises: UserError for a pattern that does not divide its matrices."""
        return context.step(self, artifact, lambda out, work: self._make(artifact.path, context, out, work))

    def _make(self, source: Path, context: Context, out: Path, work: Path) -> None:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(source)
        start = {"one_shot": self._one_shot, "gradual": self._gradual, "lottery_ticket": self._lottery_ticket}
        pruned, history = start[self.method](source, tokenizer, context, work)
        self._check_zeros(pruned)
        pruned.without_masks().save_pretrained(out)
        tokenizer.save_pretrained(out)
        write_history(history, out)

    def _one_shot(self, source: Path, tokenizer: Any, context: Context, work: Path) -> tuple["Masked", list[Epoch]]:
        """Cut first, then recover."""
        pruned = Masked(load_classifier(source), embeddings=self.embeddings)
        pruned.set_masks(self.choose(pruned, self.target))
        return pruned, self._train(pruned, tokenizer, context, work)

    def _gradual(self, source: Path, tokenizer: Any, context: Context, work: Path) -> tuple["Masked", list[Epoch]]:
        """Cut along the schedule while training; epochs count as best from where it has ended."""
        pruned = Masked(load_classifier(source), embeddings=self.embeddings)
        first_kept_epoch = min(self.epochs, math.ceil(self.ramp * self.epochs))
        history = self._train(
            pruned, tokenizer, context, work, cut=self._along_ramp(pruned), first_kept_epoch=first_kept_epoch
        )
        return pruned, history

    def _along_ramp(self, pruned: "Masked") -> Callable[[int, int], None]:
        def cut(step: int, num_steps: int) -> None:
            last = max(1, int(self.ramp * num_steps))
            if step == last or (step < last and step % self.every == 0):
                pruned.set_masks(self.choose(pruned, cubic_sparsity(step / last, self.target)))

        return cut

    def _lottery_ticket(
        self, source: Path, tokenizer: Any, context: Context, work: Path
    ) -> tuple["Masked", list[Epoch]]:
        """Train, cut the same share of what is left, begin again from the first weights; and train the last ticket."""
        pruned = Masked(load_classifier(source), embeddings=self.embeddings)
        for number in range(1, self.rounds + 1):
            ticket = work / f"ticket-{number}.pt"
            if not ticket.is_file():
                self._train(pruned, tokenizer, context, work / f"round-{number}")
                sparsity = self.target if number == self.rounds else 1 - (1 - self.target) ** (number / self.rounds)
                _save_masks(self.choose(pruned, sparsity), ticket)
                shutil.rmtree(work / f"round-{number}")
            pruned = Masked(load_classifier(source), embeddings=self.embeddings)
            pruned.set_masks(_load_masks(ticket))
            log.info("lottery ticket %d of %d: %.1f %% zeros", number, self.rounds, 100 * pruned.sparsity)
        return pruned, self._train(pruned, tokenizer, context, work / "last")

    def _train(
        self,
        pruned: "Masked",
        tokenizer: Any,
        context: Context,
        work: Path,
        *,
        cut: Callable[[int, int], None] | None = None,
        first_kept_epoch: int = 1,
    ) -> list[Epoch]:
        """Distil with the zeros held; `cut` may choose more of them after a step."""
        work.mkdir(exist_ok=True)

        def after_step(step: int, num_steps: int) -> None:
            pruned.zero()
            if cut is not None:
                cut(step, num_steps)

        return distil_into(
            pruned.model, tokenizer, self, context, work=work, name=f"prune_weights {self.method}",
            after_step=after_step, first_kept_epoch=first_kept_epoch,
        )  # fmt: skip

    def choose(self, pruned: "Masked", sparsity: float) -> Masks:
        """Masks at this sparsity: the matrices among each other, the word embeddings on their own.

        The two are not ranked together, since the magnitudes of a table and of a matrix mean different things.
        """
        parts = [part for part in (pruned.matrices, pruned.table) if part]
        found: Masks = {}
        for weights in parts:
            found |= magnitude_masks(weights, sparsity, scope=self.scope, pattern=self.groups)
        return found

    def _check_zeros(self, pruned: "Masked") -> None:
        """Raises: RetortError when the zeros are not as many as asked for."""
        if pruned.sparsity < self.target - 1e-4:
            raise RetortError(
                f"prune_weights: expected a sparsity of {self.target:.4f} in the end, got {pruned.sparsity:.4f}; "
                "train for more epochs or lower prune_weights.ramp"
            )


class Masked:
    """A model whose masked weights are zero, get no gradient, and stay zero whatever the optimiser does."""

    def __init__(self, model: Any, *, embeddings: bool) -> None:
        self.model = model
        self.modules = {f"{name}.weight": module for name, module in linear_modules(model).items()}
        self._num_matrices = len(self.modules)
        if embeddings:
            self.modules["embeddings"] = model.get_input_embeddings()
        for module in self.modules.values():
            self._hold(module)

    @property
    def matrices(self) -> dict[str, Any]:
        """Name -> weight of the linear modules."""
        return self._weights(list(self.modules)[: self._num_matrices])

    @property
    def table(self) -> dict[str, Any]:
        """Name -> weight of the word embeddings, where they are pruned."""
        return self._weights(list(self.modules)[self._num_matrices :])

    @property
    def sparsity(self) -> float:
        """Share of zeros in all of these."""
        return measured_sparsity(self.matrices | self.table)

    def set_masks(self, masks: Masks) -> None:
        """Take `masks` and zero what they leave out."""
        for name, mask in masks.items():
            getattr(self.modules[name], ZEROED).copy_(~mask)
        self.zero()

    def zero(self) -> None:
        """Undo what the optimiser's momentum did to the masked weights."""
        import torch

        with torch.no_grad():
            for module in self.modules.values():
                module.weight.masked_fill_(getattr(module, ZEROED), 0.0)

    def without_masks(self) -> Any:
        """The model as it was, but for its zeros."""
        for module in self.modules.values():
            delattr(module, ZEROED)
        return self.model

    def _weights(self, names: list[str]) -> dict[str, Any]:
        return {name: self.modules[name].weight.detach() for name in names}

    def _hold(self, module: Any) -> None:
        import torch

        module.register_buffer(ZEROED, torch.zeros_like(module.weight, dtype=torch.bool))
        module.weight.register_hook(lambda gradient: gradient.masked_fill(getattr(module, ZEROED), 0.0))


def linear_modules(model: Any) -> dict[str, Any]:
    """Name -> module of the linear layers of the encoder; a classification head is not part of it."""
    import torch

    modules = model.base_model.named_modules()
    return {name: module for name, module in modules if isinstance(module, torch.nn.Linear)}


def _save_masks(masks: Masks, path: Path) -> None:
    import torch

    temporary = path.with_suffix(".tmp")
    torch.save(masks, temporary)
    temporary.replace(path)


def _load_masks(path: Path) -> Masks:
    import torch

    masks: Masks = torch.load(path, weights_only=True, map_location="cpu")
    return masks
