"""A slice that is weak is found and confirmed; chance is not."""

import itertools

import numpy as np
import pytest

from tasks.analysis.slices import ALPHA, MIN_ROWS, describe, find_slices, search


def test_conditions_are_frequent_words_quarters_of_length_and_classes():
    texts = ["a b", "b c d", "b", ("a", "e")] * 3
    conditions = describe(texts, [{"class x"}, {"class y"}, {"class x"}, {"class y"}] * 3)
    met = dict(zip(conditions.names, conditions.met_NF.T.tolist(), strict=True))
    assert met["word 'b'"] == [True, True, True, False] * 3
    assert met["class y"] == [False, True, False, True] * 3
    lengths = [name for name in conditions.names if "words" in name]
    assert sum(np.array(met[name]) for name in lengths).tolist() == [1] * 12, "every row has exactly one length"


def brute_force(met_NF, wrong_N):
    """Equation 1 of SliceLine over all slices of one or two conditions."""
    base, found = wrong_N.mean(), {}
    for members in itertools.chain(*(itertools.combinations(range(met_NF.shape[1]), level) for level in (1, 2))):
        rows = met_NF[:, members].all(axis=1)
        if MIN_ROWS <= rows.sum() < len(rows):
            gain = wrong_N[rows].mean() / base - 1
            found[members] = ALPHA * gain - (1 - ALPHA) * (len(rows) / rows.sum() - 1)
    return found


def test_the_search_agrees_with_trying_every_slice():
    rng = np.random.default_rng(0)
    met_NF, wrong_N = rng.random((300, 12)) < 0.3, rng.random(300) < 0.1
    wrong_N |= met_NF[:, 2] & met_NF[:, 7]
    expected = brute_force(met_NF, wrong_N)
    found = search(met_NF, wrong_N, most=5)
    assert found[0][1] == max(expected, key=lambda members: expected[members]) == (2, 7)
    for score, members in found:
        assert score == pytest.approx(expected[members])


def rows_with_a_weak_slice(rng, *, rate, rate_elsewhere=0.05):
    texts = [("the card " if rng.random() < 0.2 else "some ") + "word " * int(rng.integers(1, 9)) for _ in range(1200)]
    wrong_N = np.array([rng.random() < (rate if "card" in text else rate_elsewhere) for text in texts])
    return describe(texts, [{f"class {'x' if rng.random() < 0.5 else 'y'}"} for _ in texts]), wrong_N


def test_a_planted_weak_slice_is_found_and_confirmed():
    rng = np.random.default_rng(1)
    conditions, wrong_N = rows_with_a_weak_slice(rng, rate=0.4)
    first = find_slices(conditions, wrong_N, rng, most=20)[0]
    assert "card" in first["slice"] or "the" in first["slice"]
    assert first["confirmed"]
    assert first["error_rate"] > 0.2 > 0.1 > first["error_rate_elsewhere"]


def test_a_weak_slice_is_found_too_where_most_answers_are_wrong():
    rng = np.random.default_rng(1)
    conditions, wrong_N = rows_with_a_weak_slice(rng, rate=0.95, rate_elsewhere=0.65)
    first = find_slices(conditions, wrong_N, rng, most=20)[0]
    assert "card" in first["slice"] or "the" in first["slice"]
    assert first["confirmed"]


def test_errors_by_chance_confirm_a_slice_in_at_most_5_of_100_sets():
    rng = np.random.default_rng(2)
    conditions, _ = rows_with_a_weak_slice(rng, rate=0.05)
    confirmed = 0
    for _ in range(200):
        rows = find_slices(conditions, rng.random(1200) < 0.1, rng, most=20)
        confirmed += any(row["confirmed"] for row in rows)
    assert confirmed / 200 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 200)


def test_nothing_is_found_where_nothing_is_wrong_or_few_rows_are_there():
    conditions, wrong_N = rows_with_a_weak_slice(np.random.default_rng(3), rate=0.4)
    assert find_slices(conditions, np.zeros_like(wrong_N), np.random.default_rng(0), most=5) == []
    few = describe(["a", "b"], [{"class x"}, {"class y"}])
    assert find_slices(few, np.array([True, False]), np.random.default_rng(0), most=5) == []
