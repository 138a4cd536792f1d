"""Compression: one technique a file; a chain of them is a list in the config.

To add one: write `tasks/compress/NAME.py` with a frozen Section that has `kind`, `consumes`, `produces`, `check` and
`run`, and name it in `Technique` below. The contract test takes it from there.
"""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from tasks.architecture import Architecture
from tasks.compress.distil import Distil
from tasks.compress.export import Export
from tasks.compress.linformer import Linformer
from tasks.compress.pack import Pack
from tasks.compress.prune_structure import PruneStructure
from tasks.compress.prune_vocabulary import PruneVocabulary
from tasks.compress.prune_weights import PruneWeights
from tasks.compress.quantize import Quantize
from tasks.compress.train_quantized import TrainQuantized
from tasks.compress.tune import Tune
from tasks.distillation import Training

Technique = Annotated[
    PruneVocabulary
    | Distil
    | PruneStructure
    | PruneWeights
    | Linformer
    | TrainQuantized
    | Export
    | Quantize
    | Pack
    | Tune,
    Field(discriminator="kind"),
]


def check_chain(chain: Sequence[Technique]) -> None:
    """See that each technique gets the format that it consumes. Raises: ValueError saying what to put where."""
    if not chain:
        raise ValueError("compress: expected at least one technique that ends in onnx, got none; add {kind: export}")
    have = "torch"
    for at, technique in enumerate(chain):
        if technique.consumes != have:
            origin = "the teacher" if at == 0 else f"compress[{at - 1}] {chain[at - 1].kind!r}"
            remedy = "put 'export' between them" if have == "torch" else "move it in front of 'export'"
            raise ValueError(
                f"compress[{at}] {technique.kind!r} consumes {technique.consumes}, but {origin} produces {have}; "
                f"{remedy}"
            )
        have = technique.produces
        _check_order(chain, at)
    if have != "onnx":
        raise ValueError(f"compress: expected a chain that ends in onnx, got {have}; add {{kind: export}} at its end")


def _check_order(chain: Sequence[Technique], at: int) -> None:
    """Raises: ValueError where a technique would undo one before, or find nothing to do behind it."""
    technique, before = chain[at], {one.kind: one for one in chain[:at]}
    if isinstance(technique, Training) and not isinstance(technique, PruneWeights) and "prune_weights" in before:
        raise ValueError(
            f"compress[{at}] {technique.kind!r} trains all weights, so the zeros of 'prune_weights' would be lost; "
            f"put {technique.kind!r} in front of it"
        )
    if technique.kind == "quantize" and "pack" in before:
        raise ValueError(f"compress[{at}] 'quantize' finds no weights in a packed file; put 'pack' behind it")
    if technique.kind == "quantize" and "tune" in before:
        raise ValueError(
            f"compress[{at}] 'quantize' changes what 'tune' measured, so its settings and serving times would be "
            "another model's; put 'tune' behind it"
        )
    if technique.kind in ("quantize", "pack") and technique.kind in before:
        raise ValueError(
            f"compress[{at}] {technique.kind!r} comes a second time and finds nothing to do; leave one out"
        )
    if technique.kind == "pack":
        _check_pack(at, "prune_weights" in before, before.get("quantize"))


def _check_pack(at: int, sparse: bool, quantize: Technique | None) -> None:
    """Raises: ValueError where no weight can be stored compressed."""
    if not sparse:
        raise ValueError(
            f"compress[{at}] 'pack' stores zeros compressed, and nothing before it makes any; put 'prune_weights' in "
            "front of 'export', or leave 'pack' out"
        )
    if isinstance(quantize, Quantize) and quantize.all_in_4_bits:
        raise ValueError(
            f"compress[{at}] 'pack' leaves 4-bit values as they are, and 'quantize' stores weights and embeddings so; "
            "set weight_bits or embedding_bits to 8, or leave 'pack' out"
        )


def check_sizes(chain: Sequence[Technique], shape: Architecture) -> None:
    """Walk the chain over the teacher's sizes, before any compute. Raises: UserError for what cannot be made of it."""
    for technique in chain:
        shape = technique.check(shape)


def step_names(chain: Sequence[Technique]) -> list[str]:
    """A name for each technique of a chain: its kind, numbered where it comes again."""
    kinds = [technique.kind for technique in chain]
    return [
        kind if kind not in kinds[:at] else f"{kind}_{kinds[: at + 1].count(kind)}" for at, kind in enumerate(kinds)
    ]


def read_chain(rows: Sequence[dict[str, Any]]) -> tuple[Technique, ...]:
    """The techniques of a chain that was stored as JSON."""
    adapter: TypeAdapter[Technique] = TypeAdapter(Technique)
    return tuple(adapter.validate_python(row) for row in rows)
