"""The test of a risen error rate: its statistic by brute force, its size and power by simulation."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import binom, norm

from tasks.stats.rise import BaseRate, places, rise, rise_level

FIRST, MOST, BUDGET = 50, 1_000, 0.05


def by_search(num_errors, num_labels, baseline):
    """The same root, from a likelihood that is searched for its maximum."""

    def log_likelihood(rate_now, rate_before):
        return binom.logpmf(num_errors, num_labels, rate_now) + binom.logpmf(
            baseline.num_errors, baseline.num_rows, rate_before
        )

    edge = minimize_scalar(
        lambda before: -log_likelihood(before + baseline.margin, before),
        bounds=(1e-9, 1 - baseline.margin - 1e-9), method="bounded", options={"xatol": 1e-10},
    )  # fmt: skip
    now, before = num_errors / num_labels, baseline.num_errors / baseline.num_rows
    ratio = 2 * (log_likelihood(now, before) + edge.fun)
    return np.sign(now - before - baseline.margin) * np.sqrt(max(0.0, ratio))


@pytest.mark.parametrize(
    "baseline",
    [
        BaseRate(num_errors=200, num_rows=1_000, margin=0.01),
        BaseRate(num_errors=0, num_rows=200, margin=0.01),
        BaseRate(num_errors=200, num_rows=200, margin=0.02),
        BaseRate(num_errors=5, num_rows=1_000, margin=0.0),
        BaseRate(num_errors=70, num_rows=100, margin=0.2),
    ],
)
def test_the_statistic_is_the_signed_root_of_the_likelihood_ratio(baseline):
    for num_errors in (0, 1, 10, 40, 60):
        assert rise(num_errors, 60, baseline) == pytest.approx(by_search(num_errors, 60, baseline), abs=1e-4)


def alarms(rate, now, *, num_rows, margin, num_streams, seed=1):
    """(share of streams that alarm, median labels until then), each with a test split of its own."""
    rng = np.random.default_rng(seed)
    at_N = places(MOST, first=FIRST)
    found = []
    for num_errors in rng.binomial(num_rows, rate, num_streams):
        baseline = BaseRate(num_errors=int(num_errors), num_rows=num_rows, margin=margin)
        errors_N = rng.binomial(np.diff(at_N, prepend=0), now).cumsum()
        alike = BaseRate(num_errors=round(int(num_errors), -1), num_rows=num_rows, margin=margin)  # a level is dear
        level = rise_level(alike, first=FIRST, num_labels=MOST, false_alarm=BUDGET)
        above = np.flatnonzero(rise(errors_N, at_N, baseline) >= level)
        found.append(at_N[above[0]] if len(above) else np.inf)
    return np.isfinite(found).mean(), np.median(found)


@pytest.mark.parametrize(("rate", "num_rows"), [(0.05, 400), (0.2, 1_000), (0.4, 400)])
def test_at_the_edge_of_no_harm_it_alarms_as_rarely_as_promised(rate, num_rows):
    share, _ = alarms(rate, rate + 0.01, num_rows=num_rows, margin=0.01, num_streams=1_000)
    assert 0.02 < share <= binom.ppf(0.999, 1_000, BUDGET) / 1_000


def test_it_finds_a_loss_of_eight_points_in_most_streams_and_of_fifteen_with_few_labels():
    share, _ = alarms(0.2, 0.28, num_rows=1_000, margin=0.01, num_streams=100)
    assert share > 0.8
    share, labels = alarms(0.2, 0.35, num_rows=1_000, margin=0.01, num_streams=100)
    assert share == 1
    assert labels <= 100


def test_one_look_needs_no_less_than_a_normal_test_and_more_looks_need_more():
    baseline = BaseRate(num_errors=100, num_rows=1_000, margin=0.01)
    one = rise_level(baseline, first=1_000, num_labels=1_000, false_alarm=BUDGET)
    many = rise_level(baseline, first=50, num_labels=1_000, false_alarm=BUDGET)
    assert norm.ppf(1 - BUDGET) <= one < many
    assert one == pytest.approx(norm.ppf(1 - BUDGET), abs=0.15)


def test_a_baseline_that_is_wrong_throughout_cannot_be_exceeded():
    baseline = BaseRate(num_errors=300, num_rows=300, margin=0.01)
    assert rise(60, 60, baseline) < rise_level(baseline, first=50, num_labels=200, false_alarm=BUDGET)
