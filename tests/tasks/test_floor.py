import numpy as np

from tasks.floor import NUM_LATENCY_ROWS, fit_floor
from tasks.types import Split

LABELS = ("apple", "pear", "never seen")


def split(name, num_rows, *, pairs=False):
    labels = [LABELS[at % 2] for at in range(num_rows)]
    texts = [f"{name} row {at} is about the {label}" for at, label in enumerate(labels)]
    chosen = [("a question", text) for text in texts] if pairs else texts
    return Split(name=name, ids=tuple(map(str, range(num_rows))), texts=tuple(chosen), labels=tuple(labels))


def test_the_floor_learns_words_and_reports_probabilities_size_and_latency():
    test = split("test", 250)
    predictions, size_bytes = fit_floor(split("train", 60), test, LABELS)
    assert predictions.correct_N.all()
    assert predictions.ids == test.ids
    assert predictions.probabilities_NC.shape == (250, 3)
    assert np.allclose(predictions.probabilities_NC.sum(axis=1), 1, atol=1e-5)
    assert len(predictions.latency_ms_N) == NUM_LATENCY_ROWS
    assert (predictions.latency_ms_N > 0).all()
    assert size_bytes > 1000


def test_a_label_without_training_rows_gets_no_probability():
    predictions, _ = fit_floor(split("train", 60), split("test", 10), LABELS)
    assert (predictions.probabilities_NC[:, 2] == 0).all()


def test_text_pairs_are_joined():
    predictions, _ = fit_floor(split("train", 60, pairs=True), split("test", 20, pairs=True), LABELS)
    assert predictions.correct_N.all()


def test_the_fit_is_deterministic():
    first, _ = fit_floor(split("train", 60), split("test", 20), LABELS)
    second, _ = fit_floor(split("train", 60), split("test", 20), LABELS)
    assert np.array_equal(first.probabilities_NC, second.probabilities_NC)
