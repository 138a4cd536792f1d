"""Arrivals, texts and outcomes: what is sent, and how answers are counted."""

from typing import Any

import numpy as np
import pytest

from flows.bench_serve.traffic import ARRIVALS, Texts, bursty, poisson, read_outcome, with_duplicates


@pytest.mark.parametrize("kind", ARRIVALS)
def test_arrivals_are_sorted_inside_the_time_and_have_the_mean_rate(kind: str) -> None:
    times_s = np.asarray(ARRIVALS[kind](500.0, 40.0, np.random.default_rng(0)))
    assert (np.diff(times_s) >= 0).all()
    assert 0 <= times_s[0] <= times_s[-1] < 40
    assert len(times_s) == pytest.approx(20_000, rel=0.03)


def test_gaps_of_a_poisson_process_are_exponential() -> None:
    gaps_s = np.diff(poisson(500.0, 40.0, np.random.default_rng(0)))
    assert gaps_s.std() == pytest.approx(gaps_s.mean(), rel=0.05)


def test_a_burst_is_a_fifth_of_each_second_at_three_times_the_rate() -> None:
    within_s = np.asarray(bursty(500.0, 40.0, np.random.default_rng(0))) % 1
    assert (within_s < 0.2).mean() == pytest.approx(0.6, abs=0.02)
    inside, outside = np.histogram(within_s[within_s < 0.2], 4)[0], np.histogram(within_s[within_s >= 0.2], 4)[0]
    assert inside.std() / inside.mean() < 0.05
    assert outside.std() / outside.mean() < 0.05


def test_arrivals_are_the_same_for_the_same_seed() -> None:
    first, second = (bursty(50.0, 5.0, np.random.default_rng(3)) for _ in range(2))
    assert first == second


def test_no_text_is_given_out_twice() -> None:
    texts = Texts(["a", "b", "a"])
    given = [*texts.take(3), *texts.take(4)]
    assert given == ["a", "b", "a 1", "b 1", "a 2", "b 2", "a 3"]


def test_a_share_of_duplicates_comes_from_earlier_texts() -> None:
    texts = [str(number) for number in range(5_000)]
    found = with_duplicates(texts, 0.3, np.random.default_rng(0))
    assert len(found) == len(texts)
    assert 1 - len(set(found)) / len(found) == pytest.approx(0.3, abs=0.02)
    assert all(int(text) <= at for at, text in enumerate(found))
    assert with_duplicates(texts, 0.0, np.random.default_rng(0)) == texts


def result(**columns: Any) -> dict[str, Any]:
    number = len(columns["status"])
    return {"sent_s": columns["due_s"], "tries": [1] * number, "cpu_s": 0.002, **columns}


def test_an_outcome_counts_from_the_time_that_was_meant() -> None:
    outcome = read_outcome(
        result(due_s=[0.0, 1.0, 2.0], sent_s=[0.0, 1.4, 2.0], done_s=[0.1, 1.5, 2.1], status=[200, 200, 429])
    )
    assert outcome.latency_ms_N.tolist() == pytest.approx([100, 500, 100])
    assert outcome.quantile_ms(1.0) == pytest.approx(500)
    assert outcome.late_ms == pytest.approx(392, abs=1)
    assert outcome.answered_per_s == pytest.approx(2 / 2.1)
    assert outcome.generator_cpu_ms == pytest.approx(2 / 3)


def test_lost_and_timed_out_requests_are_failures_by_name() -> None:
    outcome = read_outcome(result(due_s=[0.0] * 4, done_s=[1.0] * 4, status=[200, 0, -1, 503]))
    assert outcome.statuses() == {"timed out": 1, "lost": 1, "200": 1, "503": 1}
    assert (outcome.num_failed, outcome.error_rate) == (3, 0.75)
