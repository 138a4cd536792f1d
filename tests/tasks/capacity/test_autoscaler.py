"""The autoscaler's decisions, one rule of Kubernetes' after another."""

from dataclasses import replace

import pytest

from tasks.capacity.autoscaler import Autoscaler, Seen, proposal
from tasks.capacity.policy import DEFAULT_DOWN, DEFAULT_UP, Direction, Policy, Rule

POLICY = Policy(
    name="test", min_replicas=2, max_replicas=20, cpu_target=0.5, wait_target_s=0.005, up=DEFAULT_UP, down=DEFAULT_DOWN
)


def seen(cpu, *, ready=4, starting=0, wait_s=0.0):
    return Seen(num_ready=ready, num_starting=starting, cpu=cpu, wait_s=wait_s)


def slow_down(**changes):
    return replace(POLICY, **changes)


@pytest.mark.parametrize(
    ("ratio", "expected"), [(1.0, 4), (1.09, 4), (0.91, 4), (1.11, 5), (0.89, 4), (0.5, 2), (2.0, 8), (0.7, 3)]
)
def test_a_metric_is_brought_to_its_target_outside_of_a_tenth(ratio, expected):
    assert proposal(4, 4, 0, ratio) == expected


def test_pods_that_start_are_taken_for_idle_when_it_scales_up():
    assert proposal(8, 4, 4, 2.0) == 8, "twice the load on half of the pods is what all will have"
    assert proposal(8, 4, 4, 3.0) == 12
    assert proposal(8, 4, 4, 1.5) == 8, "it does not turn into scaling down"
    assert proposal(4, 0, 4, 9.0) == 4


def test_the_metric_that_asks_for_more_decides():
    scaler = Autoscaler(POLICY)
    assert scaler.decide(0, 4, seen(0.5, wait_s=0.010)) == 8
    assert Autoscaler(POLICY).decide(0, 4, seen(0.75, wait_s=0.0)) == 6


def test_without_metrics_nothing_changes():
    assert Autoscaler(POLICY).decide(0, 4, seen(None)) <= 4
    nothing = Seen(num_ready=4, num_starting=0, cpu=None, wait_s=None)
    assert Autoscaler(POLICY).decide(0, 4, nothing) == 4


def test_up_goes_as_far_as_the_most_generous_rule_allows():
    assert Autoscaler(POLICY).decide(0, 4, seen(5.0)) == 8, "four pods or a doubling in 15 s"
    assert Autoscaler(POLICY).decide(0, 2, seen(5.0, ready=2)) == 6
    careful = Direction(stabilisation_s=0, rules=DEFAULT_UP.rules, select="Min")
    assert Autoscaler(slow_down(up=careful)).decide(0, 2, seen(5.0, ready=2)) == 4
    assert Autoscaler(slow_down(up=replace(careful, select="Disabled"))).decide(0, 2, seen(5.0, ready=2)) == 2


def test_what_was_added_in_the_period_counts_against_the_rule():
    doubling = Direction(stabilisation_s=0, rules=(Rule(kind="Percent", value=100, period_s=30),))
    scaler = Autoscaler(slow_down(up=doubling))
    assert scaler.decide(0, 2, seen(5.0, ready=2)) == 4
    assert scaler.decide(15, 4, seen(5.0, ready=4)) == 4, "it began with two 15 s ago"
    assert scaler.decide(30, 4, seen(5.0, ready=4)) == 8


def test_down_waits_for_the_largest_recommendation_of_the_window_to_be_old():
    scaler = Autoscaler(POLICY)
    assert scaler.decide(0, 8, seen(0.5, ready=8)) == 8
    decisions = [scaler.decide(at, 8, seen(0.1, ready=8)) for at in range(15, 315, 15)]
    assert set(decisions[:-1]) == {8}
    assert decisions[-1] == 2


def test_up_waits_for_the_least_recommendation_of_its_window():
    careful = Direction(stabilisation_s=60, rules=DEFAULT_UP.rules)
    scaler = Autoscaler(slow_down(up=careful))
    scaler.decide(0, 4, seen(0.5))
    assert [scaler.decide(at, 4, seen(1.0)) for at in (15, 30, 45, 60)] == [4, 4, 4, 8]


def test_the_limits_hold_whatever_is_asked_for():
    assert Autoscaler(POLICY).decide(0, 16, seen(5.0, ready=16)) == 20
    one = slow_down(down=replace(DEFAULT_DOWN, stabilisation_s=0))
    assert Autoscaler(one).decide(0, 4, seen(0.0)) == 2


def test_down_goes_as_far_as_its_rules_allow():
    gentle = Direction(stabilisation_s=0, rules=(Rule(kind="Pods", value=1, period_s=60),))
    scaler = Autoscaler(slow_down(down=gentle))
    assert [scaler.decide(at, n, seen(0.1, ready=n)) for at, n in ((0, 8), (15, 7), (60, 7))] == [7, 7, 6]
