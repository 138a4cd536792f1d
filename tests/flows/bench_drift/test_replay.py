"""A replay keeps the clock: labels come late, a retrain answers from the next row, and the oracle cannot be beaten."""

from dataclasses import replace
from itertools import chain, combinations

import numpy as np
import pytest

from flows.bench_drift.oracle import best_retrains
from flows.bench_drift.prices import Prices, cost
from flows.bench_drift.replay import Moment, Run, replay
from flows.bench_drift.shifts import fall, record

PRICES = Prices(label=0.1, retrain=5)


def at_looks(*looks: int):
    return lambda moment: "retrain" if moment.look in looks else "none"


def test_labels_come_only_after_their_delay_and_of_the_drawn_requests(shifted: Run) -> None:
    assert len(shifted.labelled(0, 1)) == 0
    seen = shifted.labelled(0, 5)
    assert seen.max() < 400
    assert len(seen) == pytest.approx(0.2 * 400, abs=25)


def test_suspicion_raises_the_audit_for_the_next_two_looks(shifted: Run) -> None:
    run = Run(shifted.stream, replace(shifted.setup, audit_rate=0.05), np.random.default_rng(0))
    before = run.audited_L.copy()
    run.watch(10)
    rates = run.audited_L.reshape(20, 100).mean(axis=1)
    assert rates[10:12].mean() == pytest.approx(0.3, abs=0.12)
    assert np.delete(rates, [10, 11]).max() < 0.15
    assert run.audited_L[before].all(), "whoever was drawn stays drawn"


def test_a_retrain_learns_no_row_that_it_is_judged_on_nor_any_of_the_future(shifted: Run) -> None:
    model = shifted.model(15)
    held = set(model.held_R.tolist())
    future = set(shifted.stream.live_R[1_400:].tolist())
    assert not held & future
    assert not held & set(shifted.stream.train_R.tolist())


def test_a_retrain_answers_from_the_next_row_on(shifted: Run) -> None:
    trace = replay(shifted, "planned", at_looks(14))
    assert trace.champions == [0] * 14 + [14] * 6
    assert trace.retrains == [14]
    wrong = [shifted.errors(0, 0, 1_400), shifted.errors(14, 1_400, 2_000)]
    assert trace.errors_T.sum() == sum(wrong)


def test_a_window_holds_the_newest_rows_of_its_champion_alone(shifted: Run) -> None:
    old = Moment(run=shifted, look=14, champion=0, retrained=None).window
    new = Moment(run=shifted, look=15, champion=14, retrained=14).window
    assert (len(old), len(new)) == (200, 100)
    assert new.texts[0] == shifted.corpus.texts[shifted.stream.live_R[1_400]]


def test_a_gain_is_counted_on_the_next_window_and_not_beyond_the_end(shifted: Run) -> None:
    trace = replay(shifted, "planned", at_looks(14, 20))
    before, after = shifted.errors(0, 1_400, 1_600), shifted.errors(14, 1_400, 1_600)
    assert trace.gain(14) == (before - after) / 200
    assert trace.gain(20) is None


def test_the_planted_change_costs_the_first_champion_its_accuracy(shifted: Run, still: Run) -> None:
    assert (fall(shifted) or 0) > 0.5
    assert fall(still) == pytest.approx(0, abs=0.05)


def test_delays_are_counted_from_the_change(shifted: Run) -> None:
    found = record(replay(shifted, "planned", at_looks(5, 14)), 0)
    assert (found["alarm_requests"], found["retrain_requests"]) == (400, 400)
    assert found["retrain_labels"] == np.sum(shifted.audited_L[1_000:1_300])
    missed = record(replay(shifted, "planned", at_looks(5)), 0)
    assert (missed["alarm_requests"], missed["retrain_labels"]) == (None, None)


def test_no_plan_of_up_to_two_retrains_is_cheaper_than_the_oracle(shifted: Run) -> None:
    def total(looks: tuple[int, ...]) -> float:
        return cost(record(replay(shifted, "planned", at_looks(*looks)), 0), PRICES)

    looks = range(1, shifted.num_looks)
    plans = chain.from_iterable(combinations(looks, size) for size in (0, 1, 2))
    assert total(tuple(best_retrains(shifted, PRICES))) <= min(map(total, plans)) + 1e-9
