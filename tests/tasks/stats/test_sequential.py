"""Size, power and delay of the tests that may be looked at any time; the mixture against products written out."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tasks.stats.sequential import (
    BETS_L,
    LARGEST_BET,
    log_wealth,
    log_wealth_of_change,
    log_wealth_of_count,
    not_worse,
    worse,
)

Floats = NDArray[np.float64]
THRESHOLD = np.log(20)


def draw(rng: np.random.Generator, n: int, gain: float, disagreement: float = 0.04) -> Floats:
    """Differences of two models, the new one better by `gain` in truth."""
    right, wrong = (disagreement + gain) / 2, (disagreement - gain) / 2
    return rng.choice([1.0, 0.0, -1.0], size=n, p=[right, 1 - disagreement, wrong])


def share_over(process: object, gain: float, delta: float, trials: int, n: int, seed: int) -> float:
    rng = np.random.default_rng(seed)
    over = [bool((process(draw(rng, n, gain), delta) >= THRESHOLD).any()) for _ in range(trials)]  # type: ignore[operator]
    return float(np.mean(over))


def test_the_wealth_is_the_average_of_the_products_of_fixed_bets() -> None:
    x = np.array([0.5, -0.4, 0.2])
    products = [np.prod(1 + bet * x) for bet in BETS_L]
    assert log_wealth(x, -0.5)[-1] == pytest.approx(np.log(np.mean(products)))
    assert BETS_L.max() == LARGEST_BET


def test_no_bet_can_ruin_whoever_bets_against_a_loss_larger_than_one() -> None:
    assert np.isfinite(log_wealth(np.full(100, -1.1), -1.1)).all()


def test_looked_at_after_each_label_a_model_at_the_margin_is_promoted_in_at_most_5_of_100_trials() -> None:
    assert share_over(not_worse, -0.02, 0.02, trials=1_000, n=2_000, seed=1) <= 0.05


def test_a_model_at_twice_the_margin_is_hardly_ever_promoted_and_vetoed() -> None:
    assert share_over(not_worse, -0.04, 0.02, trials=1_000, n=2_000, seed=2) <= 0.005
    assert share_over(worse, -0.04, 0.02, trials=200, n=3_000, seed=3) >= 0.9


def test_an_equal_model_is_promoted_and_seldom_vetoed() -> None:
    assert share_over(not_worse, 0.0, 0.02, trials=200, n=3_000, seed=4) >= 0.9
    assert share_over(worse, -0.02, 0.02, trials=1_000, n=2_000, seed=5) <= 0.05


def test_a_process_with_the_worst_for_unknown_labels_is_never_above_the_one_with_all_labels() -> None:
    rng = np.random.default_rng(6)
    d = draw(rng, 3_000, 0.0, disagreement=0.1)
    unknown = (d != 0) & (rng.random(3_000) < 0.5) & (d > 0)  # labels that are missing where they would help
    assert (not_worse(np.where(unknown, -1.0, d), 0.02) <= not_worse(d, 0.02) + 1e-9).all()
    assert (worse(np.where(unknown, 1.0, d), 0.02) <= worse(d, 0.02) + 1e-9).all()


def test_new_money_sees_a_late_change_sooner_and_keeps_the_size() -> None:
    rng = np.random.default_rng(7)
    delays = {False: [], True: []}  # type: dict[bool, list[int]]
    for _ in range(30):
        d = np.concatenate([draw(rng, 3_000, 0.0), draw(rng, 6_000, -0.05, disagreement=0.1)])
        for late, found in delays.items():
            found.append(int(np.argmax(worse(d, 0.01, late=late) >= THRESHOLD)) - 3_000)
    assert np.median(delays[True]) < 0.8 * np.median(delays[False])
    size = share_over(lambda d, delta: worse(d, delta, late=True), -0.02, 0.02, trials=500, n=2_000, seed=8)
    assert size <= 0.05


def test_the_process_of_change_is_the_weighted_sum_over_its_beginnings() -> None:
    x = np.random.default_rng(9).choice([-0.2, 0.3], size=7)
    money = [1 / 2, 1 / 6, 1 / 12, 1 / 20]
    begun = [m * np.mean([np.prod(1 + bet * x[2 * k :]) for bet in BETS_L]) for k, m in enumerate(money)]
    assert log_wealth_of_change(x, -0.2, every=2)[-1] == pytest.approx(np.log(sum(begun) + 1 - sum(money)))


@pytest.mark.parametrize(("limit", "rate", "lowest", "highest"), [(0.01, 0.01, 0, 0.05), (0.01, 0.04, 0.9, 1)])
def test_counts_alarm_above_their_limit_alone(limit: float, rate: float, lowest: float, highest: float) -> None:
    rng = np.random.default_rng(10)
    alarms = []
    for _ in range(300):
        hits = np.cumsum(rng.random(2_000) < rate)
        alarms.append(any(log_wealth_of_count(int(hits[n - 1]), n, limit) >= THRESHOLD for n in range(50, 2_001, 50)))
    assert lowest <= np.mean(alarms) <= highest
