"""Error budgets: counted, in words, and never in order for want of requests."""

import pytest
from pydantic import ValidationError

from bento.metrics import LATENCY_BUCKETS_S
from tasks.monitor.objectives import ErrorBudget, ObjectivesConfig


def budget(bad, *, n=100_000, recent_bad=0, recent=1_000, target=0.99):
    return ErrorBudget(
        objective="latency", target=target, num_requests=n, num_bad=bad, num_recent=recent,
        num_recent_bad=recent_bad, window_days=30,
    )  # fmt: skip


def test_a_tenth_of_the_permitted_failures_is_a_tenth_of_the_budget():
    found = budget(100)
    assert found.spent == pytest.approx(0.1)
    assert (found.state, found.empty_in_days) == ("ok", None)
    assert found.words == "90% of the budget of 30 days left (99.900% good of 100,000, promised 99.000%)"


def test_a_burn_rate_of_fourteen_point_four_spends_two_percent_of_thirty_days_in_an_hour():
    found = budget(0, recent_bad=144)
    assert found.burn_rate == pytest.approx(14.4)
    assert found.state == "burning"
    assert found.empty_in_days == pytest.approx(30 / 14.4)
    assert 1 / 24 / 30 * found.burn_rate == pytest.approx(0.02)
    assert "burns 14.4 times too fast, empty in 2.1 days" in found.words


def test_more_failures_than_permitted_are_a_broken_promise_whatever_happened_lately():
    found = budget(1_500)
    assert (found.state, found.empty_in_days) == ("spent", 0)
    assert found.words.startswith("broken: 1.5 times the budget of 30 days is spent")


def test_a_slow_answer_of_few_is_no_alarm_and_no_good_news():
    assert budget(1, n=10, recent=10, recent_bad=1).state == "too_few"
    assert budget(0, n=10_000, recent=10, recent_bad=5).state == "ok"


def test_without_a_request_nothing_is_divided():
    found = budget(0, n=0, recent=0)
    assert (found.spent, found.burn_rate, found.empty_in_days, found.state) == (0, None, None, "too_few")


def test_every_bound_of_the_histogram_can_be_promised_and_nothing_between():
    for bound_s in LATENCY_BUCKETS_S:
        assert ObjectivesConfig(latency_ms=1000 * bound_s).latency_ms / 1000 == bound_s
    with pytest.raises(ValidationError, match=r"expected one of 0.5, 1, 2, .* got 40; take the next smaller one"):
        ObjectivesConfig(latency_ms=40)
