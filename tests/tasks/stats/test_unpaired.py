"""Intervals that hold at all looks, and a split that is not the planned one."""

import numpy as np
import pytest

from tasks.stats.unpaired import FIRST_RATIO_LOOK, difference_sequence, ratio_look, ratio_p

LOOKS = np.unique(np.geomspace(200, 20_000, 60).astype(int))


def covers_always(rng: np.random.Generator, share: float, better: float) -> bool:
    """One A/B test with accuracies of .85 + better and .85, looked at 60 times: does every interval hold the truth?"""
    n = int(LOOKS[-1])
    new = rng.random(n) < share
    right = rng.random(n) < np.where(new, 0.85 + better, 0.85)
    for t in LOOKS:
        arms = [right[:t][which[:t]] for which in (new, ~new)]
        moments = [(len(arm), float(arm.mean()), float(arm.var())) for arm in arms]
        found = difference_sequence(moments[0], moments[1])
        if found is None or not found.low <= better <= found.high:
            return False
    return True


@pytest.mark.parametrize("share", [0.5, 0.2])
def test_the_truth_is_inside_at_every_look_in_95_of_100_trials(share: float) -> None:
    rng = np.random.default_rng(11)
    assert np.mean([covers_always(rng, share, -0.02) for _ in range(300)]) >= 0.95


def test_the_interval_narrows_to_the_truth() -> None:
    few, many = (difference_sequence((n, 0.8, 0.16), (n, 0.85, 0.1275)) for n in (500, 50_000))
    assert few is not None
    assert many is not None
    assert few.low < 0 < few.high
    assert many.high < 0


def test_an_arm_without_data_has_no_interval() -> None:
    assert difference_sequence((0, 0.0, 0.0), (500, 0.8, 0.16)) is None


def test_a_planned_split_is_left_alone_and_a_lossy_one_is_caught() -> None:
    rng = np.random.default_rng(12)
    p = [ratio_p(new := int(rng.binomial(8_000, 0.2)), 8_000 - new, 0.2) for _ in range(1_000)]
    assert np.mean(np.array(p) < 0.001) <= 0.005
    assert ratio_p(round(0.95 * 0.5 * 20_000), 10_000, 0.5) < 0.001, "an arm that loses one request of twenty"


def test_the_ratio_is_judged_at_few_sizes_that_were_fixed_before() -> None:
    assert ratio_look(FIRST_RATIO_LOOK - 1) is None
    assert [ratio_look(FIRST_RATIO_LOOK * many) for many in (1, 1.9, 2, 5, 8)] == [0, 0, 1, 2, 3]  # type: ignore[arg-type]
