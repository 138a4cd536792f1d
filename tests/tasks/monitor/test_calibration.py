"""The calibrated level keeps the budget in lives that it did not see, is less strict than a level per look, and says
when it could not be calibrated."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tasks.monitor.calibration import (
    MIN_ROWS,
    calibrate,
    fresh_share,
    make_calibration,
    read_calibration,
    window_size,
)
from tasks.monitor.config import MonitorConfig
from tasks.monitor.drift import look
from tasks.stats.proportion import clopper_pearson
from tasks.types import Artifact

spec = importlib.util.spec_from_file_location("made_up", Path(__file__).with_name("made_up.py"))
traffic = importlib.util.module_from_spec(spec)
spec.loader.exec_module(traffic)

CONFIG = MonitorConfig(false_alarm_budget=0.4, looks=10, permutations=499, min_window=100, window=100)
"""A large budget and few looks, so that a few dozen lives tell whether it is kept."""
NUM_LIVES = 10


def life(rng, windows):
    """A monitored life: whether any look of it alarms, at the calibrated level and at the level per look."""
    reference = traffic.make_reference(rng, 600)
    found = calibrate(reference, CONFIG, num_window=100, fresh=0.125, rng=rng, num_streams=200)
    looks = [look(reference, window, config=CONFIG, rng=rng, calibration=found) for window in windows(rng)]
    smallest = min(min(test["p_holm"] for test in each.tests.values()) for each in looks)
    return smallest <= found.alpha, smallest <= found.alpha_per_look, found


def overlapping(rng, **options):
    """Windows of 100 rows of which an eighth is new at each look."""
    whole = traffic.make_window(rng, 100 + 12 * CONFIG.looks, **options)
    for at in range(CONFIG.looks):
        rows = slice(12 * at, 12 * at + 100)
        yield replace(
            whole,
            texts=whole.texts[rows],
            embeddings_ND=whole.embeddings_ND[rows],
            probabilities_NC=whole.probabilities_NC[rows],
            descriptors={name: values[rows] for name, values in whole.descriptors.items()},
        )


@pytest.mark.slow
def test_lives_without_drift_alarm_within_the_budget_and_weak_drift_is_found_no_less_often_than_per_look():
    quiet = [life(np.random.default_rng(seed), overlapping) for seed in range(NUM_LIVES)]
    alarms = sum(calibrated for calibrated, _, _ in quiet)
    budget = CONFIG.false_alarm_budget / 2
    assert clopper_pearson(alarms, NUM_LIVES).low <= budget
    assert alarms >= sum(plain for _, plain, _ in quiet)
    assert np.mean([found.alpha / found.alpha_per_look for _, _, found in quiet]) > 1.2
    drifting = [
        life(np.random.default_rng(seed), lambda rng: overlapping(rng, shift=0.45)) for seed in range(NUM_LIVES // 2)
    ]
    assert sum(calibrated for calibrated, _, _ in drifting) >= sum(plain for _, plain, _ in drifting)


def test_windows_that_overlap_more_allow_a_less_strict_level():
    rng = np.random.default_rng(0)
    reference = traffic.make_reference(rng, 600)
    config = MonitorConfig(false_alarm_budget=0.2, looks=30)
    strict, loose = (
        calibrate(reference, config, num_window=200, fresh=fresh, rng=np.random.default_rng(1), num_streams=300)
        for fresh in (1.0, 0.125)
    )
    assert loose.alpha > strict.alpha >= strict.alpha_per_look


def test_with_too_few_rows_the_level_is_that_per_look_and_the_evidence_says_so():
    rng = np.random.default_rng(0)
    reference = traffic.make_reference(rng, 2 * (MIN_ROWS - 1))
    found = calibrate(reference, CONFIG, num_window=100, fresh=1.0, rng=rng)
    assert (found.alpha, found.num_rows) == (found.alpha_per_look, 0)
    evidence = look(reference, traffic.make_window(rng, 100), config=CONFIG, rng=rng, calibration=found)
    assert "fewer than 200 held-out rows" in evidence.alpha_source


def test_it_is_made_once_for_windows_of_about_one_size(tmp_path, monkeypatch):
    monkeypatch.setenv("RETORT_HOME", str(tmp_path))
    rng = np.random.default_rng(0)
    reference = traffic.make_reference(rng, 500)
    artifact = Artifact(kind="features", path=tmp_path, sha256="0" * 64, parents=(), made_by="reference")
    config = MonitorConfig(looks=2, false_alarm_budget=0.2)
    first, second = (
        make_calibration(artifact, reference, config, num_window=num, fresh=fresh)
        for num, fresh in ((1_000, 0.2), (1_000, 0.25))
    )
    assert (first.cached, second.cached) == (False, True)
    assert read_calibration(second.artifact).source.startswith("calibrated on 1,000 replayed streams")


@pytest.mark.parametrize(("num_rows", "size"), [(200, 200), (399, 200), (401, 400), (999, 800), (1_000, 1_000)])
def test_a_window_is_calibrated_as_the_next_smaller_size(num_rows, size):
    assert window_size(num_rows, MonitorConfig()) == size


@pytest.mark.parametrize(("fresh", "share"), [(0.0, 0.125), (0.2, 0.25), (0.25, 0.25), (0.6, 1.0), (1.0, 1.0)])
def test_new_rows_are_rounded_up(fresh, share):
    assert fresh_share(fresh) == share
