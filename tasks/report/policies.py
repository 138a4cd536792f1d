"""What the loop's benchmark found, as one page: its table, accuracy over time on each stream, and what policies cost.

Shapes: T looks.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from tasks.report.charts import STYLE, inline
from tasks.report.page import write_page
from tasks.report.theme import LIGHT, significant

Records = Sequence[Mapping[str, Any]]

DRAWN = {"Retort": "candidate", "never": "muted", "MMD p < .05": "unsure", "oracle in hindsight": "good"}
"""Policies whose accuracy is drawn, with their colours: more would hide each other."""
SMOOTHED = 5
"""Looks that a point of the accuracy averages."""
QUIET = ("none", "no_drift", "retrain")
COSTS = {"errors": "bad", "labels": "unsure", "retrains": "candidate"}


def write_policies_report(found: Mapping[str, Any], path: Path) -> Path:
    """`found` has title, rows of the table, and a record for each stream, seed and policy, with its costs."""
    streams = _first_seeds(found["records"])
    charts = [
        {"name": name, "chart": inline(stream_figure(records), f"stream{at}")}
        for at, (name, records) in enumerate(streams.items())
    ]
    costs = inline(cost_figure(found["records"]), "costs") if found["records"] else None
    rows = [row | {"shown": f"{significant(row['value'])} {row['unit']}".strip() if row["value"] is not None else "–"}
            for row in found["rows"]]  # fmt: skip
    created_at = datetime.now(UTC).isoformat(timespec="seconds")
    view = {"title": found["title"], "rows": rows, "charts": charts, "costs": costs, "created_at": created_at}
    return write_page("policies.html", view, path)


def _first_seeds(records: Records) -> dict[str, list[Mapping[str, Any]]]:
    """For each stream the records of one seed."""
    streams: dict[str, list[Mapping[str, Any]]] = {}
    for one in records:
        own = streams.setdefault(one["stream"], [])
        if not own or own[0]["seed"] == one["seed"]:
            own.append(one)
    return streams


def stream_figure(records: Records) -> Figure:
    """Accuracy over time of some policies on one stream, their retrains as triangles, Retort's alarms below."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 3.0), layout="constrained")
        axes = figure.add_subplot()
        for one in records:
            if one["policy"] in DRAWN:
                _draw_accuracy(axes, one)
        _draw_alarms(axes, next(one for one in records if one["policy"] == "Retort"))
        if records[0]["change"] is not None:
            axes.axvline(records[0]["change"], color=LIGHT["ink"], linewidth=1, linestyle=":")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:.0f} %"))
        axes.set_xlabel("requests")
        axes.set_ylabel(f"accuracy, mean of {SMOOTHED} looks")
        axes.grid(True)
        axes.legend(frameon=False, fontsize=7.5, ncols=2)
    return figure


def _draw_accuracy(axes: Axes, record: Mapping[str, Any]) -> None:
    colour = LIGHT[DRAWN[record["policy"]]]
    right_T = 1 - np.array(record["errors"]) / record["step"]
    first_T = np.maximum(np.arange(len(right_T)) - SMOOTHED + 1, 0)
    total_T = np.concatenate([[0.0], np.cumsum(right_T)])
    mean_T = np.array([(total_T[at + 1] - total_T[first]) / (at + 1 - first) for at, first in enumerate(first_T)])
    axes.plot(
        (np.arange(len(mean_T)) + 1) * record["step"], mean_T, color=colour, linewidth=1.3, label=record["policy"]
    )
    marks = [look for look in record["retrains"] if look <= len(mean_T)]
    axes.plot([look * record["step"] for look in marks], mean_T[[look - 1 for look in marks]], "^", color=colour)


def _draw_alarms(axes: Axes, record: Mapping[str, Any]) -> None:
    """Ticks at the foot of the chart where Retort called the input changed."""
    looks = [at + 1 for at, state in enumerate(record["states"]) if state not in QUIET]
    axes.plot(
        [look * record["step"] for look in looks], [0.02] * len(looks), "|", color=LIGHT["unsure"], markersize=7,
        transform=axes.get_xaxis_transform(), label="Retort: mix or suspect",
    )  # fmt: skip


def cost_figure(records: Records) -> Figure:
    """A bar for each policy: wrong answers, labels and retrains, all in wrong answers per 1,000 requests."""
    names = sorted({one["policy"] for one in records}, key=lambda name: -_total(records, name))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 0.32 * len(names) + 1.0), layout="constrained")
        axes = figure.add_subplot()
        left = np.zeros(len(names))
        for part, colour in COSTS.items():
            widths = np.array([_mean_cost(records, name, part) for name in names])
            axes.barh(names, widths, left=left, color=LIGHT[colour], height=0.62, label=part, alpha=0.85)
            left += widths
        axes.set_xlabel("cost in wrong answers per 1,000 requests, mean of all streams")
        axes.legend(frameon=False, fontsize=8)
    return figure


def _total(records: Records, policy: str) -> float:
    return sum(_mean_cost(records, policy, part) for part in COSTS)


def _mean_cost(records: Records, policy: str, part: str) -> float:
    own = [one for one in records if one["policy"] == policy]
    return float(np.mean([1_000 * one["costs"][part] / (len(one["errors"]) * one["step"]) for one in own]))
