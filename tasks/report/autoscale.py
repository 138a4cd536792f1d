"""The page of a simulated day: traffic, replicas and late answers over time, and a row for each policy."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from tasks.report import charts
from tasks.report.page import write_page
from tasks.report.theme import LIGHT, milliseconds, percent, seconds, significant

COLOURS = ("candidate", "teacher", "good", "bad", "step")
MINUTES_AN_HOUR = 60


def write_autoscale_report(result: Mapping[str, Any], path: Path) -> Path:
    """Write the page of what `retort autoscale` found, and return its path."""
    allowed = 1 - result["latency_share"]
    rows = [
        {
            "policy": row["policy"],
            "tone": "good" if row["met"] else "bad",
            "answer": "✓ kept" if row["met"] else "✗ missed",
            "replicas": f"{row['mean_replicas']:.2f}",
            "most": str(row["most_replicas"]),
            "changes": f"{row['num_changes']:,}",
            "core_hours": significant(row["core_hours"]),
            "cost": f"{row['cost_per_million']:.4f}",
            "late": percent(row["slow_share"], 3),
            "refused": f"{row['refused']:,.0f}",
            "bad_minutes": f"{row['bad_minutes']:,}",
        }
        for row in result["policies"]
    ]
    view = {
        "result": result,
        "allowed": percent(allowed, 2),
        "promised": percent(result["latency_share"], 2),
        "latency": milliseconds(result["latency_ms"]),
        "startup": seconds(result["startup_s"]),
        "num_requests": f"{result['num_requests']:,.0f}",
        "mean": significant(result["mean_per_s"]),
        "busiest": significant(result["busiest_per_s"]),
        "pod": significant(result["pod_good_per_s"]),
        "foreseen": significant(result["foreseen_core_hours"]),
        "created_at": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "rows": rows,
        "chart": charts.inline(day_figure(result), "day"),
    }
    return write_page("autoscale.html", view, path)


def day_figure(result: Mapping[str, Any]) -> Figure:
    """Traffic, replicas of each policy, and the share of late answers by minute, one below the other."""
    with matplotlib.rc_context(charts.STYLE):
        figure = Figure(figsize=(9, 6.4), layout="constrained")
        traffic, replicas, late = (figure.add_subplot(3, 1, at + 1) for at in range(3))
        per_s = np.asarray(result["per_s_by_minute"])
        hours = np.arange(len(per_s)) / MINUTES_AN_HOUR
        traffic.fill_between(hours, per_s, color=LIGHT["step"], alpha=0.5, linewidth=0)
        traffic.set_ylabel("requests a second")
        for at, row in enumerate(result["policies"]):
            width = 1.2 + 0.8 * (len(result["policies"]) - 1 - at)  # one that another covers shows on both sides of it
            look = {"color": LIGHT[COLOURS[at % len(COLOURS)]], "linewidth": width, "label": row["policy"]}
            replicas.step(hours, row["replicas_by_minute"], where="post", **look)
            share = np.asarray(row["slow_by_minute"]) / np.maximum(per_s * 60, 1)
            late.plot(hours, np.minimum(100 * share, 100), **look)
        replicas.set_ylabel("replicas, paid")
        _draw_limit(late, 100 * (1 - result["latency_share"]))
        replicas.legend(frameon=False, fontsize=8, ncols=4, loc="upper left")
        for axes in (traffic, replicas, late):
            axes.set_xlim(0, hours[-1])
            axes.set_ylim(bottom=0)
            axes.grid(True)
        late.set_xlabel("hours since the start")
    return figure


def _draw_limit(axes: Axes, allowed: float) -> None:
    axes.axhline(allowed, color=LIGHT["muted"], linewidth=1, linestyle="--")
    axes.set_yscale("symlog", linthresh=allowed)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_ylabel("late, % of a minute (symlog)")
