"""`retort bench attention`: full attention against Linformer's from 128 to 4,096 tokens, in time and memory.

Weights are random and no data is read: both depend on the sizes alone.
"""

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bento.predictor import open_session
from flows.bench import row
from flows.config import Config
from tasks.attention_speed import median_ms, peak_bytes
from tasks.compress.linformer import Linformer, write_fused

LENGTHS = (128, 256, 512, 1024, 2048, 4096)
SHORT = (16, 32, 64)
"""Timed besides, since the crossing may lie below the others."""
NUM_FITTED = 3
"""The exponents are fitted on this many of the greatest lengths, where what grows fastest shows."""
MINILM = {"num_hidden_layers": 6, "hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536}
VOCABULARY = 1_000
TIMING_S = 75.0
LINEAR = 1.2
"""Exponent up to which time and memory count as linear."""
QUADRATIC = 1.5


@dataclass(frozen=True, kw_only=True)
class Curves:
    """What each attention needs at each length, in rising order."""

    ms: Mapping[str, Mapping[int, float]]
    """Attention -> number of tokens -> milliseconds of one text."""
    mb: Mapping[str, Mapping[int, float]]
    """Attention -> number of tokens -> megabytes at the peak."""


def bench_attention(chosen: Config) -> dict[str, Any]:
    """One text of each length through MiniLM's geometry, float32, one thread; Linformer as `chosen` sets it."""
    found = [one for one in chosen.compress if isinstance(one, Linformer)]
    settings = found[0] if found else Linformer()
    with tempfile.TemporaryDirectory() as folder:
        models = write_models(settings, Path(folder), longest=max(LENGTHS), sizes=MINILM)
        curves = measure(models, timed=(*SHORT, *LENGTHS), weighed=LENGTHS, budget_s=TIMING_S)
    return {"title": _title(settings), "rows": rows(curves)}


def write_models(settings: Linformer, folder: Path, *, longest: int, sizes: Mapping[str, int]) -> dict[str, Path]:
    """Fused ONNX files of the same BERT with `full` and with `linformer` attention."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    from tasks.linformer_model import to_linformer

    torch.manual_seed(0)
    full = BertForSequenceClassification(
        BertConfig(vocab_size=VOCABULARY, max_position_embeddings=longest, **sizes)
    ).eval()
    student = to_linformer(full, projected_length=settings.projected_length, sharing=settings.sharing, longest=longest)
    return {"full": write_fused(full, folder / "full"), "linformer": write_fused(student, folder / "linformer")}


def measure(models: Mapping[str, Path], *, timed: Sequence[int], weighed: Sequence[int], budget_s: float) -> Curves:
    """Times in turns in this process, and the memory of each length and model in a process of its own."""
    sessions = {name: open_session(path, threads=1) for name, path in models.items()}
    ms = median_ms(sessions, timed, budget_s=budget_s)
    return Curves(
        ms={name: dict(zip(timed, values, strict=True)) for name, values in ms.items()},
        mb={name: {length: peak_bytes(path, length) / 1e6 for length in weighed} for name, path in models.items()},
    )


def rows(curves: Curves) -> list[dict[str, Any]]:
    """Each length, the exponents, and from which length on Linformer is faster."""
    lengths = list(curves.mb["full"])
    found = [_length_row("time", curves.ms, "ms", length) for length in lengths]
    found += [_length_row("memory", curves.mb, "MB", length) for length in lengths]
    found += [*_exponent_rows("time", curves.ms), *_exponent_rows("memory", curves.mb)]
    return [*found, _crossing_row(curves.ms)]


def exponent(values: Mapping[int, float]) -> float:
    """Slope of log(value) on log(length) over the greatest lengths: 1 in proportion to it, 2 with its square."""
    fitted = sorted(values)[-NUM_FITTED:]
    return float(np.polyfit(np.log(fitted), np.log([values[length] for length in fitted]), 1)[0])


def crossing(full: Mapping[int, float], other: Mapping[int, float]) -> float | None:
    """The length from which on `other` takes less than `full` at every measured one; None where it never does.

    Between two lengths the logarithm of the ratio is taken to be linear in that of the length.
    """
    lengths = sorted(full)
    gain = [math.log(full[length] / other[length]) for length in lengths]
    last = max((at for at, value in enumerate(gain) if value <= 0), default=-1)
    if last == len(lengths) - 1:
        return None
    if last == -1:
        return float(lengths[0])
    share = -gain[last] / (gain[last + 1] - gain[last])
    return float(lengths[last] * (lengths[last + 1] / lengths[last]) ** share)


def _title(settings: Linformer) -> str:
    return (
        f"Attention: Linformer with {settings.projected_length} slots, {settings.sharing}, against full attention; "
        f"{MINILM['num_hidden_layers']} layers of {MINILM['hidden_size']}, float32, one thread"
    )


def _length_row(what: str, values: Mapping[str, Mapping[int, float]], unit: str, length: int) -> dict[str, Any]:
    full, other = values["full"][length], values["linformer"][length]
    return row(f"{what}, {length:,} tokens", other, unit, f"full attention: {full:,.4g} {unit}", full / other)


def _exponent_rows(what: str, values: Mapping[str, Mapping[int, float]]) -> list[dict[str, Any]]:
    full, other = exponent(values["full"]), exponent(values["linformer"])
    fitted = sorted(values["full"])[-NUM_FITTED:]
    span = f"{fitted[0]:,} to {fitted[-1]:,} tokens"
    return [
        row(f"exponent of {what}, Linformer", other, "", span, target=f"<= {LINEAR:g}", met=other <= LINEAR),
        row(f"exponent of {what}, full attention", full, "", span, target=f">= {QUADRATIC:g}", met=full >= QUADRATIC),
    ]


def _crossing_row(ms: Mapping[str, Mapping[int, float]]) -> dict[str, Any]:
    found, lengths = crossing(ms["full"], ms["linformer"]), sorted(ms["full"])
    told = {None: f"never up to {lengths[-1]:,}", float(lengths[0]): "the shortest timed; the crossing is below"}
    return row(
        "Linformer is faster from", found, "tokens", told.get(found, "interpolated"), target=f"<= {lengths[-1]:,}",
        met=found is not None,
    )  # fmt: skip
