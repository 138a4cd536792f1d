"""Confident learning by hand and on planted label errors."""

import numpy as np

from tasks.analysis.label_errors import suspects


def test_the_rows_beyond_the_mean_self_confidence_of_another_class_are_found_by_hand():
    probabilities_NC = np.array([[0.9, 0.1], [0.7, 0.3], [0.1, 0.9], [0.2, 0.8], [0.4, 0.6], [0.95, 0.05]])
    labels_N = np.array([0, 0, 1, 1, 0, 1])
    # thresholds: class 0 (0.9 + 0.7 + 0.4) / 3 = 0.667, class 1 (0.9 + 0.8 + 0.05) / 3 = 0.583
    rows, suggested = suspects(probabilities_NC, labels_N)
    assert rows.tolist() == [5, 4]
    assert suggested.tolist() == [0, 1]


def test_planted_label_errors_are_most_of_what_is_found_and_most_of_them_are_found():
    rng = np.random.default_rng(0)
    true_N = rng.integers(0, 4, size=2000)
    logits_NC = rng.normal(size=(2000, 4)) + 4 * np.eye(4)[true_N]
    probabilities_NC = np.exp(logits_NC) / np.exp(logits_NC).sum(axis=1, keepdims=True)
    flipped = rng.choice(2000, size=100, replace=False)
    labels_N = true_N.copy()
    labels_N[flipped] = (true_N[flipped] + rng.integers(1, 4, size=100)) % 4
    rows, suggested = suspects(probabilities_NC, labels_N)
    hits = np.isin(rows, flipped)
    assert hits.mean() >= 0.75
    assert hits.sum() >= 75
    assert hits[:50].all(), "the most blatant come first"
    assert (suggested[hits] == true_N[rows[hits]]).mean() >= 0.95


def test_a_class_without_rows_is_never_suggested():
    rows, _ = suspects(np.array([[0.1, 0.2, 0.7], [0.6, 0.3, 0.1]]), np.array([0, 1]))
    assert rows.tolist() == [1]
