"""What the candidate lost and gained against its teacher, and which confusions cost most.

Shapes: N rows, C classes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.tables import Rows, shown
from tasks.types import Predictions, Split

FLIP_COLUMNS = (
    "flip", "id", "text", "label", "teacher", "teacher_probability", "candidate", "candidate_probability",
)  # fmt: skip
CONFUSION_COLUMNS = ("true", "predicted", "count", "teacher_count", "cost", "total_cost", "example")


def flips(test: Split, teacher: Predictions, candidate: Predictions, labels: tuple[str, ...]) -> Rows:
    """Rows that exactly one of the two gets right, `lost` before `gained`, each the most confident mistake first."""
    lost_N, gained_N = teacher.correct_N & ~candidate.correct_N, ~teacher.correct_N & candidate.correct_N
    rows = []
    for flip, members_N, mistaken in (("lost", lost_N, candidate), ("gained", gained_N, teacher)):
        members = np.flatnonzero(members_N)
        sureness = mistaken.probabilities_NC[members].max(axis=1)
        rows += [
            {"flip": flip, "id": test.ids[at], "text": shown(test.texts[at]), "label": test.labels[at]}
            | answer_cells("teacher", teacher, at, labels)
            | answer_cells("candidate", candidate, at, labels)
            for at in members[np.argsort(-sureness, kind="stable")]
        ]
    return rows


def answer_cells(name: str, predictions: Predictions, at: int, labels: tuple[str, ...]) -> dict[str, Any]:
    """One model's answer to one row, and its probability."""
    probabilities_C = predictions.probabilities_NC[at]
    best = int(probabilities_C.argmax())
    return {name: labels[best], f"{name}_probability": float(probabilities_C[best])}


def confusions(
    test: Split,
    teacher: Predictions,
    candidate: Predictions,
    labels: tuple[str, ...],
    costs_CC: NDArray[np.float64],
) -> Rows:
    """Each confusion of the candidate with its count, the teacher's, and its cost, the dearest first."""
    counts_CC, teacher_CC = confusion_counts(candidate, len(labels)), confusion_counts(teacher, len(labels))
    np.fill_diagonal(counts_CC, 0)
    predicted_N = candidate.probabilities_NC.argmax(axis=1)
    example = {
        (int(true), int(guess)): shown(text)
        for true, guess, text in reversed(list(zip(candidate.labels_N, predicted_N, test.texts, strict=True)))
    }
    rows = [
        {
            "true": labels[true],
            "predicted": labels[guess],
            "count": int(counts_CC[true, guess]),
            "teacher_count": int(teacher_CC[true, guess]),
            "cost": float(costs_CC[true, guess]),
            "total_cost": float(counts_CC[true, guess] * costs_CC[true, guess]),
            "example": example[int(true), int(guess)],
        }
        for true, guess in zip(*np.nonzero(counts_CC), strict=True)
    ]
    return sorted(rows, key=lambda row: (-row["total_cost"], -row["count"], row["true"], row["predicted"]))


def mean_cost(predictions: Predictions, costs_CC: NDArray[np.float64]) -> float:
    """Cost of an answer on average; the error rate where every confusion costs 1."""
    return float(costs_CC[predictions.labels_N, predictions.probabilities_NC.argmax(axis=1)].mean())


def confusion_counts(predictions: Predictions, num_classes: int) -> NDArray[np.int64]:
    """counts_CC: rows are true classes, columns predicted ones."""
    counts_CC = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(counts_CC, (predictions.labels_N, predictions.probabilities_NC.argmax(axis=1)), 1)
    return counts_CC
