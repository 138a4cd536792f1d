"""Structured pruning: heads, feed-forward neurons and whole layers go, and what stays are smaller matrices.

Importance (Fisher information, Kwon 2022, arXiv:2204.09656, or Taylor expansion) says which heads and neurons of a
layer go first. How many go is named in the config, or searched: the sizes of all layers that together meet a latency,
by times measured on this CPU, at the least loss of the answers (ZipLM, Kurtic 2023, arXiv:2302.04089). Least squares
and a distillation then make up for what was lost.
"""

import dataclasses
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from bento.errors import UserError
from tasks.architecture import Architecture, load_classifier, require_head_pruning, require_parts
from tasks.batches import Rows, tokenize
from tasks.compress.context import Context
from tasks.cut_losses import CutLosses, cut_losses, first_rows, layer_losses, strongest
from tasks.data import read_labels, read_split
from tasks.distillation import Training, check_training, distil_into
from tasks.importance import Method, importance
from tasks.latency_table import Geometry, LatencyTable, cheapest, measured_table, read_table
from tasks.store import Step
from tasks.structure import (
    Kept,
    LayerSize,
    cut,
    head_size,
    input_moments,
    layer_sizes,
    pad_neurons,
    refit,
    trim_neurons,
)
from tasks.task_types import SingleLabel
from tasks.training import write_history
from tasks.types import Artifact

log = logging.getLogger("retort.prune_structure")

Unit = Literal["heads", "neurons", "layers"]

STRUCTURE_FILE = "structure.json"
THREADS = 1
"""ONNX Runtime threads for which layers are timed, as `export` sets them by default."""
NUM_PROBE_ROWS = 256
"""Calibration rows on which cuts are tried; each takes a forward pass over them."""
NUM_NEURON_CHOICES = 24
VECTOR_WIDTH = 16
"""32-bit sums in one vector register: neurons beyond a multiple of it are paid for whether they are there or not."""


class PruneStructure(Training):
    """Cut heads, neurons and layers until a sentence takes the wanted time, then distil what is left."""

    kind: Literal["prune_structure"] = "prune_structure"
    speedup: float | None = None
    """How many times sooner one sentence is to be answered than by the model before; measured, as 8-bit ONNX."""
    latency_ms: float | None = None
    """The time that one sentence of median length may take on this CPU, in place of a ratio."""
    units: list[Unit] = Field(default=["heads", "neurons", "layers"])
    """What may go for `speedup` or `latency_ms`."""
    heads: int | None = None
    """Heads that every layer keeps, where no time is given."""
    intermediate_size: int | None = None
    """Neurons that every layer's feed-forward part keeps, where no time is given."""
    num_layers: int | None = None
    """Layers that stay, where no time is given."""
    importance: Method = "fisher"
    """What tells what matters: the mean square of the gradients of masks (fisher), or their mean size (taylor)."""
    calibration_rows: int = Field(default=512, ge=1)
    """Training rows, drawn at random, over which importance is taken and what is left is refitted."""

    consumes: ClassVar[str] = "torch"
    produces: ClassVar[str] = "torch"

    @model_validator(mode="after")
    def _has_one_aim(self) -> Self:
        """Raises: ValueError naming the aims, or the value that would fit."""
        counts = {"heads": self.heads, "intermediate_size": self.intermediate_size, "num_layers": self.num_layers}
        given = [name for name in ("speedup", "latency_ms") if getattr(self, name) is not None]
        named = [name for name, count in counts.items() if count is not None]
        if len(given) > 1 or bool(given) == bool(named):
            raise ValueError(
                "prune_structure: expected one aim, either speedup, or latency_ms, or the sizes to keep (heads, "
                f"intermediate_size, num_layers), got {' and '.join(given + named) or 'none'}; write speedup: 2.0"
            )
        for name, count in counts.items():
            if count is not None and count < 1:
                raise ValueError(
                    f"prune_structure.{name}: expected at least 1, got {count}; a layer cannot do without, "
                    "but whole layers can go: set num_layers"
                )
        if self.speedup is not None and not 1 < self.speedup < float("inf"):
            raise ValueError(f"prune_structure.speedup: expected more than 1, got {self.speedup}; write 2.0")
        if self.latency_ms is not None and not 0 < self.latency_ms < float("inf"):
            raise ValueError(f"prune_structure.latency_ms: expected more than 0, got {self.latency_ms}")
        if not self.units:
            raise ValueError("prune_structure.units: expected some of heads, neurons, layers, got none")
        return self

    @property
    def cuts_heads(self) -> bool:
        """Whether a layer may lose heads."""
        return self.heads is not None if self.sized else "heads" in self.units

    @property
    def sized(self) -> bool:
        """Whether the config says what stays, and not in what time."""
        return self.speedup is None and self.latency_ms is None

    def check(self, shape: Architecture) -> Architecture:
        """The largest sizes that the pruned model can have. Raises: UserError naming what would work."""
        return check_pruned(self, shape)

    def run(self, artifact: Artifact, context: Context) -> Step:
        """The pruned model. Raises: UserError when the wanted time is out of reach, before any training."""
        if self.sized:
            return context.step(self, artifact, lambda out, work: self._make(artifact, context, out, work, None))
        geometry, sizes = _measured_shape(artifact.path, context)
        table = read_table(measured_table(geometry))
        check_reach(self, table, sizes)
        keyed = _Timed(**self.model_dump(), table=table)
        return context.step(keyed, artifact, lambda out, work: self._make(artifact, context, out, work, table))

    def _make(self, artifact: Artifact, context: Context, out: Path, work: Path, table: LatencyTable | None) -> None:
        from transformers import AutoConfig, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(artifact.path)
        model = load_trimmed(artifact.path)
        before = layer_sizes(model)
        kept = self._cut(
            model, _calibration_rows(tokenizer, context, self.calibration_rows), tokenizer.pad_token_id, table
        )
        _write_structure(kept, before, table, out)
        as_deep = AutoConfig.from_pretrained(context.teacher.path).num_hidden_layers == len(before)
        layers = sorted(kept) if as_deep else None
        history = distil_into(model, tokenizer, self, context, work=work, name="prune_structure", layers=layers)
        pad_neurons(model)
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)
        write_history(history, out)

    def _cut(self, model: Any, rows: Rows, pad_id: int, table: LatencyTable | None) -> dict[int, Kept]:
        """Take out of `model` what matters least, let the rest make up for it, and say what stays."""
        scores, moments = importance(model, rows, pad_id, self.importance), input_moments(model, rows, pad_id)
        probed, sizes = first_rows(rows, NUM_PROBE_ROWS), layer_sizes(model)
        if table is None:
            chosen = sized(self, layer_losses(model, probed, pad_id) if self.num_layers else None, sizes)
        else:
            chosen = searched(self, cut_losses(model, scores, moments, probed, pad_id), sizes, table)
        kept = {at: strongest(scores, at, size) for at, size in chosen.items()}
        refit(model, kept, moments)
        cut(model, kept)
        return kept


class _Timed(PruneStructure):
    """The config with the times that its choice rests on, for the store's key: another CPU chooses other sizes."""

    table: LatencyTable


@dataclass(frozen=True, kw_only=True)
class _Choices:
    """What one layer can become, and the time of each option; one more than there are sizes drops the layer."""

    sizes: list[LayerSize]
    costs: Any

    def losses(self, lost: CutLosses, at: int) -> Any:
        """What the answers lose by each option."""
        found = [lost.heads[at][size.num_heads] + lost.neurons[at][size.num_neurons] for size in self.sizes]
        return np.array([*found, lost.layers_L[at]][: len(self.costs)])


def load_trimmed(folder: Path) -> Any:
    """The classifier of a torch folder, its feed-forward matrices without the zeros that fill them."""
    model = load_classifier(folder)
    trim_neurons(model)
    return model


def check_pruned(settings: PruneStructure, shape: Architecture) -> Architecture:
    """Sizes after pruning `shape`, at most. Raises: UserError naming what would work."""
    require_parts(shape, "prune_structure")
    if settings.cuts_heads:
        require_head_pruning(shape, "prune_structure", "set units to [neurons, layers], or leave heads out")
    if settings.relations > 0 and settings.cuts_heads:
        raise UserError(
            "prune_structure.relations: expected 0 where heads go, since a layer's queries no longer split into "
            f"{settings.relation_heads} relation heads; set relations to 0, or units to [neurons, layers]"
        )
    limits = {"heads": shape.num_heads, "intermediate_size": shape.intermediate_size, "num_layers": shape.num_layers}
    for name, limit in limits.items():
        count = getattr(settings, name)
        if count is not None and count > limit:
            raise UserError(f"prune_structure.{name}: expected 1 to {limit}, which the model has, got {count}")
    _check_speedup(settings, shape)
    pruned = dataclasses.replace(
        shape,
        num_layers=settings.num_layers or shape.num_layers,
        num_heads=settings.heads or shape.num_heads,
        intermediate_size=settings.intermediate_size or shape.intermediate_size,
        searched=shape.searched | (frozenset() if settings.sized else frozenset(settings.units)),
    )
    check_training(settings, pruned, "prune_structure")
    return pruned


def _check_speedup(settings: PruneStructure, shape: Architecture) -> None:
    """Time falls less than a token's multiply-adds do, so their ratio bounds what any machine can gain."""
    size = shape.head_size
    all_neurons = shape.intermediate_size

    def products(heads: int, neurons: int) -> int:
        return size * heads * (4 * shape.hidden_size + 2 * shape.max_positions) + 2 * shape.hidden_size * neurons

    least = products(
        1 if settings.cuts_heads else shape.num_heads,
        neuron_choices(all_neurons)[0] if "neurons" in settings.units else all_neurons,
    ) * (1 if "layers" in settings.units else shape.num_layers)
    most = products(shape.num_heads, all_neurons) * shape.num_layers / least
    if settings.speedup is not None and settings.speedup > most:
        raise UserError(
            f"prune_structure.speedup: expected less than {most:.3g}, the ratio of the multiply-adds when nothing more "
            f"of {_joined(settings.units)} can go, got {settings.speedup}; lower it{_more_units(settings)}"
        )


def check_reach(settings: PruneStructure, table: LatencyTable, sizes: Sequence[LayerSize]) -> None:
    """Raises: UserError where the wanted time is shorter than any choice takes, or longer than the model as it is."""
    given_ms = table.model_ms([(size.num_heads, size.num_neurons) for size in sizes])
    choices = [_choices(settings, size, table) for size in sizes]
    leasts = [min(choice.costs[: len(choice.sizes)]) for choice in choices]
    least_ms = table.rest_ms + (min(leasts) if "layers" in settings.units else sum(leasts))
    wanted_ms = target_ms(settings, given_ms)
    if wanted_ms < least_ms:
        raise UserError(
            f"prune_structure: expected a latency of {least_ms:.3g} ms or more (speedup {given_ms / least_ms:.3g} or "
            f"less), which is the least by the times measured on {table.cpu}, got {wanted_ms:.3g} ms (speedup "
            f"{given_ms / wanted_ms:.3g}); ask for less{_more_units(settings)}"
        )
    if wanted_ms >= given_ms:
        raise UserError(
            f"prune_structure.latency_ms: expected less than the {given_ms:.3g} ms that the model takes unpruned on "
            f"{table.cpu}, got {wanted_ms:.3g}; choose from {least_ms:.3g} to {given_ms:.3g}, or leave pruning out"
        )


def target_ms(settings: PruneStructure, given_ms: float) -> float:
    """The wanted time of a model that takes `given_ms`."""
    return settings.latency_ms if settings.latency_ms is not None else given_ms / (settings.speedup or 1)


def searched(
    settings: PruneStructure, lost: CutLosses, sizes: Sequence[LayerSize], table: LatencyTable
) -> dict[int, LayerSize]:
    """The layers that stay and their sizes, so that the model meets its time and its answers lose the least."""
    given_ms = table.model_ms([(size.num_heads, size.num_neurons) for size in sizes])
    choices = [_choices(settings, size, table) for size in sizes]
    picks = _best_picks(
        [choice.costs for choice in choices],
        [choice.losses(lost, at) for at, choice in enumerate(choices)],
        [len(choice.sizes) for choice in choices],
        target_ms(settings, given_ms) - table.rest_ms,
    )
    return {at: choices[at].sizes[pick] for at, pick in enumerate(picks) if pick < len(choices[at].sizes)}


def _best_picks(costs: list[Any], losses: list[Any], num_sizes: list[int], budget_ms: float) -> list[int]:
    """The option of each layer. One at least stays, so each in turn is the one that does. Raises: UserError."""
    found = []
    for stays, count in enumerate(num_sizes):
        may_go = [slice(count if at == stays else None) for at in range(len(costs))]
        its_costs, its_losses = (
            [values[options] for values, options in zip(column, may_go, strict=True)] for column in (costs, losses)
        )
        picks = cheapest(its_costs, its_losses, budget_ms)
        if picks is not None:
            found.append((float(sum(loss[pick] for loss, pick in zip(losses, picks, strict=True))), picks))
    if not found:
        raise UserError(f"prune_structure: expected a time that some sizes take, got {budget_ms:.3g} ms for all layers")
    return min(found)[1]


def sized(settings: PruneStructure, losses_L: Any, sizes: Sequence[LayerSize]) -> dict[int, LayerSize]:
    """As many layers as the config names, those without which most is lost, each with the sizes that it names."""
    count = settings.num_layers or len(sizes)
    layers = range(len(sizes)) if losses_L is None else sorted(np.argsort(-losses_L, kind="stable")[:count].tolist())
    return {
        at: LayerSize(
            num_heads=min(settings.heads or sizes[at].num_heads, sizes[at].num_heads),
            num_neurons=min(settings.intermediate_size or sizes[at].num_neurons, sizes[at].num_neurons),
        )
        for at in layers
    }


def neuron_choices(num_neurons: int) -> list[int]:
    """Whole vector widths, about NUM_NEURON_CHOICES of them, and all."""
    step = -(-num_neurons // (NUM_NEURON_CHOICES * VECTOR_WIDTH)) * VECTOR_WIDTH
    return [*range(step, num_neurons, step), num_neurons]


def _choices(settings: PruneStructure, size: LayerSize, table: LatencyTable) -> _Choices:
    """Every pair of sizes of one layer, and behind them its absence where layers may go."""
    heads = range(1, size.num_heads + 1) if "heads" in settings.units else [size.num_heads]
    neurons = neuron_choices(size.num_neurons) if "neurons" in settings.units else [size.num_neurons]
    sizes = [LayerSize(num_heads=head, num_neurons=neuron) for head in heads for neuron in neurons]
    costs = [table.layer_ms(each.num_heads, each.num_neurons) for each in sizes]
    return _Choices(sizes=sizes, costs=np.array([*costs, 0.0] if "layers" in settings.units else costs))


def _measured_shape(folder: Path, context: Context) -> tuple[Geometry, list[LayerSize]]:
    """What is timed for the model in `folder`, with sentences of the data's median length, and what its layers have."""
    from transformers import AutoTokenizer

    model = load_trimmed(folder)
    sizes = layer_sizes(model)
    texts = read_split(context.data.path, "train").texts
    rows = tokenize(AutoTokenizer.from_pretrained(folder), texts, max_tokens=context.max_tokens)
    geometry = Geometry(
        hidden_size=model.config.hidden_size,
        head_size=head_size(model),
        num_heads=max(size.num_heads for size in sizes),
        num_neurons=max(size.num_neurons for size in sizes),
        num_classes=len(read_labels(context.data.path)),
        num_tokens=int(np.median([len(ids) for ids in rows.token_ids])),
        threads=THREADS,
    )
    return geometry, sizes


def _calibration_rows(tokenizer: Any, context: Context, count: int) -> Rows:
    train = read_split(context.data.path, "train")
    labels_N = SingleLabel().targets(train, read_labels(context.data.path))
    drawn = np.sort(np.random.default_rng(context.seed).permutation(len(train))[:count])
    texts = [train.texts[row] for row in drawn]
    return tokenize(tokenizer, texts, max_tokens=context.max_tokens, targets={"label": labels_N[drawn]})


def _write_structure(kept: dict[int, Kept], before: Sequence[LayerSize], table: LatencyTable | None, out: Path) -> None:
    """Say which layers stay with how many heads and neurons, and the times that were predicted for both."""
    after = [{"layer": at, "heads": len(kept[at].heads), "neurons": len(kept[at].neurons)} for at in sorted(kept)]
    found: dict[str, Any] = {"layers": after}
    if table is not None:
        given_ms = table.model_ms([(size.num_heads, size.num_neurons) for size in before])
        chosen_ms = table.model_ms([(layer["heads"], layer["neurons"]) for layer in after])
        found |= {"given_ms": given_ms, "predicted_ms": chosen_ms, "cpu": table.cpu}
        log.info("%.2f ms become %.2f ms by the measured times", given_ms, chosen_ms)
    for layer in after:
        log.info("layer %d keeps %d heads and %d neurons", layer["layer"], layer["heads"], layer["neurons"])
    (out / STRUCTURE_FILE).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _joined(names: Any) -> str:
    return ", ".join(sorted(names))


def _more_units(settings: PruneStructure) -> str:
    missing = {"heads", "neurons", "layers"} - set(settings.units)
    return f", or let {_joined(missing)} go too" if missing else ""
