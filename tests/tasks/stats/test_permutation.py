import numpy as np
import pytest

from tasks.stats.permutation import (
    ENOUGH,
    permutation_tests,
    relabellings,
    time_blocks,
)
from tasks.stats.two_sample import largest_ks


def labels(num_window, num_reference):
    return np.repeat([1.0, 0.0], [num_window, num_reference]).astype(np.float32)


def test_every_relabelling_keeps_the_number_of_window_rows():
    chunks = list(relabellings(labels(30, 70), 2_500, np.random.default_rng(0)))
    assert [chunk.shape for chunk in chunks] == [(100, 250), (100, 1_000), (100, 1_000), (100, 250)]
    assert all((chunk.sum(axis=0) == 30).all() for chunk in chunks)


def test_every_row_is_as_often_in_the_window():
    chunk = np.concatenate(list(relabellings(labels(30, 70), 1_000, np.random.default_rng(0))), axis=1)
    assert np.allclose(chunk.mean(axis=1), 0.3, atol=0.07)


def test_strata_keep_their_number_of_window_rows():
    strata_N = np.array([0] * 10 + [1] * 20 + [0] * 40 + [1] * 30)
    (chunk,) = relabellings(labels(30, 70), 250, np.random.default_rng(0), strata_N=strata_N)
    assert (chunk[strata_N == 0].sum(axis=0) == 10).all()
    assert (chunk[strata_N == 1].sum(axis=0) == 20).all()


def test_blocks_move_together_but_for_one_that_may_be_cut():
    blocks_N = np.arange(100) // 10
    (chunk,) = relabellings(labels(35, 65), 250, np.random.default_rng(0), blocks_N=blocks_N)
    sizes_KB = chunk.reshape(10, 10, -1).sum(axis=1)
    assert (((sizes_KB > 0) & (sizes_KB < 10)).sum(axis=0) <= 1).all()
    assert (chunk.sum(axis=0) == 35).all()


def test_p_is_never_0_and_counts_ties():
    tests = {"sum": lambda labels_NB: labels_NB.sum(axis=0), "first": lambda labels_NB: labels_NB[:30].sum(axis=0)}
    found = permutation_tests(tests, labels(30, 70), num_permutations=199, rng=np.random.default_rng(0))
    assert found["sum"].p_value == 1
    assert found["first"].p_value == pytest.approx(1 / 200)


@pytest.mark.parametrize(("blocks", "least", "most"), [(False, 0.15, 1.0), (True, 0.0, 0.1)])
def test_blocks_keep_the_level_where_rows_resemble_their_neighbours(blocks, least, most):
    rng = np.random.default_rng(0)
    blocks_N = np.arange(300) // 20
    alarms = 0
    for _ in range(200):
        values_N = np.repeat(rng.normal(size=15), 20) + rng.normal(size=300)
        tests = {"mean": lambda labels_NB, values_N=values_N: np.abs(values_N @ (labels_NB - labels_NB.mean(axis=0)))}
        found = permutation_tests(
            tests, labels(100, 200), num_permutations=199, rng=rng, blocks_N=blocks_N if blocks else None
        )
        alarms += found["mean"].p_value <= 0.05
    assert least <= alarms / 200 <= most


def test_time_blocks_are_hours_and_busy_hours_are_cut():
    timestamps_s_N = np.concatenate([np.arange(3) * 60.0, 3_600 + np.arange(97) * 10.0])
    blocks_N = time_blocks(timestamps_s_N)
    assert set(blocks_N[:3]) == {0}
    assert set(blocks_N[3:]) == set(range(1, 11))
    assert np.bincount(blocks_N).max() <= 10


def test_time_blocks_do_not_depend_on_the_order_of_rows():
    rng = np.random.default_rng(0)
    timestamps_s_N = np.sort(rng.random(200) * 50_000)
    shuffle = rng.permutation(200)
    assert np.array_equal(time_blocks(timestamps_s_N)[shuffle], time_blocks(timestamps_s_N[shuffle]))


def test_a_test_that_can_no_longer_be_significant_ends_early_with_a_valid_p():
    drawn = []

    def statistic(labels_NB):
        drawn.append(labels_NB.shape[1])
        return labels_NB[:30].sum(axis=0) + 0.5 * (labels_NB.shape[1] > 1)

    found = permutation_tests({"one": statistic}, np.repeat([0.0, 1.0], [70, 30]).astype(np.float32),
                              num_permutations=9_999, rng=np.random.default_rng(0))  # fmt: skip
    assert sum(drawn) == 1 + 250
    assert found["one"].p_value == ENOUGH / ENOUGH

    rng, small = np.random.default_rng(0), 0
    for _ in range(300):
        values_N = rng.normal(size=60)
        tests = {"mean": lambda labels_NB, values_N=values_N: values_N @ labels_NB}
        small += permutation_tests(tests, labels(20, 40), num_permutations=499, rng=rng)["mean"].p_value <= 0.1
    assert small / 300 <= 0.14


def alike(rng, n, rho):
    """Rows of three features that resemble the row before: an autoregression of unit variance."""
    rows_NF = rng.normal(size=(n, 3))
    for at in range(1, n):
        rows_NF[at] = rho * rows_NF[at - 1] + np.sqrt(1 - rho**2) * rows_NF[at]
    return rows_NF


def alarm(window_NF, rng, blocks):
    """At 5 %, against independent rows without an order in time."""
    values_NF = np.concatenate([window_NF, rng.normal(size=(400, 3))])
    blocks_N = np.concatenate([blocks, blocks.max() + 1 + np.arange(400)])
    found = permutation_tests(
        {"ks": largest_ks(values_NF)}, labels(len(window_NF), 400), num_permutations=199, rng=rng, blocks_N=blocks_N
    )
    return found["ks"].p_value <= 0.05


def test_with_an_autocorrelation_of_70_percent_rows_alarm_falsely_and_blocks_of_time_do_not():
    rng, alarms = np.random.default_rng(0), np.zeros(2)
    for _ in range(120):
        window_NF = alike(rng, 400, 0.7)
        alarms += [alarm(window_NF, rng, np.arange(400)), alarm(window_NF, rng, time_blocks(np.arange(400) * 30.0))]
    rows, blocks = alarms / 120
    assert rows > 0.2
    assert blocks <= 0.1
