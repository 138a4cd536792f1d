import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tasks.monitor.config import MonitorConfig
from tasks.monitor.decide import decide, evidence_json
from tasks.monitor.drift import DriftEvidence
from tasks.monitor.harm import HarmEvidence
from tasks.types import Interval

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CONFIG = MonitorConfig()

QUIET = DriftEvidence(
    num_rows=1_000,
    num_reference=2_000,
    window_sha256="w",
    reference_sha256="r",
    enough=True,
    alpha=0.0006,
    num_permutations=9_999,
    tests={"embedding": {"statistic": 0.0, "p_value": 0.4, "p_holm": 1.0}},
    distances={},
    drifted=False,
    mix_only=False,
    residual={},
    prior_reference={"card": 0.5, "loan": 0.5},
    prior_window={"card": 0.8, "loan": 0.2},
    prior_check=None,
)
UNHARMED = HarmEvidence(
    num_labels=200,
    num_errors=16,
    accuracy=Interval(value=0.92, low=0.87, high=0.95),
    estimate=None,
    baseline_accuracy=0.92,
    baseline_rows=2_000,
    tolerance=0.05,
    p_value=0.9,
    alpha=0.0006,
    enough=True,
    harmful=False,
    new_labels=(),
)
DRIFTED = replace(QUIET, drifted=True, tests={"embedding": {"statistic": 0.1, "p_value": 0.0001, "p_holm": 0.0004}})
MIXED = replace(DRIFTED, mix_only=True)
TOO_FEW = replace(QUIET, enough=False, num_rows=12, tests={})
HARMED = replace(UNHARMED, harmful=True, num_errors=60, p_value=1e-6)
UNLABELLED = replace(UNHARMED, enough=False, num_labels=3)


def decided(drift, harm, *, last_retrain_at=None, champion="c"):
    return decide(drift, harm, config=CONFIG, champion_sha256=champion, last_retrain_at=last_retrain_at, now=NOW)


@pytest.mark.parametrize(
    ("drift", "harm", "state", "action"),
    [
        (QUIET, UNHARMED, "no_drift", "none"),
        (QUIET, UNLABELLED, "no_drift", "none"),
        (TOO_FEW, UNLABELLED, "no_drift", "none"),
        (MIXED, UNHARMED, "mix_only", "correct_prior"),
        (DRIFTED, UNHARMED, "suspect", "audit"),
        (DRIFTED, UNLABELLED, "suspect", "audit"),
        (QUIET, HARMED, "harm", "retrain"),
        (TOO_FEW, HARMED, "harm", "retrain"),
        (MIXED, HARMED, "harm", "retrain"),
        (DRIFTED, HARMED, "harm", "retrain"),
    ],
)
def test_each_evidence_has_its_state_and_action(drift, harm, state, action):
    decision = decided(drift, harm)
    assert (decision.report.state, decision.action) == (state, action)


@pytest.mark.parametrize("drift", [QUIET, MIXED, DRIFTED, TOO_FEW])
@pytest.mark.parametrize("harm", [UNHARMED, UNLABELLED])
def test_nothing_but_harm_retrains(drift, harm):
    assert decided(drift, harm).action != "retrain"


def test_the_cooldown_holds_a_retrain_back_and_says_for_how_long():
    decision = decided(QUIET, HARMED, last_retrain_at=NOW - timedelta(minutes=20))
    assert (decision.report.state, decision.action) == ("harm", "none")
    assert "40 more minutes" in decision.reason


def test_after_the_cooldown_a_retrain_starts():
    assert decided(QUIET, HARMED, last_retrain_at=NOW - timedelta(minutes=60)).action == "retrain"


def test_a_look_that_the_cooldown_held_back_does_not_hide_the_retrain_after_it():
    held = decided(QUIET, HARMED, last_retrain_at=NOW - timedelta(minutes=20))
    assert held.key != decided(QUIET, HARMED, last_retrain_at=NOW - timedelta(minutes=61)).key


def test_the_key_is_the_same_for_the_same_look_and_differs_for_another():
    assert decided(DRIFTED, HARMED).key == decided(DRIFTED, HARMED).key
    others = [
        decided(replace(DRIFTED, window_sha256="x"), HARMED),
        decided(replace(DRIFTED, reference_sha256="x"), HARMED),
        decided(DRIFTED, replace(HARMED, num_labels=201)),
        decided(DRIFTED, HARMED, champion="x"),
    ]
    assert len({decision.key for decision in (*others, decided(DRIFTED, HARMED))}) == 5


@pytest.mark.parametrize(
    ("drift", "harm", "words"),
    [
        (TOO_FEW, UNLABELLED, "too few rows to judge drift: 12 distinct texts, 200 are needed"),
        (DRIFTED, UNLABELLED, "3 audited labels, 50 are needed"),
        (MIXED, UNHARMED, "card 50.0% to 80.0%"),
        (DRIFTED, UNHARMED, "strongest test embedding, p 0.0004 against 0.0006"),
        (QUIET, HARMED, "audited accuracy 92.0% on 200 labels, 92.0% at the gate"),
        (QUIET, replace(UNHARMED, new_labels=("insurance",)), "unknown to the champion: insurance"),
    ],
)
def test_the_reason_says_what_was_seen(drift, harm, words):
    assert words in decided(drift, harm).reason


def test_the_stored_evidence_is_whole_and_json():
    stored = json.loads(json.dumps(evidence_json(decided(DRIFTED, UNHARMED)), allow_nan=False))
    assert (stored["state"], stored["action"]) == ("suspect", "audit")
    assert stored["drift"]["num_rows"] == 1_000
    assert stored["harm"]["num_labels"] == 200
