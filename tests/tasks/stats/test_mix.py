import numpy as np
import pytest

from tasks.stats.mix import LEAST_DISTANCE, chance_distance, same_mix, total_variation


def named(shares):
    return {f"class {at}": float(share) for at, share in enumerate(shares)}


def test_total_variation_is_half_the_absolute_differences_and_counts_a_missing_class():
    assert total_variation({"a": 0.5, "b": 0.5}, {"a": 0.8, "b": 0.2}) == pytest.approx(0.3)
    assert total_variation({"a": 1.0}, {"b": 1.0}) == pytest.approx(1.0)


@pytest.mark.parametrize("num_classes", [2, 77])
def test_the_chance_distance_is_what_samples_of_one_mix_show(num_classes):
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(num_classes, 5.0))
    samples = rng.multinomial(1_000, shares, size=(400, 2)) / 1_000
    seen = np.abs(samples[:, 0] - samples[:, 1]).sum(axis=1).mean() / 2
    assert chance_distance(named(shares), 1_000)[0] == pytest.approx(seen, rel=0.06)


@pytest.mark.parametrize("num_classes", [2, 20, 77])
def test_two_samples_of_one_mix_are_the_same_and_a_moved_mix_is_not(num_classes):
    rng = np.random.default_rng(1)
    shares = rng.dirichlet(np.full(num_classes, 5.0))
    moved = 0.5 * shares + 0.5 * np.eye(num_classes)[shares.argmin()]
    pairs = rng.multinomial(1_000, shares, size=(200, 2)) / 1_000
    assert all(same_mix(named(first), named(second), 1_000) for first, second in pairs)
    others = rng.multinomial(1_000, moved, size=200) / 1_000
    assert not any(same_mix(named(first), named(other), 1_000) for (first, _), other in zip(pairs, others, strict=True))


def test_a_small_move_seen_in_many_rows_is_not_worth_another_release():
    assert same_mix({"a": 0.5, "b": 0.5}, {"a": 0.5 + LEAST_DISTANCE / 2, "b": 0.5 - LEAST_DISTANCE / 2}, 10**6)
