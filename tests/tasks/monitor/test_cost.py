from dataclasses import replace

import pytest

from tasks.monitor.config import CostConfig
from tasks.monitor.cost import balance
from tasks.monitor.harm import HarmEvidence
from tasks.types import Interval

COST = CostConfig(retrain=100, error=0.5, requests_per_day=1_000, label=2, labels=50, horizon_days=10)
HARM = HarmEvidence(
    num_labels=200,
    num_errors=60,
    accuracy=Interval(value=0.7, low=0.6, high=0.8),
    estimate=None,
    baseline_accuracy=0.9,
    baseline_rows=1_000,
    tolerance=0.05,
    p_value=0.0,
    alpha=0.001,
    enough=True,
    harmful=True,
    new_labels=(),
)


def test_what_is_saved_is_horizon_times_requests_times_price_times_errors_avoided_at_least():
    found = balance(HARM, COST)
    assert found.saved == pytest.approx(10 * 1_000 * 0.5 * (0.2 - 0.1))
    assert found.cost == 100 + 2 * 50
    assert found.worth_it


def test_few_labels_pay_for_no_retrain():
    assert not balance(replace(HARM, accuracy=Interval(value=0.7, low=0.3, high=0.95)), COST).worth_it
    assert not balance(replace(HARM, accuracy=None), COST).worth_it


def test_the_sharper_estimate_counts_where_there_is_one():
    sharper = replace(HARM, estimate=Interval(value=0.7, low=0.68, high=0.72))
    assert balance(sharper, COST).saved > balance(HARM, COST).saved


def test_an_equal_cost_is_not_worth_it():
    saved = balance(HARM, COST).saved
    assert not balance(HARM, COST.model_copy(update={"retrain": saved - 100})).worth_it
