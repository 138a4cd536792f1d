import numpy as np

from tasks.confidences import answered
from tasks.types import EntityPredictions, Predictions, SigmoidPredictions

NO_LATENCY = np.empty(0)


def test_a_row_has_one_class_any_number_of_labels_or_entities_and_a_score_has_no_confidence():
    classes = Predictions(
        ids=("a", "b"), probabilities_NC=np.array([[0.9, 0.1], [0.4, 0.6]], dtype=np.float32),
        labels_N=np.array([0, 0]), latency_ms_N=NO_LATENCY,
    )  # fmt: skip
    found = answered(classes)
    assert (found.confidence_M.round(2).tolist(), found.right_M.tolist()) == ([0.9, 0.6], [True, False])

    sets = SigmoidPredictions(
        ids=("a", "b"), task="multi_label", probabilities_NC=np.array([[0.9, 0.7], [0.1, 0.2]], dtype=np.float32),
        truth_NC=np.array([[1, 0], [1, 0]], dtype=np.float32), threshold=0.5, latency_ms_N=NO_LATENCY,
    )  # fmt: skip
    found = answered(sets)
    assert (found.right_M.tolist(), found.row_M.tolist()) == ([True, False], [0, 0]), "the second row has no answer"

    entities = EntityPredictions(
        ids=("a", "b"), types=("city",), answers=('[[0, 5, "city"]]', '[[0, 2, "city"], [3, 5, "city"]]'),
        truth=('[[0, 5, "city"]]', '[[3, 5, "city"]]'), latency_ms_N=NO_LATENCY, confidences=("[0.8]", "[0.3, 0.9]"),
    )  # fmt: skip
    found = answered(entities)
    assert found.confidence_M.tolist() == [0.8, 0.3, 0.9]
    assert (found.right_M.tolist(), found.row_M.tolist()) == ([True, False, True], [0, 1, 1])

    score = SigmoidPredictions(
        ids=("a",), task="score", probabilities_NC=np.array([[0.9]], dtype=np.float32),
        truth_NC=np.array([[1]], dtype=np.float32), threshold=0.5, latency_ms_N=NO_LATENCY,
    )  # fmt: skip
    assert answered(score) is None
