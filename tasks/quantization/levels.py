"""Precisions: how one weight is stored and multiplied, and the ladder that it climbs when accuracy asks for more."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Scheme = Literal["int8_dynamic", "int8_static", "weight_only", "float16"]
Activations = Literal["static", "dynamic", "float"]
Bits = Literal[4, 8, 16]


@dataclass(frozen=True, kw_only=True)
class Level:
    """The precision of one node or embedding table."""

    activations: Activations
    """`float` multiplies in float32; the others in 8 bits, with a range from calibration or from each run."""
    bits: Bits
    """Of a stored weight. Integer products unpack 4 bits to 8 when the model is loaded."""

    @property
    def name(self) -> str:
        """Such as int8_static, int4_dynamic, int8_weights or float16; what the manifest says."""
        if self.bits == 16:
            return "float16"
        return f"int{self.bits}_{'weights' if self.activations == 'float' else self.activations}"


FLOAT16 = Level(activations="float", bits=16)

Plan = Mapping[str, Level]
"""Node or table name -> its precision."""
Ladder = tuple[Level, ...]
"""Precisions from the smallest to the most exact."""


def node_ladder(scheme: Scheme, bits: Literal[4, 8], *, batch_invariant: bool) -> Ladder:
    """What a matrix product may be: more bits first, then ranges of each run, at last float.

    A batch-invariant model skips the ranges of each run, since those depend on the other rows.
    """
    if scheme == "float16":
        return (FLOAT16,)
    activations: Activations = {"int8_dynamic": "dynamic", "int8_static": "static", "weight_only": "float"}[scheme]  # type: ignore[assignment]
    widths: tuple[Literal[4, 8], ...] = (4, 8) if bits == 4 else (8,)
    rungs = [Level(activations=activations, bits=width) for width in widths]
    if activations == "static" and not batch_invariant:
        rungs.append(Level(activations="dynamic", bits=8))
    return (*rungs, FLOAT16)


def table_ladder(scheme: Scheme, bits: Literal[4, 8]) -> Ladder:
    """What an embedding table may be; a lookup has no activations."""
    if scheme == "float16":
        return (FLOAT16,)
    eight = Level(activations="float", bits=8)
    return (Level(activations="float", bits=4), eight, FLOAT16) if bits == 4 else (eight, FLOAT16)
