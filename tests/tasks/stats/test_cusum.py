"""The alarm over a stream of labels: what it promises without harm, and how soon it finds harm."""

import numpy as np
import pytest

from tasks.stats.cusum import BETS, alarm_level, e_cusum, thinned


def slow_e_cusum(errors, limit):
    """The recursion of METHODS as it is written."""
    evidence, path = dict.fromkeys(BETS, 1.0), []
    for error in errors:
        evidence = {bet: max(value, 1) * (1 + bet * (error - limit)) for bet, value in evidence.items()}
        path.append(np.mean(list(evidence.values())))
    return path


def streams(rate, num_streams, num_labels, seed):
    rng = np.random.default_rng(seed)
    return rng.random((num_streams, num_labels)) < rate


def first(alarms):
    """Labels until the first alarm of each stream; all of them where there is none."""
    return np.where(alarms.any(axis=1), alarms.argmax(axis=1) + 1, alarms.shape[1])


def test_it_is_the_average_of_the_recursion_over_all_bets():
    errors = streams(0.2, 1, 300, 0)[0]
    assert e_cusum(errors, 0.1) == pytest.approx(slow_e_cusum(errors, 0.1))


def test_without_labels_there_is_no_evidence():
    assert len(e_cusum(np.array([], dtype=bool), 0.1)) == 0


def test_bets_that_could_not_be_paid_are_left_out_and_the_rest_stays_finite():
    assert np.isfinite(e_cusum(np.ones(3_000, dtype=bool), 0.5)).all()
    assert np.isfinite(e_cusum(np.zeros(100, dtype=bool), 0.999)).all()
    assert (e_cusum(np.zeros(100, dtype=bool), 0.5) >= 0).all()


def test_a_later_start_never_has_more_evidence():
    """So that only the newest labels may be read."""
    errors = streams(0.15, 1, 1_000, 1)[0]
    assert (e_cusum(errors[300:], 0.1) <= e_cusum(errors, 0.1)[300:] + 1e-9).all()


def test_without_harm_the_level_is_reached_within_the_horizon_no_more_often_than_promised():
    """2,000 streams of its own at the limit itself, the worst that is no harm."""
    level = alarm_level(0.1, 600, 0.05)
    reached = e_cusum(streams(0.1, 4_000, 600, 2), 0.1).max(axis=1) >= level
    assert reached.mean() <= 0.05
    assert reached.mean() >= 0.02, "nor is it a wall that nothing climbs"


def test_the_mean_run_without_harm_is_longer_than_the_level():
    level = 50.0
    assert first(e_cusum(streams(0.1, 300, 2_000, 3), 0.1) >= level).mean() >= level


@pytest.mark.parametrize(("rate", "most"), [(0.2, 250), (0.35, 60)])
def test_a_rise_after_many_good_labels_is_found_within_few(rate, most):
    labels = np.concatenate([streams(0.05, 200, 500, 4), streams(rate, 200, 600, 5)], axis=1)
    alarms = e_cusum(labels, 0.1)[:, 500:] >= alarm_level(0.1, 600, 0.05)
    assert np.median(first(alarms)) <= most


def test_a_level_too_rare_to_simulate_is_the_proven_bound():
    assert alarm_level(0.1, 600, 1e-5) == 600 / 1e-5


def test_a_drawing_keeps_the_peaks():
    values = np.arange(1_000.0)
    values[437] = 5_000
    points = thinned(values, most=50)
    assert len(points) == 50
    assert (438, 5_000.0) in points
    assert thinned(np.array([])) == ()
