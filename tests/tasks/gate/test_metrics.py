"""The gates of label sets, scores and entities: planted faults are caught, equals pass, foreign gates are refused."""

import json
from dataclasses import replace

import numpy as np
import pytest

from bento.errors import UserError
from tasks.data.truths import write_entities
from tasks.gate import (
    GateConfig,
    MarginGate,
    Probes,
    SliceGate,
    check_gates,
    judge_measured,
    judge_metrics,
    judge_parts,
    metric_rules,
)
from tasks.gate.verdicts import rows_for_difference, rows_for_mean
from tasks.types import EntityPredictions, SigmoidPredictions

MARGIN = 0.05


def predictions(task, probabilities_NC, truth_NC):
    return SigmoidPredictions(
        ids=tuple(map(str, range(len(truth_NC)))), task=task, probabilities_NC=probabilities_NC.astype(np.float32),
        truth_NC=truth_NC.astype(np.float32), threshold=0.5, latency_ms_N=np.empty(0),
    )  # fmt: skip


def label_sets(num_rows, rng, wrong):
    """Truths, and answers of which a share `wrong` is turned round."""
    truth_NC = rng.random((num_rows, 4)) < 0.3
    return predictions("multi_label", truth_NC ^ (rng.random(truth_NC.shape) < wrong), truth_NC)


def spoilt(reference, rng, share):
    """A candidate that has in addition lost a share of the true labels that the reference found."""
    lost_NC = rng.random(reference.truth_NC.shape) < share
    return replace(reference, probabilities_NC=np.where(lost_NC, 0, reference.probabilities_NC).astype(np.float32))


def judge_one(candidate, reference, **gates):
    (verdict,) = judge_metrics(candidate, reference, reference_name="teacher", config=GateConfig(**gates))
    return verdict


def micro(candidate, reference):
    return judge_one(candidate, reference, micro_f1=MarginGate(margin=MARGIN))


def test_an_equal_model_passes_and_a_worse_one_fails():
    rng = np.random.default_rng(0)
    reference = label_sets(1_000, rng, wrong=0.1)
    assert micro(reference, reference).outcome == "pass"
    found = micro(spoilt(reference, rng, 0.2), reference)
    assert (found.outcome, found.gate) == ("fail", "micro_f1_vs_teacher")
    assert found.observed < -MARGIN


def test_a_model_that_is_worse_by_the_margin_passes_in_at_most_one_of_twenty_trials():
    rng = np.random.default_rng(1)
    share = _share_that_costs(MARGIN, rng)
    passed = 0
    for _ in range(120):
        reference = label_sets(300, rng, wrong=0.1)
        passed += micro(spoilt(reference, rng, share), reference).outcome == "pass"
    assert passed <= 12, "5 % of 120 are 6; 12 or more have a chance below 2 %"


@pytest.mark.parametrize("num_rows", [100, 200])
def test_a_loss_of_the_margin_that_shows_on_hardly_a_row_is_not_passed(num_rows):
    rng, passed = np.random.default_rng(num_rows), 0
    for _ in range(100):
        truth_NC = np.eye(5)[rng.integers(5, size=num_rows)]
        lost_N = rng.random(num_rows) < 0.01
        reference = predictions("multi_label", truth_NC, truth_NC)
        candidate = predictions(
            "multi_label", np.where(lost_N[:, None], np.roll(truth_NC, 1, axis=1), truth_NC), truth_NC
        )
        passed += judge_one(candidate, reference, micro_f1=MarginGate(margin=0.01)).outcome == "pass"
    assert passed <= 10


def test_two_models_that_answer_alike_need_as_many_rows_as_the_margin_asks_for():
    reference = label_sets(120, np.random.default_rng(0), wrong=0.1)
    found = judge_one(reference, reference, micro_f1=MarginGate(margin=0.01))
    assert (found.outcome, found.observed) == ("inconclusive", 0)
    assert 200 < found.needed_n < 1_000


def test_the_rows_asked_for_are_those_of_a_mean_and_of_an_exact_interval_at_the_ends():
    of_a_mean = rows_for_mean(500, 0.02, 0.01, 0.05)
    assert rows_for_difference(500, 0.02, 0.02, 0.01, 0.05) == of_a_mean
    assert rows_for_difference(100, 0.03, 0.0, 0.01, 0.05) == pytest.approx(299, abs=25), "the rule of three"
    assert of_a_mean < rows_for_difference(500, 0.025, 0.015, 0.01, 0.05) < 1.5 * of_a_mean
    assert rows_for_difference(500, 0.02, 0.02, 0.0, 0.05) is None


def _share_that_costs(margin, rng):
    """The share of lost labels at which micro-F1 falls by the margin, measured on many rows."""
    from tasks.stats.multi_label import micro_f1

    many = label_sets(100_000, rng, wrong=0.1)
    whole = micro_f1(many.chosen_NC, many.truth_NC)
    shares = np.linspace(0.02, 0.2, 37)
    falls = [whole - micro_f1(spoilt(many, rng, share).chosen_NC, many.truth_NC) for share in shares]
    return float(np.interp(margin, falls, shares))


def test_too_few_rows_are_inconclusive_and_the_gate_says_how_many_it_needs():
    rng = np.random.default_rng(2)
    reference = label_sets(120, rng, wrong=0.1)
    found = judge_one(spoilt(reference, rng, 0.03), reference, micro_f1=MarginGate(margin=0.02))
    assert found.outcome == "inconclusive"
    assert found.needed_n > 120
    few = label_sets(20, rng, wrong=0.1)
    assert (micro(few, few).outcome, micro(few, few).needed_n) == ("inconclusive", 100)


def test_a_missing_probability_fails():
    reference = label_sets(200, np.random.default_rng(3), wrong=0.1)
    holes_NC = reference.probabilities_NC.copy()
    holes_NC[5, 1] = np.nan
    assert micro(replace(reference, probabilities_NC=holes_NC), reference).outcome == "fail"


def test_a_broken_rare_label_is_seen_by_macro_f1_and_not_by_micro_f1():
    rng = np.random.default_rng(4)
    truth_NC = rng.random((4_000, 4)) < np.array([0.5, 0.5, 0.5, 0.01])
    reference = predictions("multi_label", truth_NC, truth_NC)
    broken_NC = truth_NC.copy()
    broken_NC[:, 3] = False
    config = GateConfig(micro_f1=MarginGate(margin=MARGIN), macro_f1=MarginGate(margin=MARGIN))
    candidate = predictions("multi_label", broken_NC, truth_NC)
    found = judge_metrics(candidate, reference, reference_name="teacher", config=config)
    assert [(verdict.gate, verdict.outcome) for verdict in found] == [
        ("micro_f1_vs_teacher", "pass"), ("macro_f1_vs_teacher", "fail"),
    ]  # fmt: skip


def test_scores_are_judged_by_their_correlations():
    rng = np.random.default_rng(5)
    truth_N1 = rng.random((800, 1))
    reference = predictions("score", truth_N1 + rng.normal(size=truth_N1.shape) * 0.1, truth_N1)
    noisier = replace(reference, probabilities_NC=reference.probabilities_NC + rng.normal(size=(800, 1)) * 0.3)
    config = GateConfig(spearman=MarginGate(margin=0.02), pearson=MarginGate(margin=0.02))
    same = judge_metrics(reference, reference, reference_name="champion", config=config)
    worse = judge_metrics(noisier, reference, reference_name="champion", config=config)
    assert [verdict.outcome for verdict in same] == ["pass", "pass"]
    assert [verdict.outcome for verdict in worse] == ["fail", "fail"]


def test_the_first_metric_of_a_task_is_judged_by_even_when_no_gate_names_it():
    assert metric_rules(GateConfig(), "multi_label") == {"micro_f1": MarginGate()}
    assert metric_rules(GateConfig(pearson=MarginGate(margin=0.1)), "score").keys() == {"spearman", "pearson"}


def calibrated(num_rows, rng):
    """Label probabilities that are as often right as they say."""
    probabilities_NC = rng.random((num_rows, 4))
    return predictions("multi_label", probabilities_NC, rng.random((num_rows, 4)) < probabilities_NC)


def calibration(candidate, **gates):
    (verdict,) = judge_measured(candidate, Probes(num_texts=0), GateConfig(calibration_error=0.05, **gates))
    assert verdict.gate == "calibration_error"
    return verdict


def test_the_confidence_of_the_labels_that_are_answered_is_judged():
    whole = calibrated(2_000, np.random.default_rng(0))
    assert calibration(whole).outcome == "pass"
    assert "answers" in calibration(whole).reason
    sure_NC = np.where(whole.chosen_NC, 0.99, whole.probabilities_NC).astype(np.float32)
    found = calibration(replace(whole, probabilities_NC=sure_NC))
    assert (found.outcome, round(found.observed, 1)) == ("fail", 0.2), "of those from one half on, 3 in 4 are true"
    silent = replace(whole, probabilities_NC=np.full_like(whole.probabilities_NC, 0.1))
    assert (calibration(silent).outcome, calibration(silent).needed_n) == ("inconclusive", 100)


def test_the_confidence_of_the_entities_that_are_found_is_judged():
    rng = np.random.default_rng(1)
    reference, rows = entities(1_500, rng)
    half_wrong = altered(reference, rows, rng, 0.5, lambda one: (one[0], one[1] - 1, one[2]))
    for said, outcome in ((0.5, "pass"), (0.9, "fail"), (0.46, "inconclusive")):
        told = tuple(json.dumps([said] * len(row)) for row in rows)
        assert calibration(replace(half_wrong, confidences=told)).outcome == outcome
    assert calibration(half_wrong).outcome == "fail", "no confidence was said"


def test_the_brier_loss_of_label_sets_sees_a_fault_below_the_threshold():
    whole = calibrated(2_000, np.random.default_rng(2))
    hidden_NC = np.where(whole.chosen_NC, whole.probabilities_NC, 0).astype(np.float32)
    hidden = replace(whole, probabilities_NC=hidden_NC)
    assert calibration(hidden).outcome == "pass", "what is answered is as it was"
    asked = GateConfig(brier={"margin": 0.05})
    outcomes = [
        judge_metrics(candidate, whole, reference_name="teacher", config=asked)[1] for candidate in (whole, hidden)
    ]
    assert [(one.gate, one.outcome) for one in outcomes] == [
        ("brier_vs_teacher", "pass"), ("brier_vs_teacher", "fail"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("gates", "task", "why"),
    [
        ({"calibration_error": 0.1}, "score", "a score is a place on a scale and no probability"),
        ({"brier": MarginGate()}, "score", "a score is a place on a scale and no probability"),
        ({"brier": MarginGate()}, "entities", "what is not found has no probability.*gate.calibration_error"),
    ],
)
def test_calibration_is_refused_with_the_reason_where_there_is_none(gates, task, why):
    with pytest.raises(UserError, match=why):
        check_gates(GateConfig(**gates), task)
    check_gates(GateConfig(calibration_error=0.1), "entities")
    check_gates(GateConfig(calibration_error=0.1, brier=MarginGate()), "multi_label")


@pytest.mark.parametrize(
    ("gates", "task"),
    [
        ({"accuracy": MarginGate()}, "multi_label"),
        ({"kl": 0.1}, "multi_label"),
        ({"micro_f1": MarginGate()}, "score"),
        ({"spearman": MarginGate()}, "single_label"),
        ({"calibration_error": 0.1}, "score"),
    ],
)
def test_a_gate_of_another_task_is_refused_by_name(gates, task):
    with pytest.raises(UserError, match=rf"gate\.{next(iter(gates))}: a model of data.task {task}"):
        check_gates(GateConfig(**gates), task)
    check_gates(GateConfig(size_mb=5, parity=0.1), task)


def test_answers_on_other_rows_are_refused():
    reference = label_sets(200, np.random.default_rng(6), wrong=0.1)
    shuffled = replace(reference, ids=reference.ids[::-1])
    with pytest.raises(UserError, match="same rows in the same order"):
        micro(shuffled, reference)


def entities(num_rows, rng):
    """Rows of up to three entities of two types, all of them found."""
    rows = [
        [(10 * at, 10 * at + 4, "ab"[rng.integers(2)]) for at in range(3) if rng.random() < 0.7]
        for _ in range(num_rows)
    ]
    written = tuple(write_entities(row) for row in rows)
    ids = tuple(map(str, range(num_rows)))
    return EntityPredictions(ids=ids, types=("a", "b"), answers=written, truth=written, latency_ms_N=np.empty(0)), rows


def altered(reference, rows, rng, share, change):
    """A candidate that answers `change` in place of a share of the entities."""
    answers = [[change(one) if rng.random() < share else one for one in row] for row in rows]
    return replace(reference, answers=tuple(write_entities(list(filter(None, row))) for row in answers))


@pytest.mark.parametrize(
    "fault",
    [
        lambda one: None,
        lambda one: (one[0], one[1] - 1, one[2]),
        lambda one: (one[0], one[1], "b" if one[2] == "a" else "a"),
    ],
    ids=["not found", "cut short", "of another type"],
)
def test_entities_that_are_missed_cut_or_taken_for_others_fail_the_gate(fault):
    rng = np.random.default_rng(4)
    reference, rows = entities(600, rng)
    asked = {"entity_f1": MarginGate(margin=MARGIN)}
    assert judge_one(reference, reference, **asked).outcome == "pass"
    assert judge_one(altered(reference, rows, rng, 0.01, fault), reference, **asked).outcome == "pass"
    found = judge_one(altered(reference, rows, rng, 0.15, fault), reference, **asked)
    assert (found.gate, found.outcome) == ("entity_f1_vs_teacher", "fail")


def test_entities_worse_by_the_margin_pass_in_at_most_one_of_twenty_trials():
    rng = np.random.default_rng(5)
    passed = 0
    for _ in range(60):
        reference, rows = entities(300, rng)
        worse = altered(reference, rows, rng, MARGIN, lambda one: (one[0], one[1] - 1, one[2]))
        passed += judge_one(worse, reference, entity_f1=MarginGate(margin=MARGIN)).outcome == "pass"
    assert passed <= 7, "5 % of 60 are 3; 8 or more have a chance below 2 %"


def test_a_broken_type_is_seen_by_macro_f1():
    rng = np.random.default_rng(6)
    reference, rows = entities(600, rng)
    worse = altered(reference, rows, rng, 1.0, lambda one: one if one[2] == "a" else None)
    verdicts = judge_metrics(
        worse, reference, reference_name="teacher", config=GateConfig(macro_f1=MarginGate(margin=0.1))
    )
    assert {verdict.gate: verdict.outcome for verdict in verdicts}["macro_f1_vs_teacher"] == "fail"


def test_entities_have_no_probability_a_class_to_be_compared_by():
    with pytest.raises(UserError, match=r"gate.parity: a model of data.task entities"):
        check_gates(GateConfig(parity=0.1), "entities")


def test_a_broken_rare_label_or_type_is_seen_by_slices_by_class():
    rng = np.random.default_rng(4)
    truth_NC = rng.random((4_000, 3)) < np.array([0.5, 0.5, 0.05])
    reference = predictions("multi_label", truth_NC, truth_NC)
    broken = predictions("multi_label", truth_NC & (rng.random((4_000, 3)) < np.array([1, 1, 0.5])), truth_NC)
    config = GateConfig(micro_f1=MarginGate(margin=MARGIN), slices=[{"by": "class", "margin": 0.1}])
    names = {"class": ("joy", "love", "fear")}
    found = judge_metrics(broken, reference, reference_name="teacher", config=config, columns=names)
    assert [(one.gate, one.outcome) for one in found] == [
        ("micro_f1_vs_teacher", "pass"), ("micro_f1_vs_teacher_by_class", "fail"),
    ]  # fmt: skip
    assert "1 fail; worst is class=fear" in found[1].reason
    same = judge_metrics(reference, reference, reference_name="teacher", config=config, columns=names)
    assert [one.outcome for one in same] == ["pass", "pass"]
    whole, rows = entities(600, rng)
    worse = altered(whole, rows, rng, 1.0, lambda one: one if one[2] == "a" else None)
    types = {"class": ("a", "b")}
    found = judge_metrics(
        worse, whole, reference_name="teacher", config=GateConfig(slices=config.slices), columns=types
    )
    assert [one.outcome for one in judge_parts(worse, whole, ("a", "b"), "teacher", config.slices[0])] == [
        "pass",
        "fail",
    ]
    assert found[1].outcome == "fail"


def test_parts_of_the_rows_are_judged_apart_and_small_ones_do_not_decide():
    rng = np.random.default_rng(7)
    truth_N1 = rng.random((800, 1))
    reference = predictions("score", truth_N1 + rng.normal(size=truth_N1.shape) * 0.05, truth_N1)
    parts = ["mail" if at < 400 else "chat" if at < 780 else "fax" for at in range(800)]
    spoilt_N1 = np.where(np.array(parts)[:, None] == "chat", rng.random((800, 1)), reference.probabilities_NC)
    rule = SliceGate(by="channel", margin=0.1)
    found = judge_parts(replace(reference, probabilities_NC=spoilt_N1), reference, parts, "teacher", rule)
    assert [(one.gate, one.outcome) for one in found] == [
        ("spearman_vs_teacher[channel=chat]", "fail"), ("spearman_vs_teacher[channel=fax]", "inconclusive"),
        ("spearman_vs_teacher[channel=mail]", "pass"),
    ]  # fmt: skip
    with pytest.raises(UserError, match="a score has no class"):
        check_gates(GateConfig(slices=[{"by": "class"}]), "score")
