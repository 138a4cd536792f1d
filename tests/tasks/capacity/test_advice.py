"""What is recommended, and what it costs."""

import pytest

from tasks.capacity.advice import advise, cost_per_million
from tasks.monitor.objectives import ObjectivesConfig
from tests.tasks.capacity.made_up import replica

OBJECTIVES = ObjectivesConfig(latency_ms=100)


def test_a_core_that_answers_a_hundred_a_second_costs_its_price_over_what_it_answers_in_an_hour():
    assert cost_per_million(1, 100, 0.036) == pytest.approx(0.1)


def test_the_cheapest_layout_comes_first_and_keeps_the_promise():
    best, *others = advise(replica(), 500, OBJECTIVES, core_hour_price=0.04)
    assert best.replicas == -(-500 // best.good_per_s)
    assert best.replicas_with_a_spare == best.replicas + 1
    assert best.latency_promised_ms <= 101
    assert best.cost_per_million == pytest.approx(cost_per_million(best.replicas * best.cores, 500, 0.04))
    assert all(other.cost_per_million_with_a_spare >= best.cost_per_million_with_a_spare for other in others)


def test_what_cannot_keep_the_promise_says_so_in_every_layout():
    found = advise(replica(base_ms=(200.0,)), 1, OBJECTIVES, core_hour_price=0.04)
    assert {layout.replicas for layout in found} == {None}
    assert {layout.cost_per_million for layout in found} == {None}
