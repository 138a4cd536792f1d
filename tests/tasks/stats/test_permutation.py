import numpy as np
import pytest

from tasks.stats.permutation import permutation_tests, relabellings, time_blocks


def labels(num_window, num_reference):
    return np.repeat([1.0, 0.0], [num_window, num_reference]).astype(np.float32)


def test_every_relabelling_keeps_the_number_of_window_rows():
    chunks = list(relabellings(labels(30, 70), 2_500, np.random.default_rng(0)))
    assert [chunk.shape for chunk in chunks] == [(100, 1_000), (100, 1_000), (100, 500)]
    assert all((chunk.sum(axis=0) == 30).all() for chunk in chunks)


def test_every_row_is_as_often_in_the_window():
    (chunk,) = relabellings(labels(30, 70), 1_000, np.random.default_rng(0))
    assert np.allclose(chunk.mean(axis=1), 0.3, atol=0.07)


def test_strata_keep_their_number_of_window_rows():
    strata_N = np.array([0] * 10 + [1] * 20 + [0] * 40 + [1] * 30)
    (chunk,) = relabellings(labels(30, 70), 500, np.random.default_rng(0), strata_N=strata_N)
    assert (chunk[strata_N == 0].sum(axis=0) == 10).all()
    assert (chunk[strata_N == 1].sum(axis=0) == 20).all()


def test_blocks_move_together_but_for_one_that_may_be_cut():
    blocks_N = np.arange(100) // 10
    (chunk,) = relabellings(labels(35, 65), 500, np.random.default_rng(0), blocks_N=blocks_N)
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
