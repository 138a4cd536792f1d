"""Compression: one technique a file; a chain of them is a list in the config.

To add one: write `tasks/compress/NAME.py` with a frozen Section that has `kind`, `consumes`, `produces` and `run`,
and name it in `Technique` below. The contract test takes it from there.
"""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from tasks.compress.distil import Distil
from tasks.compress.export import Export
from tasks.compress.prune_vocabulary import PruneVocabulary
from tasks.compress.quantize import Quantize

Technique = Annotated[PruneVocabulary | Distil | Export | Quantize, Field(discriminator="kind")]


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
    if have != "onnx":
        raise ValueError(f"compress: expected a chain that ends in onnx, got {have}; add {{kind: export}} at its end")
