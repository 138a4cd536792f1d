"""Sigmoids beside softmaxes, and what is answered of them."""

import numpy as np
import pytest
from scipy.special import expit

from bento.task_types import Target, confidences, label_set_answers, named, probabilities, sigmoid, softmax


def test_sigmoid_is_scipys_and_never_overflows() -> None:
    logits_BC = np.array([[-800, -3, 0, 3, 800]], dtype=np.float32)
    assert np.allclose(sigmoid(logits_BC), expit(logits_BC), atol=1e-7)
    assert np.allclose(sigmoid(logits_BC, 2.0), expit(logits_BC / 2), atol=1e-7)


def test_only_single_labels_compete() -> None:
    logits_BC = np.array([[2, 2, 2]], dtype=np.float32)
    assert np.array_equal(probabilities(logits_BC, "single_label"), softmax(logits_BC))
    assert np.array_equal(probabilities(logits_BC, "multi_label"), sigmoid(logits_BC))


def test_a_set_has_the_labels_from_the_threshold_on_the_most_probable_first() -> None:
    found = label_set_answers(np.array([[0.3, 0.2, 0.9], [0.1, 0.1, 0.1]]), ("a", "b", "c"), 0.3)
    assert found == {"labels": [["c", "a"], []], "label_probabilities": [[0.9, 0.3], []]}
    assert named(found) == ["c", "a"]
    assert confidences(found) == [0.9, 0.3]


def test_every_class_that_is_named_has_its_confidence_and_a_score_has_none() -> None:
    found = {"entities": [[{"label": "city", "score": 0.7}], [], [{"label": "name", "score": 0.6}]]}
    assert (named(found), confidences(found)) == (["city", "name"], [0.7, 0.6])
    assert confidences({"label": ["a"], "probability": [0.8], "abstained": [False]}) == [0.8]
    assert confidences({"score": [0.4]}) == []


def test_a_score_and_its_share_of_the_scale_are_inverse() -> None:
    target = Target(task="score", low=-1, high=5)
    assert target.score(0.5) == 2
    assert target.share(target.score(0.3)) == pytest.approx(0.3)
