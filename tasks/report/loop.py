"""What a loop was good for: accuracy over time of the model that was kept good, and of the same one left alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from tasks.report import charts
from tasks.report.page import write_page
from tasks.report.theme import LIGHT, percent, readable_time

REPORT_FILE, PICTURE_FILE = "report.html", "accuracy.png"
WINDOW = 150
"""Requests that one point of a line is the mean of."""


def write_loop_report(story: Mapping[str, Any], folder: Path) -> Path:
    """Write `report.html` and `accuracy.png` to `folder`; returns the page.

    `story` has `name`, `created_at` (ISO 8601), `seconds`, `num_failed`, `with_retort` and `left_alone` (one bool a
    request: was it right),
    `versions` (what answered it), and `marks` (`at`, the number of requests before; `kind`; `text`; `tone`).
    """
    figure = loop_figure(story)
    with matplotlib.rc_context(charts.STYLE):
        figure.savefig(folder / PICTURE_FILE, dpi=150)
    return write_page("loop.html", _view(story, figure), folder / REPORT_FILE)


def loop_figure(story: Mapping[str, Any]) -> Figure:
    """Two lines over the requests, what kind of traffic it was above them, and where versions took over."""
    with matplotlib.rc_context(charts.STYLE):
        figure = Figure(figsize=(9.6, 4.2), dpi=110, layout="constrained", facecolor=LIGHT["paper"])
        axes = figure.add_subplot()
        for key, name, colour in (
            ("left_alone", "left alone", "muted"),
            ("with_retort", "kept good by Retort", "candidate"),
        ):
            centre_N, mean_N = rolling_mean(story[key], WINDOW)
            axes.plot(centre_N, mean_N, color=LIGHT[colour], linewidth=2, label=name)
        _draw_phases(axes, story)
        _draw_versions(axes, story["versions"])
        axes.set_yticks(np.arange(0, 1.01, 0.1))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set_xlim(0, len(story["versions"]))
        axes.set_xlabel(f"requests; each point is the mean of {WINDOW}")
        axes.set_ylabel("accuracy")
        axes.grid(True)
        axes.legend(frameon=False, loc="lower left")
        for text in axes.texts:
            text.set_in_layout(False)
    return figure


def rolling_mean(right: Sequence[bool], window: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean over `window` neighbours and the place of their middle; all of them where there are fewer."""
    right_N = np.asarray(right, dtype=np.float64)
    size = max(1, min(window, len(right_N)))
    mean_N = np.convolve(right_N, np.full(size, 1 / size), mode="valid")
    return np.arange(len(mean_N), dtype=np.float64) + size / 2, np.asarray(mean_N, dtype=np.float64)


def _draw_phases(axes: Axes, story: Mapping[str, Any]) -> None:
    low, high = axes.dataLim.intervaly
    axes.set_ylim(low - 0.05, high + 0.16 * max(high - low, 0.2))
    phases = [mark for mark in story["marks"] if mark["kind"] == "phase"]
    ends = [*(mark["at"] for mark in phases[1:]), len(story["versions"])]
    for at, (mark, end) in enumerate(zip(phases, ends, strict=True)):
        axes.axvspan(mark["at"], end, color=LIGHT["rule"], alpha=0.45 if at % 2 else 0.15, linewidth=0)
        place = 0.98 if at % 2 == 0 else 0.92
        axes.text(
            (mark["at"] + end) / 2, place, mark["text"], transform=axes.get_xaxis_transform(), ha="center", va="top",
            fontsize=8, color=LIGHT["muted"],
        )  # fmt: skip


def _draw_versions(axes: Axes, versions: Sequence[str]) -> None:
    """A line where another version than before begins to answer."""
    newest = versions[0] if versions else None
    seen = {newest}
    for at, version in enumerate(versions):
        if version not in seen:
            seen.add(version)
            axes.axvline(at, color=LIGHT["good"], linewidth=1.2, linestyle="--")
            axes.text(
                at, 0.04, f" version {version}", transform=axes.get_xaxis_transform(), fontsize=8, color=LIGHT["good"]
            )


def _view(story: Mapping[str, Any], figure: Figure) -> dict[str, Any]:
    last = slice(-WINDOW, None)
    kept, alone = (float(np.mean(story[key])) for key in ("with_retort", "left_alone"))
    late = [float(np.mean(story[key][last])) for key in ("with_retort", "left_alone")]
    return {
        "name": story["name"],
        "created_at": readable_time(story["created_at"]),
        "figure": charts.inline(figure, "loop"),
        "facts": [
            {"value": f"{len(story['versions']):,}", "label": "requests"},
            {"value": f"{story['num_failed']:,}", "label": "of them failed"},
            {"value": percent(kept), "label": "right, kept good"},
            {"value": percent(alone), "label": "right, left alone"},
            {"value": percent(late[0]), "label": f"of the last {WINDOW}, kept good"},
            {"value": percent(late[1]), "label": f"of the last {WINDOW}, left alone"},
            {"value": f"{story['seconds'] / 60:.1f} min", "label": "for all of it"},
        ],
        "marks": story["marks"],
    }
