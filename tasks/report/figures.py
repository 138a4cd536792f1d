"""Figures of one model's answers for the report and the MLflow run: where it errs, and whether it can be believed.

Shapes: C classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from tasks.report import charts
from tasks.report.theme import LIGHT

MOST_CLASSES = 30
MOST_WRITTEN = 12
MOST_NAMED = 5
LEAST_TINT = 0.18
"""Opacity of a cell that holds a single row of many; less would not be seen."""
MODELS = ("teacher", "candidate")


def confusion_figure(counts_CC: Any, labels: Sequence[str]) -> Figure:
    """Confusion matrix, rows true and columns predicted, tinted by the share of the true class; errors in red.

    Of many classes it shows the `MOST_CLASSES` with the most errors, since a matrix of all of them cannot be read.
    """
    counts_CC = np.asarray(counts_CC)
    shown = _most_confused(counts_CC, MOST_CLASSES)
    shares_CC = (counts_CC / np.maximum(counts_CC.sum(axis=1, keepdims=True), 1))[np.ix_(shown, shown)]
    names = [_cut(labels[at]) for at in shown]
    side = 2.6 + 0.19 * len(shown)
    with matplotlib.rc_context(charts.STYLE):
        figure = Figure(figsize=(side + 0.4, side), dpi=110, layout="constrained", facecolor=LIGHT["paper"])
        axes = figure.add_subplot()
        for (row, column), share in np.ndenumerate(shares_CC):
            if share > 0:
                colour = LIGHT["candidate" if row == column else "bad"]
                tint = LEAST_TINT + (1 - LEAST_TINT) * share
                axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, color=colour, alpha=tint, linewidth=0))
        axes.set_xlim(-0.5, len(shown) - 0.5)
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_aspect("equal")
        axes.set_xticks(range(len(shown)), names, rotation=90, fontsize=7)
        axes.set_yticks(range(len(shown)), names, fontsize=7)
        axes.grid(True, alpha=0.6)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        if len(shown) <= MOST_WRITTEN:
            for (row, column), count in np.ndenumerate(counts_CC[np.ix_(shown, shown)]):
                axes.text(column, row, f"{count:,}", ha="center", va="center", fontsize=7.5, color=LIGHT["ink"])
    return figure


def confusion_words(num_classes: int) -> str:
    """What the matrix shows, for its caption."""
    some = f"The {MOST_CLASSES} of {num_classes} classes with the most errors"
    return (
        f"{'All classes' if num_classes <= MOST_CLASSES else some}: rows are true, columns predicted. Blue is right, "
        "red is wrong; the stronger, the larger its share of the true class."
    )


def _most_confused(counts_CC: Any, most: int) -> list[int]:
    """Indices, in label order, of the classes with the most errors made on them or into them."""
    errors_CC = counts_CC - np.diag(np.diag(counts_CC))
    errors_C = errors_CC.sum(axis=0) + errors_CC.sum(axis=1)
    return sorted(int(at) for at in np.argsort(-errors_C, kind="stable")[:most])


def _cut(label: str, most: int = 28) -> str:
    return label if len(label) <= most else label[: most - 1] + "…"


def class_figure(per_class: Sequence[Mapping[str, Any]]) -> Figure:
    """F1 of every class, the candidate's against the teacher's; below the diagonal the candidate lost."""
    teacher_C = np.array([item["f1_teacher"] for item in per_class])
    candidate_C = np.array([item["f1_candidate"] for item in per_class])
    support_C = np.array([item["support"] for item in per_class])
    least = max(0.0, float(min(teacher_C.min(), candidate_C.min())) - 0.06)
    with matplotlib.rc_context(charts.STYLE):
        figure = Figure(figsize=(5.2, 3.9), dpi=110, layout="constrained", facecolor=LIGHT["paper"])
        axes = figure.add_subplot()
        axes.plot([least, 1], [least, 1], color=LIGHT["muted"], linewidth=0.8, linestyle="--")
        area_pt2 = 16 + 60 * support_C / max(1, support_C.max())
        lost_C = candidate_C < teacher_C
        for chosen_C, colour in ((~lost_C, "candidate"), (lost_C, "bad")):
            axes.scatter(
                teacher_C[chosen_C], candidate_C[chosen_C], s=area_pt2[chosen_C], color=LIGHT[colour], alpha=0.55,
                linewidths=0,
            )  # fmt: skip
        _name_losers(axes, teacher_C, candidate_C, [str(item["label"]) for item in per_class])
        axes.set_xlim(least, 1.02)
        axes.set_ylim(least, 1.02)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:.0f} %"))
        axes.grid(True)
        axes.set_xlabel("teacher's F1")
        axes.set_ylabel("candidate's F1")
    return figure


def _name_losers(axes: Any, teacher_C: Any, candidate_C: Any, labels: Sequence[str]) -> None:
    """Names of the classes that lost most, in the corner below the diagonal, each joined to its dot."""
    losers = [at for at in np.argsort(candidate_C - teacher_C, kind="stable") if candidate_C[at] < teacher_C[at]]
    for line, at in enumerate(sorted(losers[:MOST_NAMED], key=lambda at: -teacher_C[at])):
        axes.annotate(
            _cut(labels[at]), (teacher_C[at], candidate_C[at]), xytext=(0.99, 0.3 - 0.066 * line), fontsize=7.5,
            textcoords="axes fraction", ha="right", va="center", color=LIGHT["ink"],
            arrowprops={"arrowstyle": "-", "color": LIGHT["step"], "linewidth": 0.6, "shrinkA": 1, "shrinkB": 3,
                        "relpos": (0, 0.5)},
        )  # fmt: skip


def reliability_figure(curves: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Accuracy against confidence of teacher and candidate, and below it how many answers have that confidence.

    `curves` are those of `tasks.stats.calibration.reliability_curve` by model.
    """
    with matplotlib.rc_context(charts.STYLE):
        figure = Figure(figsize=(5.2, 4.4), dpi=110, layout="constrained", facecolor=LIGHT["paper"])
        axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        axes.plot([0, 1], [0, 1], color=LIGHT["muted"], linewidth=0.8, linestyle="--")
        for name in (name for name in MODELS if name in curves):
            found = curves[name]
            axes.plot(found["confidence"], found["accuracy"], "o-", color=LIGHT[name], markersize=4, label=name)
        rows = curves.get("candidate", {"confidence": [], "num_answers": []})
        below.bar(rows["confidence"], rows["num_answers"], width=0.025, color=LIGHT["candidate"])
        axes.legend(loc="upper left", frameon=False)
        axes.set_xlim(0, 1.02)
        axes.set_ylim(0, 1.02)
        axes.grid(True)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        below.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        below.yaxis.set_major_locator(MaxNLocator(2, integer=True))
        axes.set_ylabel("right answers")
        below.set_ylabel("answers")
        below.set_xlabel("mean confidence of the bin")
    return figure
