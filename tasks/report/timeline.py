"""The looks at one model over time: evidence of drift and of harm, audited accuracy, and the budget spent."""

import base64
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from tasks.report import charts
from tasks.report.theme import LIGHT, STATES

Look = Mapping[str, Any]
SMALLEST_P = 1e-5
SMALLEST_E = 0.1
NUM_TICKS = 6
MARKS: Mapping[str, tuple[str, str, Any]] = {
    "retrain": ("retrain asked for", "bad", (0, (4, 2))),
    "correct_prior": ("correction asked for", "unsure", (0, (4, 2))),
    "promote": ("promoted", "good", "solid"),
    "rollback": ("rolled back", "bad", "solid"),
}
"""Kind of a mark -> its words, colour and line."""


def timeline_figure(looks: Sequence[Look], marks: Sequence[Mapping[str, Any]] = ()) -> Figure:
    """Four charts over the looks, oldest first as they were stored, each with `spent`, its share of the false alarms.

    `marks` (each `at` in seconds, `kind` of `MARKS`, `text`) are vertical lines between the looks.
    """
    with matplotlib.rc_context(charts.STYLE):
        figure = Figure(figsize=(8.6, 5.4), dpi=110, layout="constrained", facecolor=LIGHT["paper"])
        panels = figure.subplots(2, 2, sharex=True)
        drawn = (_draw_drift, _draw_accuracy, _draw_process, _draw_budget)
        for axes, draw in zip(panels.flat, drawn, strict=True):
            draw(axes, looks)
            _draw_marks(axes, looks, marks)
            axes.grid(True, axis="y")
            axes.set_xlim(0.3, max(len(looks), 2) + 0.7)
        _name_marks(panels[0], looks, marks)
        for axes in panels[1]:
            _name_looks(axes, looks)
        figure.legend(handles=_legend(looks, marks), loc="outside lower center", ncols=4, frameon=False, fontsize=8.5)
    return figure


def _draw_drift(axes: Axes, looks: Sequence[Look]) -> None:
    axes.set_title("drift: smallest p of a look", loc="left")
    axes.set_yscale("log")
    axes.set_ylim(SMALLEST_P / 2, 2)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    for at, look in enumerate(looks, 1):
        drift = look["evidence"]["drift"]
        _draw_level(axes, at, drift["alpha"])
        if drift["tests"]:
            smallest = min(test["p_holm"] for test in drift["tests"].values())
            axes.plot(at, max(smallest, SMALLEST_P), "o", color=_colour(look), markersize=5)
    _explain(axes, "below its line: the input changed")


def _draw_accuracy(axes: Axes, looks: Sequence[Look]) -> None:
    axes.set_title("audited accuracy, 95 % interval", loc="left")
    for at, look in enumerate(looks, 1):
        harm = look["evidence"]["harm"]
        _draw_level(axes, at, harm["baseline_accuracy"] - harm["tolerance"])
        if harm["accuracy"]:
            value, low, high = (harm["accuracy"][key] for key in ("value", "low", "high"))
            axes.errorbar(at, value, [[value - low], [high - value]], fmt="o", color=_colour(look), markersize=5)
    axes.margins(y=0.2)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    _explain(axes, "line: the gate's less the tolerance")


def _draw_process(axes: Axes, looks: Sequence[Look]) -> None:
    axes.set_title("harm: evidence over time (e-CUSUM)", loc="left")
    axes.set_yscale("log")
    for at, look in enumerate(looks, 1):
        harm = look["evidence"]["harm"]
        if harm.get("e_level"):
            _draw_level(axes, at, harm["e_level"])
            axes.plot(at, max(harm["e_value"], SMALLEST_E), "o", color=_colour(look), markersize=5)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12g}"))
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, SMALLEST_E), max(high * 2, 10))
    _explain(axes, "above its line: harm")


def _draw_budget(axes: Axes, looks: Sequence[Look]) -> None:
    axes.set_title("chance of a false alarm so far, at most", loc="left")
    known = [(at, look["spent"], look["budget"]) for at, look in enumerate(looks, 1) if "spent" in look]
    for at, spent, budget in known:
        axes.bar(at, spent, width=0.8, color=LIGHT["step"])
        _draw_level(axes, at, budget)
    axes.set_ylim(0, 1.25 * max([0.01, *(max(spent, budget) for _, spent, budget in known)]))
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    _explain(axes, "line: the budget; a new champion begins anew", top=True)


def _draw_level(axes: Axes, at: int, value: float) -> None:
    axes.plot((at - 0.5, at + 0.5), (value, value), color=LIGHT["muted"], linewidth=1.2)


def _explain(axes: Axes, text: str, *, top: bool = False) -> None:
    axes.text(
        0.99, 0.97 if top else 0.03, text, transform=axes.transAxes, ha="right", va="top" if top else "bottom",
        fontsize=8, color=LIGHT["muted"],
    )  # fmt: skip


def place(at: float, looks: Sequence[Look]) -> float:
    """Where an event belongs on the axis of looks: between that before it and that after it."""
    return 0.5 + len([look for look in looks if look["at"] <= at])


def _draw_marks(axes: Axes, looks: Sequence[Look], marks: Sequence[Mapping[str, Any]]) -> None:
    for mark in marks:
        _, colour, style = MARKS[mark["kind"]]
        axes.axvline(place(mark["at"], looks), color=LIGHT[colour], linewidth=1.1, linestyle=style, zorder=0)


def _name_marks(panels: Sequence[Axes], looks: Sequence[Look], marks: Sequence[Mapping[str, Any]]) -> None:
    for axes in panels:
        for mark in marks:
            axes.annotate(
                mark["text"], (place(mark["at"], looks), 1), (2, -1), xycoords=("data", "axes fraction"), va="top",
                textcoords="offset points", fontsize=7.5, color=LIGHT[MARKS[mark["kind"]][1]],
            )  # fmt: skip


def _name_looks(axes: Axes, looks: Sequence[Look]) -> None:
    """A few looks by their time, in UTC."""
    axes.xaxis.set_major_locator(MaxNLocator(NUM_TICKS, integer=True))

    def name(value: float, _: int | None) -> str:
        if not 1 <= value <= len(looks):
            return ""
        return f"{datetime.fromtimestamp(looks[round(value) - 1]['at'], UTC):%d %b\n%H:%M}"

    axes.xaxis.set_major_formatter(FuncFormatter(name))


def _legend(looks: Sequence[Look], marks: Sequence[Mapping[str, Any]]) -> list[Line2D]:
    """The states and marks that are drawn."""
    states = {look["state"]: None for look in looks}
    dots = [
        Line2D([], [], marker="o", linestyle="none", color=LIGHT[STATES[state][0]], label=STATES[state][1].lower())
        for state in states
    ]
    kinds = {mark["kind"]: None for mark in marks}
    lines = [Line2D([], [], color=LIGHT[MARKS[k][1]], linestyle=MARKS[k][2], label=MARKS[k][0]) for k in kinds]
    return [*dots, *lines]


def process_figure(harm: Mapping[str, Any]) -> Figure:
    """The e-CUSUM over the labels that it looks back on, and the level at which it alarms."""
    with matplotlib.rc_context(charts.STYLE):
        figure = Figure(figsize=(7.4, 2.6), layout="constrained")
        axes = figure.add_subplot()
        labels, values = zip(*harm["e_path"], strict=True)
        colour = LIGHT["bad" if "e_cusum" in harm["alarms"] else "candidate"]
        axes.plot(labels, [max(value, SMALLEST_E) for value in values], color=colour, linewidth=1.6)
        axes.axhline(harm["e_level"], color=LIGHT["muted"], linewidth=1, linestyle="--")
        axes.annotate(
            f"alarm: {harm['e_level']:,.0f}", (0, harm["e_level"]), (4, 3), textcoords="offset points",
            xycoords=("axes fraction", "data"), color=LIGHT["muted"],
        )  # fmt: skip
        axes.set_yscale("log")
        axes.set_ylim(SMALLEST_E, max(harm["e_level"], *values) * 4)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12g}"))
        axes.margins(x=0.02)
        axes.grid(True)
        axes.set_xlabel("audited labels, the oldest first")
        axes.set_ylabel("evidence (e-value, log)")
    return figure


def _colour(look: Look) -> str:
    return LIGHT[STATES[look["state"]][0]]


def data_url(figure: Figure) -> str:
    """The drawing as a PNG inside its own address, for pages that can fetch nothing."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
