"""Closed forms against tables, limits, and queues simulated request by request."""

import heapq
import math

import numpy as np
import pytest

from tasks.capacity.queueing import erlang_c, mean_wait_ms, share_waiting_longer


def waits(interarrival_N, service_N, num_servers=1):
    """Lindley's recursion for several servers: each request goes to the one that is free first."""
    free, now, found = [0.0] * num_servers, 0.0, []
    for gap, service in zip(interarrival_N, service_N, strict=True):
        now += gap
        start = max(now, heapq.heappop(free))
        heapq.heappush(free, start + service)
        found.append(start - now)
    return np.array(found)


@pytest.mark.parametrize(
    ("servers", "offered", "expected"),
    [(1, 0.5, 0.5), (2, 1.0, 1 / 3), (5, 4.0, 0.5541), (10, 8.0, 0.4092), (3, 3.0, 1.0), (100, 80.0, 0.0196)],
)
def test_erlang_s_formula_gives_the_values_of_its_tables(servers, offered, expected):
    assert erlang_c(servers, offered) == pytest.approx(expected, abs=2e-4)


def test_one_server_is_the_textbook_s_m_m_1():
    assert mean_wait_ms(0.8, 10, scv=1) == pytest.approx(0.8 / 0.2 * 10)
    assert share_waiting_longer(20, 0.8, 10, scv=1) == pytest.approx(0.8 * math.exp(-20 * 0.2 / 10))
    assert mean_wait_ms(0.8, 10, scv=0) == pytest.approx(20), "constant service halves the wait"


def test_nothing_waits_at_no_load_and_everything_at_too_much():
    assert (mean_wait_ms(0, 10, 1), share_waiting_longer(0, 0, 10, 1)) == (0, 0)
    assert (mean_wait_ms(1, 10, 1), share_waiting_longer(1e9, 1.2, 10, 1)) == (math.inf, 1)
    assert share_waiting_longer(-1, 0.1, 10, 1) == 1


@pytest.mark.parametrize(("servers", "scv"), [(1, 1.0), (1, 0.25), (3, 1.0)])
def test_it_agrees_with_a_queue_that_is_simulated(servers, scv):
    rng, number, utilisation = np.random.default_rng(0), 200_000, 0.8
    services = rng.gamma(1 / scv, 10 * scv, number)
    gaps = rng.exponential(10 / servers / utilisation, number)
    found = waits(gaps, services, servers)[number // 10 :]
    assert found.mean() == pytest.approx(mean_wait_ms(utilisation, 10, scv, servers), rel=0.08)
    for than in (10, 40):
        estimate = share_waiting_longer(than, utilisation, 10, scv, servers)
        assert (found > than).mean() == pytest.approx(estimate, rel=0.15)
