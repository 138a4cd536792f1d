"""What follows from one measured replica."""

import math

import pytest

from tasks.capacity.replica import layouts, num_needed
from tests.tasks.capacity.made_up import replica


def test_one_core_takes_what_its_cpu_allows_and_more_cores_what_python_s_lock_allows():
    each = [(found.cores, found.workers, found.max_per_s) for found in layouts(replica())]
    assert each == [(1, 1, 100), (2, 2, 200), (3, 3, 250), (4, 4, 250)]


def test_a_replica_of_two_threads_a_run_grows_by_two_cores():
    assert [(found.cores, found.workers) for found in layouts(replica(cores=2, threads=2))] == [(2, 1), (4, 2)]


def test_a_run_at_a_time_bounds_it_too():
    assert replica(cores=4, workers=1).max_per_s == pytest.approx(1000 / 6)


def test_requests_that_come_alone_cost_more_until_it_is_busy():
    found = replica(light_core_ms=20.0)
    assert found.utilisation(1e-6) * 1e6 == pytest.approx(0.02, rel=1e-3), "20 ms each"
    assert found.utilisation(100) == pytest.approx(1)
    assert found.utilisation(50) == pytest.approx(2 / 3)
    assert found.cores_used(200) == pytest.approx(1), "never more than it has"


def test_latency_is_the_lone_request_s_and_the_wait():
    found = replica()
    waits = math.log(0.8 / 0.01) * 10 / 0.2
    assert found.latency_ms(80, 0.99) == pytest.approx(10 + waits, rel=0.01)
    assert found.latency_ms(1e-6, 0.99) == pytest.approx(10, rel=0.01)
    assert found.latency_ms(100, 0.5) == math.inf


def test_the_highest_rate_keeps_the_promise_and_a_little_more_does_not():
    found = replica()
    highest = found.highest_per_s(50, 0.99)
    assert found.slow_share(highest, 50) <= 0.01 < found.slow_share(1.01 * highest, 50)
    assert found.latency_ms(highest, 0.99) == pytest.approx(50, rel=0.01)


def test_bursty_arrivals_need_more_replicas():
    needed = [num_needed(replica(), 500, 100, 0.99, arrival_scv) for arrival_scv in (1, 10)]
    assert needed[0] < needed[1]


def test_no_number_of_replicas_helps_when_a_lone_request_is_too_slow():
    assert num_needed(replica(base_ms=(60.0,)), 1, 50, 0.99) is None
