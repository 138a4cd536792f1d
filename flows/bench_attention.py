"""`retort bench attention`: full attention against Linformer's from 128 to 4,096 tokens, in time and memory.

Weights are random and no data is read: both depend on the sizes alone.
"""

import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bento.predictor import open_session
from flows.bench import row
from flows.config import Config
from tasks.attention_speed import median_ms, peak_bytes
from tasks.compress.linformer import Linformer, write_fused, write_int8

LENGTHS = (128, 256, 512, 1024, 2048, 4096)
SHORT = (16, 32, 64)
"""Timed besides, since the crossing may lie below the others."""
NUM_FITTED = 3
"""The exponents are fitted on this many of the greatest lengths, where what grows fastest shows."""
MINILM = {"num_hidden_layers": 6, "hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536}
VOCABULARY = 1_000
TIMING_S = 40.0
"""Of each precision."""
LINEAR = 1.3
"""Exponent up to which time and memory count as linear: a little above 1, since longer texts fill more of the slots."""
QUADRATIC = 1.5


Curves = Mapping[str, Mapping[int, float]]
"""Attention (`full`, `linformer`) -> number of tokens -> milliseconds, or megabytes."""


def bench_attention(chosen: Config) -> dict[str, Any]:
    """One text of each length through MiniLM's geometry, on one thread; Linformer as `chosen` sets it."""
    chain = chosen.compress if isinstance(chosen.compress, tuple) else ()
    found = [one for one in chain if isinstance(one, Linformer)]
    settings = found[0] if found else Linformer()
    with tempfile.TemporaryDirectory() as folder:
        floats = write_models(settings, Path(folder), longest=max(LENGTHS), sizes=MINILM)
        integers = {name: write_int8(path) for name, path in floats.items()}
        rows = [
            *time_rows("float32", time_models(floats, (*SHORT, *LENGTHS), budget_s=TIMING_S)),
            *time_rows("int8", time_models(integers, (*SHORT, *LENGTHS), budget_s=TIMING_S)),
            *memory_rows("float32", weigh_models(floats, LENGTHS)),
        ]
    return {"title": _title(settings), "rows": rows}


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


def time_models(models: Mapping[str, Path], lengths: Sequence[int], *, budget_s: float) -> Curves:
    """Milliseconds of one text, the models in turns."""
    sessions = {name: open_session(path, threads=1) for name, path in models.items()}
    ms = median_ms(sessions, lengths, budget_s=budget_s)
    return {name: dict(zip(lengths, values, strict=True)) for name, values in ms.items()}


def weigh_models(models: Mapping[str, Path], lengths: Sequence[int]) -> Curves:
    """Megabytes that one text needs at the peak, each length and model in a process of its own.

    0 where it fits into what the runtime had allocated for a text of a few tokens.
    """
    return {name: {length: peak_bytes(path, length) / 1e6 for length in lengths} for name, path in models.items()}


def time_rows(precision: str, ms: Curves) -> list[dict[str, Any]]:
    """Each of LENGTHS, the exponents, and from which length on Linformer is faster."""
    what = f"{precision} time"
    found = [_length_row(what, ms, "ms", length) for length in ms["full"] if length not in SHORT]
    return [*found, *_exponent_rows(what, ms), _crossing_row(precision, ms)]


def memory_rows(precision: str, mb: Curves) -> list[dict[str, Any]]:
    """Each length and the exponents."""
    what = f"{precision} memory"
    return [*(_length_row(what, mb, "MB", length) for length in mb["full"]), *_exponent_rows(what, mb)]


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
        f"{MINILM['num_hidden_layers']} layers of {MINILM['hidden_size']}, one thread"
    )


def _length_row(what: str, values: Curves, unit: str, length: int) -> dict[str, Any]:
    full, other = values["full"][length], values["linformer"][length]
    ratio = full / other if full > 0 and other > 0 else None
    return row(f"{what}, {length:,} tokens", other, unit, f"full attention: {full:,.4g} {unit}", ratio)


def _exponent_rows(what: str, values: Curves) -> list[dict[str, Any]]:
    full, other = exponent(values["full"]), exponent(values["linformer"])
    fitted = sorted(values["full"])[-NUM_FITTED:]
    span = f"{fitted[0]:,} to {fitted[-1]:,} tokens"
    return [
        row(f"exponent of {what}, Linformer", other, "", span, target=f"<= {LINEAR:g}", met=other <= LINEAR),
        row(f"exponent of {what}, full attention", full, "", span, target=f">= {QUADRATIC:g}", met=full >= QUADRATIC),
    ]


def _crossing_row(precision: str, ms: Curves) -> dict[str, Any]:
    found, lengths = crossing(ms["full"], ms["linformer"]), sorted(ms["full"])
    told = {None: f"never up to {lengths[-1]:,}", float(lengths[0]): "the shortest timed; the crossing is below"}
    return row(
        f"{precision}: Linformer is faster from", found, "tokens", told.get(found, "interpolated"),
        target=f"<= {lengths[-1]:,}", met=found is not None,
    )  # fmt: skip
