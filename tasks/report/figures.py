"""Figures of one model's answers for the MLflow run: where it errs, and whether its probabilities can be believed.

Shapes: N rows, C classes.
"""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from tasks.analysis.flips import confusion_counts
from tasks.report.charts import STYLE
from tasks.report.theme import LIGHT
from tasks.types import Predictions

MOST_CLASSES = 30
MOST_WRITTEN = 12
NUM_BINS = 15


def confusion_figure(predictions: Predictions, labels: Sequence[str]) -> Figure:
    """Confusion matrix, rows true and columns predicted, as shares of the true class.

    Of many classes it shows the `MOST_CLASSES` with the most errors, since a matrix of all of them cannot be read.
    """
    counts_CC = confusion_counts(predictions, len(labels))
    shown = _most_confused(counts_CC, MOST_CLASSES)
    shares_CC = (counts_CC / np.maximum(counts_CC.sum(axis=1, keepdims=True), 1))[np.ix_(shown, shown)]
    names = [_cut(labels[at]) for at in shown]
    side = 3.2 + 0.24 * len(shown)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(side + 0.8, side), dpi=110, layout="constrained", facecolor=LIGHT["paper"])
        axes = figure.add_subplot()
        image = axes.imshow(shares_CC, cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(shown)), names, rotation=90, fontsize=7.5)
        axes.set_yticks(range(len(shown)), names, fontsize=7.5)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        some = (
            f"the {len(shown)} of {len(labels)} classes with the most errors"
            if len(shown) < len(labels)
            else "all classes"
        )
        axes.set_title(f"Share of the true class, {some}", fontsize=9.5, loc="left")
        if len(shown) <= MOST_WRITTEN:
            _write_counts(axes, counts_CC[np.ix_(shown, shown)], shares_CC)
        figure.colorbar(image, ax=axes, shrink=0.6)
    return figure


def _most_confused(counts_CC: Any, most: int) -> list[int]:
    """Indices, in label order, of the classes with the most errors made on them or into them."""
    errors_CC = counts_CC - np.diag(np.diag(counts_CC))
    errors_C = errors_CC.sum(axis=0) + errors_CC.sum(axis=1)
    return sorted(int(at) for at in np.argsort(-errors_C, kind="stable")[:most])


def _write_counts(axes: Any, counts_CC: Any, shares_CC: Any) -> None:
    for (row, column), count in np.ndenumerate(counts_CC):
        colour = LIGHT["paper"] if shares_CC[row, column] > 0.6 else LIGHT["ink"]
        axes.text(column, row, f"{count:,}", ha="center", va="center", fontsize=7.5, color=colour)


def _cut(label: str) -> str:
    return label if len(label) <= 28 else label[:27] + "…"


def reliability_figure(predictions: Predictions) -> Figure:
    """Accuracy against confidence in bins of equal count, with the expected calibration error (Naeini et al. 2015)."""
    confidence_N = predictions.probabilities_NC.max(axis=1)
    order = np.argsort(confidence_N, kind="stable")
    bins = [rows for rows in np.array_split(order, min(NUM_BINS, max(1, len(order)))) if len(rows)]
    confidence = np.array([confidence_N[rows].mean() for rows in bins])
    accuracy = np.array([predictions.correct_N[rows].mean() for rows in bins])
    weight = np.array([len(rows) for rows in bins]) / max(1, len(order))
    ece = float((weight * np.abs(confidence - accuracy)).sum())
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5, 4.6), dpi=110, layout="constrained", facecolor=LIGHT["paper"])
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=LIGHT["muted"], linewidth=0.8, linestyle="--")
        axes.plot(confidence, accuracy, "o-", color=LIGHT["candidate"], markersize=4.5, linewidth=1.2)
        axes.set_xlim(0, 1.01)
        axes.set_ylim(0, 1.01)
        axes.grid(True)
        axes.set_xlabel("mean confidence of the bin")
        axes.set_ylabel("accuracy of the bin")
        axes.set_title(f"Calibration: ECE {ece:.4f} over {len(bins)} bins of equal count", fontsize=9.5, loc="left")
    return figure
