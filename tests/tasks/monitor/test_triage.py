"""Label-free guesses of accuracy: right where nothing changed, and shown with their error where it did."""

from pathlib import Path

import numpy as np
import pytest

from tasks.monitor.triage import METHODS, HeldOut, Sureness, atc, doc, guess, mean_confidence, sureness


def answers(rng, n, sharpness=6.0):
    """Probabilities of two classes that are right as often as they say."""
    confidence = 0.5 + rng.beta(sharpness, 1, size=n) / 2
    return np.stack([confidence, 1 - confidence], axis=1), rng.random(n) < confidence


@pytest.fixture
def held_out():
    probabilities, correct = answers(np.random.default_rng(0), 20_000)
    return HeldOut(sureness=sureness(probabilities), correct_N=correct)


def test_every_guess_is_right_where_nothing_changed(held_out):
    probabilities, correct = answers(np.random.default_rng(1), 20_000)
    for estimate in METHODS.values():
        assert estimate(held_out, sureness(probabilities)) == pytest.approx(correct.mean(), abs=0.015)


def test_atc_counts_what_is_above_the_threshold_of_the_test_split():
    """By hand: 3 of 4 right, so the threshold lies above the least sure; 1 of 2 new rows is surer."""
    of = np.array([[0.99, 0.01], [0.9, 0.1], [0.8, 0.2], [0.55, 0.45]])
    held = HeldOut(sureness=sureness(of), correct_N=np.array([True, True, True, False]))
    assert atc(held, sureness(np.array([[0.95, 0.05], [0.51, 0.49]]))) == 0.5


def test_doc_is_the_accuracy_less_the_fall_of_confidence():
    held = HeldOut(sureness=sureness(np.array([[0.9, 0.1]] * 10)), correct_N=np.array([True] * 8 + [False] * 2))
    assert doc(held, sureness(np.array([[0.7, 0.3]] * 5))) == pytest.approx(0.6)
    assert mean_confidence(held, sureness(np.array([[0.7, 0.3]] * 5))) == pytest.approx(0.7)


def test_a_confident_model_that_is_wrong_fools_every_guess_and_the_error_says_so(held_out):
    probabilities, _ = answers(np.random.default_rng(2), 500)
    wrong = np.zeros(500, dtype=bool)
    for found in guess(held_out, sureness(probabilities), sureness(probabilities), wrong):
        assert found.error == pytest.approx(found.on_audited)
        assert found.error > 0.8
        assert found.num_audited == 500


def test_without_labels_there_is_a_guess_but_no_error_and_without_traffic_no_guess(held_out):
    nothing = sureness(np.empty((0, 0)))
    probabilities, _ = answers(np.random.default_rng(2), 50)
    found = guess(held_out, sureness(probabilities), nothing, np.array([], dtype=bool))
    assert {each.method for each in found} == {"atc", "doc", "mean_confidence"}
    assert all(each.on_audited is None and each.error is None for each in found)
    assert guess(held_out, nothing, nothing, np.array([], dtype=bool)) == ()


def test_a_probability_of_zero_has_no_entropy():
    assert sureness(np.array([[1.0, 0.0]])).entropy_N.tolist() == [0.0]


def test_what_was_held_out_comes_back_from_its_file(tmp_path: Path, held_out: HeldOut):
    held_out.save(tmp_path)
    back = HeldOut.load(tmp_path)
    assert isinstance(back.sureness, Sureness)
    assert (back.correct_N == held_out.correct_N).all()
    assert (back.sureness.entropy_N == held_out.sureness.entropy_N).all()
