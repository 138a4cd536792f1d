import numpy as np
import pytest

from tasks.stats.dependence import design_effect


def in_runs(rng, num_runs, length, share, num_features=1):
    """Rows of variance 1, `share` of which all rows of a run have in common."""
    common = np.repeat(rng.normal(size=(num_runs, num_features)), length, axis=0)
    own = rng.normal(size=(num_runs * length, num_features))
    return np.sqrt(share) * common + np.sqrt(1 - share) * own


def test_independent_rows_are_worth_themselves():
    rng = np.random.default_rng(0)
    found = np.array([design_effect(rng.normal(size=(200, 1))) for _ in range(300)])
    assert (found == 1).mean() > 0.85
    assert found.mean() < 1.1


@pytest.mark.parametrize(("num_features", "share"), [(1, 0.5), (5, 0.5), (5, 0.2)])
def test_runs_of_rows_that_resemble_each_other_are_worth_as_many_fewer(num_features, share):
    """20 rows a run of which `share` is common: the mean varies 1 + 19 x share times as much."""
    rng = np.random.default_rng(0)
    found = [design_effect(in_runs(rng, 50, 20, share, num_features)) for _ in range(100)]
    assert np.mean(found) == pytest.approx(1 + 19 * share, rel=0.25)


def test_a_process_with_a_memory_has_the_effect_that_its_memory_says():
    """x[t] = .6 x[t - 1] + noise: 1.6 / .4."""
    rng, found = np.random.default_rng(0), []
    for _ in range(100):
        values = np.zeros(600)
        for at, noise in enumerate(rng.normal(size=600)):
            values[at] = 0.6 * values[at - 1] + noise
        found.append(design_effect(values[100:, None]))
    assert np.mean(found) == pytest.approx(4, rel=0.2)


def test_rows_that_are_all_the_same_are_no_crash():
    assert design_effect(np.ones((50, 3))) == 1
    assert design_effect(np.zeros((2, 1))) == 1
