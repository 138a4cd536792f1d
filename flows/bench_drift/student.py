"""The model under watch: a linear head on the frozen encoder's embeddings, fitted in closed form within milliseconds.

It stands in for a distilled student, so that thousands of retrains cost minutes; all policies watch the same one.
Shapes: N rows, D embedding dimensions, C classes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RIDGE = 0.3
SCALES = np.geomspace(2, 64, 11)
"""Candidate sharpness of the probabilities."""
MAX_CALIBRATION_ROWS = 500


@dataclass(frozen=True, kw_only=True)
class Student:
    """Class names and a linear map."""

    classes: tuple[str, ...]
    weights_DC: Floats
    scale: float

    def scores(self, embeddings_ND: NDArray[np.floating]) -> Floats:
        """One value a class, the largest of which is the answer."""
        return np.asarray(_with_bias(embeddings_ND) @ self.weights_DC)

    def probabilities(self, embeddings_ND: NDArray[np.floating]) -> NDArray[np.float32]:
        """probabilities_NC, calibrated by one factor on held-out rows."""
        return softmax(self.scale * self.scores(embeddings_ND)).astype(np.float32)

    def answers(self, embeddings_ND: NDArray[np.floating]) -> NDArray[np.str_]:
        """The name of the likeliest class of each row."""
        answers_N: NDArray[np.str_] = np.array(self.classes)[self.scores(embeddings_ND).argmax(axis=1)]
        return answers_N


def train_student(
    embeddings_ND: NDArray[np.floating], labels_N: NDArray[np.str_], weights_N: Floats | None = None
) -> Student:
    """Weighted ridge regression on one-hot labels; its probabilities have yet to be calibrated."""
    classes, class_N = np.unique(labels_N, return_inverse=True)
    inputs_ND = _with_bias(embeddings_ND)
    weighted_ND = inputs_ND if weights_N is None else inputs_ND * weights_N[:, None]
    gram_DD = weighted_ND.T @ inputs_ND + RIDGE * np.eye(inputs_ND.shape[1])
    weights_DC: Floats = np.linalg.solve(gram_DD, weighted_ND.T @ np.eye(len(classes))[class_N]).astype(np.float64)
    return Student(classes=tuple(classes.tolist()), weights_DC=weights_DC, scale=float(SCALES[0]))


def calibrated(student: Student, embeddings_ND: NDArray[np.floating], labels_N: NDArray[np.str_]) -> Student:
    """The student with the sharpness under which held-out rows of its classes are likeliest."""
    known_N = np.flatnonzero(np.isin(labels_N, student.classes))[-MAX_CALIBRATION_ROWS:]
    class_N = np.searchsorted(student.classes, labels_N[known_N])
    scores_NC = student.scores(embeddings_ND[known_N])
    rows = np.arange(len(class_N))
    losses = [-np.log(softmax(scale * scores_NC)[rows, class_N] + 1e-12).mean() for scale in SCALES]
    return Student(
        classes=student.classes, weights_DC=student.weights_DC, scale=float(SCALES[int(np.argmin(losses))])
    )  # fmt: skip


def softmax(scores_NC: Floats) -> Floats:
    """Rows that sum to 1."""
    powers_NC = np.exp(scores_NC - scores_NC.max(axis=1, keepdims=True))
    return np.asarray(powers_NC / powers_NC.sum(axis=1, keepdims=True))


def _with_bias(embeddings_ND: NDArray[np.floating]) -> Floats:
    return np.hstack([embeddings_ND, np.ones((len(embeddings_ND), 1))]).astype(np.float64)
