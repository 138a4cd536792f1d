"""The MLflow figures show what the predictions hold."""

import numpy as np
import pytest

from tasks.report.figures import MOST_CLASSES, confusion_figure, reliability_figure
from tasks.types import Predictions


def predictions(probabilities_NC: np.ndarray, labels_N: np.ndarray) -> Predictions:
    return Predictions(
        ids=tuple(str(at) for at in range(len(labels_N))),
        probabilities_NC=probabilities_NC.astype(np.float32),
        labels_N=labels_N.astype(np.int64),
        latency_ms_N=np.empty(0),
    )


def test_the_confusion_matrix_counts_true_against_predicted():
    labels_N = np.array([0, 0, 0, 1, 1])
    predicted_N = np.array([0, 0, 1, 1, 1])
    axes = confusion_figure(predictions(np.eye(2)[predicted_N], labels_N), ("a", "b")).axes[0]
    assert [text.get_text() for text in axes.texts] == ["2", "1", "0", "2"]
    np.testing.assert_allclose(axes.images[0].get_array(), [[2 / 3, 1 / 3], [0, 1]])


def test_of_many_classes_the_most_confused_are_shown():
    labels_N = np.arange(80)
    predicted_N = labels_N.copy()
    predicted_N[70] = 71
    axes = confusion_figure(predictions(np.eye(80)[predicted_N], labels_N), [f"c{at}" for at in range(80)]).axes[0]
    names = [tick.get_text() for tick in axes.get_yticklabels()]
    assert len(names) == MOST_CLASSES
    assert {"c70", "c71"} <= set(names)


@pytest.mark.parametrize(("confidence", "ece"), [(0.75, "ECE 0.0000"), (0.95, "ECE 0.2000")])
def test_the_reliability_curve_states_the_calibration_error(confidence: float, ece: str):
    probabilities_NC = np.tile([confidence, 1 - confidence], (600, 1))
    labels_N = np.tile([0, 0, 0, 1], 150)  # right three times of four, in every bin of equal count
    title = reliability_figure(predictions(probabilities_NC, labels_N)).axes[0].get_title(loc="left")
    assert title.startswith(f"Calibration: {ece} ")


def test_a_label_that_looks_like_mathematics_is_drawn_as_it_is():
    figure = confusion_figure(predictions(np.eye(2), np.array([0, 1])), ("$\\frac{", "b"))
    figure.canvas.draw()
    assert figure.axes[0].get_yticklabels()[0].get_text() == "$\\frac{"
