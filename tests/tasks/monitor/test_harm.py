import numpy as np
import pytest

from bento.errors import UserError
from tasks.monitor.config import MonitorConfig
from tasks.monitor.harm import Baseline, audit, harm_alpha

CONFIG = MonitorConfig()
BASELINE = Baseline(num_errors=160, num_rows=2_000)


def audited(num_errors, n, *, config=CONFIG, true="card", **options):
    predicted = ["loan"] * num_errors + ["card"] * (n - num_errors)
    return audit([true] * n, predicted, known_labels=("card", "loan"), baseline=BASELINE, config=config, **options)


def test_a_planted_rise_of_the_error_is_harm():
    found = audited(60, 200)
    assert found.harmful
    assert found.p_value <= found.alpha
    assert found.accuracy.high < found.baseline_accuracy - found.tolerance


def test_an_equal_error_is_no_harm():
    assert not audited(16, 200).harmful


def test_a_rise_within_the_tolerance_is_no_harm_even_with_many_labels():
    assert not audited(1_200, 10_000).harmful


def test_too_few_labels_are_no_verdict_even_when_all_are_wrong():
    found = audited(49, 49)
    assert (found.enough, found.harmful) == (False, False)


def test_no_labels_are_no_crash():
    found = audited(0, 0)
    assert (found.num_labels, found.accuracy, found.harmful) == (0, None, False)


def test_labels_that_the_model_cannot_answer_count_as_errors_and_are_listed():
    found = audited(0, 60, true="insurance")
    assert found.num_errors == 60
    assert found.harmful
    assert found.new_labels == ("insurance",)


def test_a_baseline_of_few_rows_is_trusted_less():
    few = Baseline(num_errors=8, num_rows=100)
    options = {"known_labels": ("card", "loan"), "config": CONFIG}
    predicted = ["loan"] * 55 + ["card"] * 145
    assert audit(["card"] * 200, predicted, baseline=BASELINE, **options).harmful
    assert not audit(["card"] * 200, predicted, baseline=few, **options).harmful


def test_false_alarms_over_all_looks_stay_within_the_budget():
    """500 monitored lives of 90 looks at the tolerated error itself, each look on its own 100 labels."""
    rng = np.random.default_rng(0)
    harmful = np.array([audited(k, 100).harmful for k in range(101)])
    num_errors = rng.binomial(100, 0.08 + CONFIG.tolerance, size=(500, CONFIG.looks))
    assert harmful[num_errors].any(axis=1).mean() <= CONFIG.false_alarm_budget / 2


def test_confidences_sharpen_the_estimate():
    rng = np.random.default_rng(0)
    found = audited(20, 200, confidence_n=rng.random(200), confidence_N=rng.random(1_000))
    assert found.estimate.low < 0.9 < found.estimate.high
    assert audited(20, 200).estimate is None


def test_half_of_the_budget_is_spent_on_harm():
    assert 1 - (1 - harm_alpha(CONFIG)) ** CONFIG.looks == pytest.approx(0.05)


@pytest.mark.parametrize("baseline", [Baseline(num_errors=0, num_rows=0), Baseline(num_errors=5, num_rows=4)])
def test_an_impossible_baseline_is_refused(baseline):
    with pytest.raises(UserError, match="baseline"):
        audit([], [], known_labels=(), baseline=baseline, config=CONFIG)
