"""The cost of a run, and which texts share one."""

import numpy as np
import pytest

from bento.cost import RunCost, Serving, companions

COST = RunCost(run_ms=0.1, text_ms=0.0, token_ms=0.01)


def test_the_budget_is_where_the_fixed_time_is_a_twentieth_of_the_run() -> None:
    budget = COST.batch_tokens()
    assert COST.run_ms / (COST.token_ms * budget) == pytest.approx(0.05, rel=0.01)
    assert Serving.of(COST).batch_tokens == budget


def test_a_text_joins_only_where_its_padding_costs_less_than_half_a_run() -> None:
    # beside 16 tokens, 22 add 6 tokens of padding, of which 5 cost half of what a run does; 20 add 4
    assert companions([16, 22], COST, 4096) == [0]
    assert companions([16, 20], COST, 4096) == [0, 1]
    assert companions([16, 12], COST, 4096) == [0, 1]
    assert companions([16, 10], COST, 4096) == [0]


def test_the_nearest_in_length_come_first_and_the_budget_holds() -> None:
    chosen = companions([10, 16, 11, 9, 10], COST, 40)
    assert chosen == [0, 4, 2]
    assert companions([100, 100], COST, 40) == [0]


def test_batches_by_cost_never_cost_more_than_no_batches() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        lengths = [int(length) for length in rng.lognormal(3, 0.8, size=32).clip(2, 512)]
        together_ms, waiting = 0.0, lengths
        while waiting:
            places = companions(waiting, COST, COST.batch_tokens())
            together_ms += COST.of(len(places), max(waiting[place] for place in places))
            waiting = [length for at, length in enumerate(waiting) if at not in places]
        assert together_ms <= sum(COST.of(1, length) for length in lengths)
