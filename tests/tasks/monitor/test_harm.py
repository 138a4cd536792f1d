from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from bento.errors import UserError
from tasks.monitor.config import MonitorConfig
from tasks.monitor.decide import decide
from tasks.monitor.harm import MISS_SHARE, Baseline, audit, error_limit, harm_alpha, harm_budget
from tasks.monitor.triage import Guess
from tasks.stats.proportion import clopper_pearson
from tests.tasks.monitor.test_decide import NOW, QUIET

CONFIG = MonitorConfig()
BASELINE = Baseline(num_errors=160, num_rows=2_000)


def audited(num_errors, n, *, config=CONFIG, true="card", wrong=None, **options):
    wrong = np.arange(n) < num_errors if wrong is None else wrong
    predicted = np.where(wrong, "loan", "card").tolist()
    return audit(
        [true] * len(predicted), predicted, known_labels=("card", "loan"), baseline=BASELINE, config=config, **options
    )


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
    predicted = ["loan"] * 46 + ["card"] * 154
    assert audit(["card"] * 200, predicted, baseline=BASELINE, **options).harmful
    assert not audit(["card"] * 200, predicted, baseline=few, **options).harmful


def test_false_alarms_stay_within_the_budget_while_labels_accumulate():
    """60 lives of 1,800 labels, looked at after every 100, at the limit itself, the worst that is no harm."""
    config = MonitorConfig(min_labels=20)
    rng, rate = np.random.default_rng(0), error_limit(BASELINE, config)
    lives = [life(rng.random(config.looks * 20) < rate, config) for _ in range(60)]
    most = binom.ppf(0.99, 60, harm_budget(config) * (1 - MISS_SHARE))
    assert sum(alarm is not None for alarm in lives) <= most


def test_a_rise_within_the_life_of_a_model_is_found_soon():
    """From the baseline's 8 % to 25 % after 600 labels."""
    config, rng = MonitorConfig(min_labels=20), np.random.default_rng(1)
    rates = np.repeat([0.08, 0.25], [600, 600])
    delays = [(life(rng.random(1_200) < rates, config) or 10_000) - 600 for _ in range(15)]
    assert min(delays) > 0
    assert np.median(delays) <= 200


def life(wrong, config, step=100):
    """The number of labels at the first look that finds harm, or None."""
    for n in range(step, len(wrong) + 1, step):
        said = np.where(wrong[:n], "loan", "card").tolist()
        if audit(["card"] * n, said, known_labels=("card", "loan"), baseline=BASELINE, config=config).harmful:
            return n
    return None


def test_an_audit_that_follows_the_evidence_alarms_no_more_often_without_harm():
    """60 lives at the limit itself, of 90 looks 400 requests apart, a fortieth of which is drawn, or, after a look with
    more errors among the newest labels or more evidence than usual, a quarter."""
    config = MonitorConfig(min_labels=20)
    rng, rate = np.random.default_rng(3), error_limit(BASELINE, config)
    most = binom.ppf(0.99, 60, harm_budget(config) * (1 - MISS_SHARE))
    assert sum(followed_life(rng, rate, config) for _ in range(60)) <= most


def followed_life(rng, rate, config):
    """Whether any look finds harm."""
    wrong, share = np.zeros(0, dtype=bool), 0.025
    for _ in range(config.looks):
        wrong = np.append(wrong, rng.random(rng.binomial(400, share)) < rate)
        said = np.where(wrong, "loan", "card").tolist()
        found = audit(["card"] * len(wrong), said, known_labels=("card", "loan"), baseline=BASELINE, config=config)
        if found.harmful:
            return True
        share = 0.25 if found.e_value > 2 or wrong[-40:].mean() > 1.2 * rate else 0.025
    return False


def test_labels_of_a_time_at_which_more_was_drawn_count_less():
    weights = np.repeat([20.0, 20 / 6], [100, 100])
    said = ["card"] * 100 + ["loan"] * 50 + ["card"] * 50
    options = {"known_labels": ("card", "loan"), "baseline": BASELINE, "config": CONFIG}
    found, plain = (audit(["card"] * 200, said, **options, **more) for more in ({"weights_n": weights}, {}))
    assert (plain.accuracy.value, found.accuracy.value) == (0.75, pytest.approx(1 - 0.5 / 7))
    as_many = clopper_pearson(200 * found.accuracy.value, 200)
    assert found.accuracy.low < as_many.low
    assert found.accuracy.high > as_many.high
    assert (found.p_value, found.e_value) == (plain.p_value, plain.e_value)


def test_a_rise_after_many_good_labels_is_found_by_the_cusum_before_the_window_has_forgotten_them():
    said = ["card"] * 900 + (["loan"] * 2 + ["card"] * 3) * 20
    found = audit(["card"] * 1_000, said, known_labels=("card", "loan"), baseline=BASELINE, config=CONFIG)
    assert found.alarms == ("e_cusum",)
    assert found.harmful
    assert found.p_value > found.alpha
    assert found.e_value >= found.e_level
    assert max(value for _, value in found.e_path) >= found.e_level


def test_the_labels_since_a_rise_began_are_counted():
    said = ["card"] * 300 + ["loan"] * 40
    found = audit(["card"] * 340, said, known_labels=("card", "loan"), baseline=BASELINE, config=CONFIG)
    assert found.num_since == pytest.approx(40, abs=3)
    assert audited(0, 0).num_since == 0


def test_evidence_of_harm_that_is_over_does_not_alarm_for_ever():
    said = ["loan"] * 30 + ["card"] * 970
    found = audit(["card"] * 1_000, said, known_labels=("card", "loan"), baseline=BASELINE, config=CONFIG)
    assert max(value for _, value in found.e_path) >= found.e_level
    assert not found.harmful


def test_a_small_rise_from_the_start_is_found_by_the_exact_test():
    assert "exact" in audited(190, 1_000).alarms


def test_only_the_newest_window_of_labels_is_the_accuracy():
    said = ["loan"] * 500 + ["card"] * 1_000
    found = audit(["card"] * 1_500, said, known_labels=("card", "loan"), baseline=BASELINE, config=CONFIG)
    assert (found.num_labels, found.num_errors) == (1_000, 0)


@pytest.mark.parametrize("now", [0.0, 1.0])
def test_a_wild_guess_without_labels_changes_no_verdict(now):
    wild = Guess(method="planted", now=now, on_audited=now, error=now - 0.9, num_audited=200)
    for num_errors in (16, 60):
        plain, guessed = audited(num_errors, 200), audited(num_errors, 200, triage=(wild,))
        assert guessed == replace(plain, triage=(wild,))
        decided = [
            decide(QUIET, harm, config=CONFIG, champion_sha256="c" * 64, last_retrain_at=None, now=NOW)
            for harm in (plain, guessed)
        ]
        assert (decided[0].action, decided[0].key) == (decided[1].action, decided[1].key)


def test_confidences_sharpen_the_estimate():
    rng = np.random.default_rng(0)
    found = audited(20, 200, confidence_n=rng.random(200), confidence_N=rng.random(1_000))
    assert found.estimate.low < 0.9 < found.estimate.high
    assert audited(20, 200).estimate is None


def test_a_rise_too_small_to_be_found_without_drift_is_found_with_it():
    assert not audited(64, 500).harmful
    found = audited(64, 500, num_after_drift=500)
    assert found.alarms == ("after_drift",)
    assert (found.num_after_drift, found.errors_after_drift) == (500, 64)
    assert found.rise >= found.rise_level


def test_labels_from_before_the_drift_say_nothing_of_after_it():
    found = audited(64, 500, num_after_drift=400)
    assert (found.num_after_drift, found.errors_after_drift) == (400, 0)
    assert not found.harmful
    assert audited(64, 500, num_after_drift=49).rise_level is None


@pytest.mark.parametrize("number", [-1, 61])
def test_more_labels_after_the_drift_than_there_are_labels_are_refused(number):
    with pytest.raises(UserError, match="from 0 to 60 of the labels"):
        audited(0, 60, num_after_drift=number)


def test_a_window_of_labels_since_the_drift_settles_it():
    assert not audited(0, 1_000, num_after_drift=999).settled
    assert audited(0, 1_000, num_after_drift=1_000).settled
    assert not audited(300, 1_000, num_after_drift=1_000).settled, "harm is not settled"


def test_drift_without_harm_is_called_harm_no_more_often_than_its_budget():
    rng = np.random.default_rng(4)
    config = MonitorConfig(false_alarm_budget=0.2, min_labels=100)
    wrong = rng.random((200, 1_000)) < 0.08 + config.tolerance
    alarms = [
        any(
            "after_drift" in audited(0, 0, config=config, wrong=each[:n], num_after_drift=n).alarms
            for n in range(100, 1_001, 100)
        )
        for each in wrong
    ]
    assert np.mean(alarms) <= binom.ppf(0.999, 200, harm_budget(config)) / 200


def test_harm_gets_half_of_the_budget_and_its_parts_add_up():
    exact = 1 - (1 - harm_alpha(CONFIG)) ** CONFIG.looks
    baseline_miss = harm_budget(CONFIG) * MISS_SHARE
    assert harm_budget(CONFIG) == pytest.approx(0.05)
    assert 2 * exact + baseline_miss == pytest.approx(harm_budget(CONFIG))


@pytest.mark.parametrize("baseline", [Baseline(num_errors=0, num_rows=0), Baseline(num_errors=5, num_rows=4)])
def test_an_impossible_baseline_is_refused(baseline):
    with pytest.raises(UserError, match="baseline"):
        audit([], [], known_labels=(), baseline=baseline, config=CONFIG)
