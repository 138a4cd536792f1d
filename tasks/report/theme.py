"""Colours and number formats that figures, pictures and pages share.

Figures are drawn once in the colours of `LIGHT`. In a page each of them becomes a CSS variable, so that the same
drawing follows the reader's light or dark scheme.
"""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tasks.metrics import CORRELATIONS

LIGHT = {
    "ink": "#1b1f24",
    "muted": "#5c6670",
    "rule": "#d5dae0",
    "teacher": "#8a5a00",
    "candidate": "#0b62c4",
    "floor": "#717a84",
    "step": "#7a8aa0",
    "good": "#1a7f37",
    "bad": "#c62b2b",
    "unsure": "#9a6700",
    "paper": "#ffffff",
}
DARK = {
    "ink": "#e8ebef",
    "muted": "#a2adb9",
    "rule": "#39414b",
    "teacher": "#e0ab4a",
    "candidate": "#6cb1ff",
    "floor": "#a3adb8",
    "step": "#8899b0",
    "good": "#57c774",
    "bad": "#ff7b72",
    "unsure": "#e3b341",
    "paper": "#15191e",
}

OUTCOMES = {
    "promoted": ("good", "Promoted", "The candidate passed every gate and its boot check, and serves as the champion."),
    "blocked": (
        "bad",
        "Blocked",
        "A gate, the boot check, an approver or an earlier rollback said no. The champion has not moved.",
    ),
    "inconclusive": ("unsure", "Inconclusive", "The evidence does not decide. The champion has not moved."),
    "awaiting_approval": ("unsure", "Awaiting approval", "Every gate passed. A person has yet to approve it."),
    "experiment": (
        "unsure",
        "On trial",
        "Every gate passed. It is tried on real traffic before it may be the champion.",
    ),
    "passed": ("good", "Gate passed", "The candidate passed every gate. It has not been released."),
    "failed": ("bad", "Failed", "The run did not finish. The champion has not moved."),
}
VERDICTS = {"pass": "good", "fail": "bad", "inconclusive": "unsure"}
SIGNS = {"pass": "✓", "fail": "✗", "inconclusive": "?"}
STATES = {
    "no_drift": ("good", "No drift", "The traffic looks like the reference. Nothing to do."),
    "mix_only": (
        "good",
        "Only the mix moved",
        "Some classes are more or less frequent: correct the prior, do not retrain.",
    ),
    "suspect": ("unsure", "Suspect", "The input changed. Whether it hurts is not known yet: label the audit queue."),
    "harm": ("bad", "Harm", "The model makes more errors than its baseline allows. Retrain."),
}

MISSING = "–"


def css_variables(colours: Mapping[str, str]) -> str:
    """`--ink: #1b1f24; ...` for a style sheet."""
    return " ".join(f"--{name}: {value};" for name, value in colours.items())


def follow_scheme(svg: str) -> str:
    """Replace the colours of `LIGHT` in a drawing by the page's CSS variables."""
    for name, value in LIGHT.items():
        svg = svg.replace(value, f"var(--{name})")
    return svg


def percent(value: Any, digits: int = 1) -> str:
    """A share as `92.4 %`."""
    return f"{value * 100:.{digits}f} %" if is_number(value) else MISSING


def size(size_bytes: Any) -> str:
    """Bytes as `7.3 MB` (10^6 bytes) or `412 kB`."""
    if not is_number(size_bytes):
        return MISSING
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 1e6 else f"{size_bytes / 1e3:.0f} kB"


def milliseconds(value: Any) -> str:
    """`0.35 ms`, `6.2 ms`, `120 ms`: three significant digits at most."""
    return f"{significant(value)} ms" if is_number(value) else MISSING


def seconds(value: Any) -> str:
    """`0.2 s`, `41 s`, `3 min 20 s`."""
    if not is_number(value):
        return MISSING
    if value < 120:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    return f"{int(value // 60)} min {int(value % 60):02d} s"


def times(value: Any) -> str:
    """A ratio as `12x` or `1.8x`."""
    return f"{value:.0f}×" if is_number(value) and value >= 10 else f"{value:.1f}×" if is_number(value) else MISSING


def compared(ratio: float, better: str, worse: str) -> str:
    """`12× smaller`, or `1.3× larger` where the ratio is below one."""
    if 0.995 <= ratio < 1.005:
        return "the same"
    return f"{times(ratio)} {better}" if ratio > 1 else f"{times(1 / ratio)} {worse}"


def points(share: float) -> str:
    """A difference of shares as `−0.40 pt`."""
    return f"{share * 100:+.2f} pt".replace("-", "−")


def change_of_share(before: Any, after: Any) -> str:
    """The difference of two shares in percentage points, `-0.40 pt`."""
    return points(after - before) if is_number(before) and is_number(after) else MISSING


def measure(metric: str, value: Any, digits: int = 1) -> str:
    """A metric's value: a share as `92.4 %`, a correlation as `0.863`."""
    if metric in CORRELATIONS:
        return f"{value:.3f}".replace("-", "−") if is_number(value) else MISSING
    return percent(value, digits)


def change_of_measure(metric: str, before: Any, after: Any) -> str:
    """The difference of two values of a metric: in points, or of correlations as `−0.004`."""
    if metric in CORRELATIONS and is_number(before) and is_number(after):
        return f"{after - before:+.3f}".replace("-", "−")
    return change_of_share(before, after)


def readable_time(iso: Any) -> str:
    """`2026-11-24 01:00 UTC` from an ISO 8601 time; anything else as it is."""
    if not iso:
        return ""
    try:
        time = datetime.fromisoformat(str(iso))
    except ValueError:
        return str(iso)
    return f"{time:%Y-%m-%d %H:%M} {time.tzname() or ''}".strip()


def sentence(text: Any) -> str:
    """Words with a capital in front and a full stop behind."""
    words = str(text)
    return f"{words[:1].upper()}{words[1:]}{'.' if words and words[-1] not in '.!?' else ''}"


def significant(value: Any) -> str:
    """A plain number in three significant digits, thousands grouped."""
    if not is_number(value):
        return MISSING
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def is_number(value: Any) -> bool:
    """Whether `value` is a finite int or float; booleans and None are not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def in_gate_unit(gate: str, value: Any) -> str:
    """A gate's observed value or limit in the unit that its name tells."""
    if not is_number(value):
        return MISSING
    if gate.endswith("_ms") or "latency" in gate:
        return milliseconds(value)
    if gate.endswith("_mb") or "size" in gate:
        return f"{significant(value)} MB"
    if gate == "holdout_uses":
        return f"{value:,.0f}"
    if any(word in gate for word in ("accuracy", "f1", "flip", "superiority", "calibration", "unknown", "behaviour")):
        return points(value) if "_vs_" in gate or value < 0 else percent(value, 2)
    return significant(value)
