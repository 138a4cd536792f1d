"""What a benchmark of serving has measured, as one picture: a panel for each part."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from tasks.report.charts import STYLE
from tasks.report.theme import LIGHT

COLOURS = ("candidate", "teacher", "good", "bad", "muted", "ink")
"""The service has the first, its peers the others, in the order of the measurement."""
PANEL_INCHES = (4.6, 3.4)
COLUMNS = 2


def draw_serving(details: Mapping[str, Any], path: Path) -> None:
    """Rates of the closed loop, rates answered in time, batching's curve, memory by time, as far as they are there."""
    with matplotlib.rc_context(STYLE):
        panels = [("closed", details["closed"])] if "closed" in details else []
        panels += list(details.get("open", {}).items())
        panels += [(name, details[name]) for name in ("batching", "soak") if name in details]
        columns = min(COLUMNS, max(1, len(panels)))
        rows = max(1, -(-len(panels) // columns))
        figure = Figure(figsize=(PANEL_INCHES[0] * columns, PANEL_INCHES[1] * rows), layout="constrained")
        for at, (name, found) in enumerate(panels):
            draw = DRAWN_BY.get(name, draw_probes)
            draw(figure.add_subplot(rows, columns, at + 1), found)
            figure.axes[-1].set_title(_title(name), loc="left", fontsize=10.5, color=LIGHT["muted"])
        figure.savefig(path, dpi=150)


def draw_rates(axes: Axes, closed: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    """A bar for each system, the repeats on it."""
    for at, (name, repeats) in enumerate(reversed(list(closed.items()))):
        per_s = [repeat["per_s"] for repeat in repeats]
        median = float(np.median(per_s))
        axes.barh(name, median, color=_colour(len(closed) - 1 - at), height=0.62, alpha=0.85)
        axes.plot(per_s, [at] * len(per_s), "|", color=LIGHT["ink"], markersize=9)
    axes.set_xlabel("answers a second, median and repeats")


def draw_probes(axes: Axes, probes: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    """A line of dots for each system: the rates that were tried, filled where the answers came in time."""
    for at, (name, tried) in enumerate(reversed(list(probes.items()))):
        colour = _colour(len(probes) - 1 - at)
        for probe in tried:
            face = colour if probe["passed"] else "none"
            axes.plot(probe["rate"], name, "o", color=colour, markerfacecolor=face, markersize=6, alpha=0.85)
    axes.set_xlim(left=0)
    axes.margins(y=0.12)
    axes.set_xlabel("requests/s offered; filled: in time")
    axes.grid(True, axis="x")


def draw_batching(axes: Axes, batching: Mapping[str, Any]) -> None:
    """Texts a second against the padded tokens of a batch, and without batching."""
    budgets, per_s = zip(*batching["per_s"], strict=True)
    axes.plot(budgets, per_s, "o-", color=LIGHT["candidate"], markersize=4, linewidth=1.4, label="similar lengths")
    axes.axhline(batching["none_per_s"], color=LIGHT["muted"], linewidth=1, linestyle="--", label="no batching")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("tokens of a batch, padding included (log)")
    axes.set_ylabel("texts a second, one thread")
    axes.grid(True)
    axes.legend(frameon=False, fontsize=8)


def draw_memory(axes: Axes, slices: Sequence[Mapping[str, float]]) -> None:
    """Resident memory after each minute of half load."""
    minutes = range(1, len(slices) + 1)
    axes.plot(minutes, [one["resident_mb"] for one in slices], color=LIGHT["candidate"], linewidth=1.4)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("minutes")
    axes.set_ylabel("resident memory, MB")
    axes.grid(True)


DRAWN_BY: Mapping[str, Callable[[Axes, Any], None]] = {
    "closed": draw_rates,
    "batching": draw_batching,
    "soak": draw_memory,
}


def _colour(at: int) -> str:
    return LIGHT[COLOURS[at % len(COLOURS)]]


def _title(name: str) -> str:
    titles = {"closed": "32 connections", "batching": "Batching in process", "soak": "Half load"}
    return titles.get(name, f"Open loop, {name}")
