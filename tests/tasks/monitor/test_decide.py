import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tasks.monitor.config import CostConfig, MonitorConfig
from tasks.monitor.decide import Past, Repair, decide, evidence_json
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
HARMED = replace(UNHARMED, harmful=True, num_errors=60, p_value=1e-6, accuracy=Interval(value=0.7, low=0.63, high=0.76))
UNLABELLED = replace(UNHARMED, enough=False, num_labels=3)


DEAR = CONFIG.model_copy(update={"cost": CostConfig(retrain=1e9, error=1, requests_per_day=1_000)})
CHEAP = CONFIG.model_copy(update={"cost": CostConfig(retrain=10, error=1, requests_per_day=1_000)})


def decided(drift, harm, *, last_retrain_at=None, champion="c", config=CONFIG, past=None):
    return decide(
        drift,
        harm,
        config=config,
        champion_sha256=champion,
        last_retrain_at=last_retrain_at,
        now=NOW,
        past=past,
    )


def test_suspicion_that_many_labels_since_then_did_not_confirm_asks_for_no_more():
    open_still = decided(DRIFTED, replace(UNHARMED, num_after_drift=999))
    assert (open_still.action, open_still.watch) == ("audit", True)
    settled = decided(DRIFTED, replace(UNHARMED, num_after_drift=1_000, settled=True))
    assert (settled.report.state, settled.action, settled.watch) == ("suspect", "none", False)
    assert "1,000 labels since then show no harm" in settled.reason


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
        (QUIET, HARMED, "audited accuracy 70.0% on 200 labels, 92.0% at the gate"),
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


def test_texts_that_the_log_hid_are_named_where_too_few_are_left():
    decision = decided(replace(TOO_FEW, num_unreadable=812), UNHARMED)
    assert decision.report.state == "no_drift"
    assert "hashed" not in decided(TOO_FEW, UNHARMED).reason
    assert "812 more were hashed or dropped by RETORT_LOG_TEXT" in decision.reason


WORLD = list(
    itertools.product(
        [QUIET, TOO_FEW, MIXED, DRIFTED],
        [UNHARMED, UNLABELLED, HARMED],
        [None, NOW - timedelta(minutes=20), NOW - timedelta(days=2), NOW + timedelta(days=2)],
        [CONFIG, DEAR, CHEAP],
        [
            Past(),
            Past(retrain="run 7"),
            Past(priors=(QUIET.prior_window,)),
            Past(audited=frozenset({"w"})),
        ],
    )
)
"""Everything that a decision depends on, each with all others."""


@pytest.mark.parametrize("harm", [UNHARMED, UNLABELLED])
def test_drift_alone_never_retrains_whatever_else_is_so(harm):
    for drift, other, last, config, past in WORLD:
        if other is harm:
            assert decided(drift, harm, last_retrain_at=last, config=config, past=past).action != "retrain"


def test_harm_retrains_exactly_unless_cooldown_cost_or_a_retrain_under_way_hold_it():
    for drift, harm, last, config, past in WORLD:
        if harm is HARMED:
            cooling = last == NOW - timedelta(minutes=20)
            held = cooling or config is DEAR or bool(past.retrain)
            decision = decided(drift, harm, last_retrain_at=last, config=config, past=past)
            assert (decision.report.state, decision.action) == ("harm", "none" if held else "retrain")


def test_every_decision_is_one_of_the_states_and_actions_never_a_promotion_and_says_why():
    for drift, harm, last, config, past in WORLD:
        decision = decided(drift, harm, last_retrain_at=last, config=config, past=past)
        assert decision.report.state in {"no_drift", "mix_only", "suspect", "harm"}
        assert decision.action in {"none", "correct_prior", "audit", "retrain"}
        assert decision.reason == evidence_json(decision)["reason"]
        assert ("no retrain" in decision.reason) is (
            decision.report.state != "no_drift" and decision.action != "retrain" and "cooldown" not in decision.reason
            and "second" not in decision.reason
        )  # fmt: skip


def test_the_same_evidence_gives_the_same_decision():
    for drift, harm, last, config, past in WORLD[::7]:
        first = decided(drift, harm, last_retrain_at=last, config=config, past=past)
        assert first == decided(drift, harm, last_retrain_at=last, config=config, past=past)


@pytest.mark.parametrize(("loan", "action"), [(0.2, "none"), (0.23, "none"), (0.6, "correct_prior")])
def test_a_mix_that_was_answered_is_not_answered_again_and_another_one_is(loan, action):
    decision = decided(MIXED, UNHARMED, past=Past(priors=({"card": 1 - loan, "loan": loan},)))
    assert (decision.report.state, decision.action) == ("mix_only", action)


def test_what_was_done_about_the_mix_is_said_in_words():
    assert "card 50.0% to 80.0%" in decided(MIXED, UNHARMED).reason
    assert decided(MIXED, UNHARMED).reason.endswith("its prior is to be corrected, no retrain")
    again = decided(MIXED, UNHARMED, past=Past(priors=(MIXED.prior_window,)))
    assert again.reason.endswith("this mix was answered by a correction of the prior before, no retrain")


def test_labels_of_a_window_are_asked_for_once():
    assert decided(DRIFTED, UNHARMED).action == "audit"
    assert decided(DRIFTED, UNHARMED, past=Past(audited=frozenset({"w"}))).action == "none"
    assert decided(DRIFTED, UNHARMED, past=Past(audited=frozenset({"another"}))).action == "audit"


def test_a_retrain_under_way_is_named_and_no_second_starts_beside_it():
    decision = decided(QUIET, HARMED, past=Past(retrain="run brave-fox"))
    assert decision.action == "none"
    assert "no second retrain beside the one under way (run brave-fox)" in decision.reason


def test_a_retrain_that_costs_more_than_it_saves_is_left_out_with_both_sides_stored():
    decision = decided(QUIET, HARMED, config=DEAR)
    assert (decision.report.state, decision.action) == ("harm", "none")
    assert "it would save 4,800.00 (errors of 24.0% at least against 8.0% after it)" in decision.reason
    assert evidence_json(decision)["balance"]["cost"] == 1e9
    assert decided(QUIET, HARMED, config=CHEAP).action == "retrain"


def test_a_last_retrain_that_a_clock_set_back_puts_into_the_future_holds_nothing():
    assert decided(QUIET, HARMED, last_retrain_at=NOW + timedelta(days=300)).action == "retrain"


def test_damaged_rows_are_counted_in_the_reason():
    assert "7 logged answers were left out" in decided(replace(QUIET, num_damaged=7), UNHARMED).reason
    assert "left out" not in decided(QUIET, UNHARMED).reason


REPAIRED = Past(repair=Repair(goal=0.92, num_labels=100))
STILL_SHORT = replace(UNHARMED, num_labels=100, num_errors=18, baseline_accuracy=0.84)


def test_a_repair_from_few_labels_is_followed_by_another_once_as_many_again_say_that_it_falls_short():
    found = decided(DRIFTED, STILL_SHORT, past=REPAIRED)
    assert (found.report.state, found.action, found.watch) == ("harm", "retrain", True)
    assert found.reason.startswith("still short of the 92.0% before the last retrain")
    assert found.report.evidence["repair"] == {"goal": 0.92, "num_labels": 200}


@pytest.mark.parametrize(
    ("harm", "past"),
    [
        (replace(STILL_SHORT, num_labels=99), REPAIRED),
        (replace(STILL_SHORT, num_errors=9), REPAIRED),
        (replace(STILL_SHORT, enough=False), REPAIRED),
        (STILL_SHORT, Past()),
        (STILL_SHORT, Past(repair=Repair(goal=0.92, num_labels=400))),
    ],
)
def test_no_repair_follows_with_fewer_labels_or_once_the_accuracy_is_back(harm, past):
    assert decided(QUIET, harm, past=past).action == "none"


def test_harm_of_its_own_kind_is_a_repair_of_its_own_and_a_follow_up_waits_for_the_cooldown():
    fresh = decided(QUIET, replace(HARMED, num_since=70, baseline_accuracy=0.84), past=REPAIRED)
    assert fresh.report.evidence["repair"] == {"goal": 0.84, "num_labels": 70}
    assert decided(QUIET, UNHARMED).report.evidence["repair"] is None
    assert decided(QUIET, STILL_SHORT, past=REPAIRED, last_retrain_at=NOW - timedelta(minutes=5)).action == "none"
