"""A simulated day: closed forms where there are any, and every fault of a policy seen."""

from dataclasses import replace

import numpy as np
import pytest

from tasks.capacity.policy import DEFAULT_DOWN, DEFAULT_UP, Policy, fixed
from tasks.capacity.simulate import Setting, foreseen_core_hours, simulate
from tasks.capacity.traffic import Day
from tasks.monitor.objectives import ObjectivesConfig
from tests.tasks.capacity.made_up import replica
from tests.tasks.capacity.test_queueing import waits

OBJECTIVES = ObjectivesConfig(latency_ms=100, latency_share=0.95)
SETTING = Setting(replica=replica(), objectives=OBJECTIVES)
"""A replica takes 100 requests a second."""
POLICY = Policy(
    name="test", min_replicas=2, max_replicas=10, cpu_target=0.6, wait_target_s=None, up=DEFAULT_UP, down=DEFAULT_DOWN
)


def day(*parts):
    """(seconds, requests a second) after each other."""
    return Day(source="test", num_T=np.concatenate([np.full(seconds, float(rate)) for seconds, rate in parts]))


def test_at_an_even_rate_the_share_of_late_answers_is_the_closed_form():
    found = simulate(day((600, 160)), fixed(2, "fixed"), SETTING)
    assert found.slow_share == pytest.approx(SETTING.replica.slow_share(80, 100), rel=0.02)
    assert found.slow_share == pytest.approx(0.8 * np.exp(-(100 - 10) * 0.2 / 10), rel=0.02), "M/M/1"
    assert found.refused == 0


def test_behind_a_backlog_it_agrees_with_a_queue_that_is_simulated_request_by_request():
    rng = np.random.default_rng(0)
    late, seconds = [], 40
    for _ in range(30):
        rates = np.r_[np.full(20, 60.0), np.full(10, 130.0), np.full(10, 60.0)]
        counts = rng.poisson(rates)
        at = np.concatenate([second + np.sort(rng.random(number)) for second, number in enumerate(counts)])
        waiting_ms = 1000 * waits(np.diff(np.r_[0.0, at]), rng.exponential(0.01, len(at)))
        late.append((waiting_ms + 10 > 100).mean())
    found = simulate(day((20, 60), (10, 130), (10, 60)), fixed(1, "fixed"), SETTING)
    assert len(found.num_T) == seconds
    assert found.slow_share == pytest.approx(np.mean(late), rel=0.25)


def test_a_fixed_number_of_replicas_costs_its_cores_for_the_whole_time():
    found = simulate(day((7_200, 10)), fixed(3, "fixed"), SETTING)
    assert (found.core_hours, found.num_changes, found.bad_minutes(0.05)) == (6.0, 0, 0)


def test_a_policy_that_cannot_scale_misses_a_rise_and_one_that_can_catches_it():
    rise = day((1_200, 60), (1_200, 400))
    stuck = simulate(rise, replace(POLICY, max_replicas=2), SETTING)
    scaled = simulate(rise, POLICY, SETTING)
    assert stuck.slow_share > 0.5
    assert stuck.refused > 0
    assert stuck.bad_minutes(0.05) >= 19
    assert scaled.slow_share < 0.1
    assert scaled.bad_minutes(0.05) <= 4
    assert scaled.replicas_T[-1] >= 5


def test_pods_that_start_slowly_are_late_for_the_rise():
    rise = day((600, 60), (900, 400))
    slow, fast = (simulate(rise, POLICY, replace(SETTING, startup_s=startup_s)) for startup_s in (300, 15))
    assert slow.slow_share > 3 * fast.slow_share
    first = int(np.argmax(slow.ready_T > 2))
    assert 600 + 300 <= first <= 600 + 300 + 60


def test_a_rise_is_seen_by_the_first_sync_after_the_next_scrape_and_not_before():
    found = simulate(day((600, 60), (300, 400)), POLICY, SETTING)
    first = int(np.argmax(found.replicas_T > 2))
    assert 600 + 15 <= first <= 600 + 45


def test_after_a_fall_it_scales_down_when_the_window_is_over():
    found = simulate(day((900, 400), (900, 20)), POLICY, SETTING)
    many = found.replicas_T[890]
    assert (found.replicas_T[900:1_190] >= many - 1).all()
    assert found.replicas_T[-1] == 2


def test_requests_are_refused_when_they_would_be_answered_after_their_deadline():
    found = simulate(day((100, 300)), fixed(1, "fixed"), SETTING)
    assert found.refused == pytest.approx(100 * 200 - 10 * 100), "ten seconds' worth waits at the end"
    assert found.slow_share == pytest.approx(1, abs=0.01)


def test_the_wait_scales_up_where_the_cpu_target_never_would():
    by_wait = replace(POLICY, cpu_target=None, wait_target_s=0.005)
    by_cpu = replace(POLICY, cpu_target=1.0)
    rise = day((600, 60), (1_200, 400))
    assert simulate(rise, by_cpu, SETTING).replicas_T[-1] == 2, "a busy core is at its target, however long it has been"
    assert simulate(rise, by_wait, SETTING).replicas_T[-1] > 4


def test_foresight_costs_what_each_minute_needs():
    assert foreseen_core_hours(day((90, 1)), SETTING, [2, 4]) == pytest.approx((2 * 60 + 4 * 30) / 3600)
