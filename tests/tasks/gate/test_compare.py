from dataclasses import replace

import numpy as np
import pytest
import yaml
from pydantic import ValidationError
from scipy.stats import entropy

from bento.errors import UserError
from tasks.gate import GateConfig, MarginGate, judge, judge_limits
from tasks.types import GateReport, Predictions
from tests.tasks.gate.answers import NUM_CLASSES, pair, predictions, scores


def accuracy_verdict(candidate, reference, **config):
    return judge(candidate, reference, reference_name="teacher", config=GateConfig(**config))[0]


def test_the_yaml_of_the_design_is_accepted_with_whole_numbers():
    config = GateConfig.model_validate(yaml.safe_load("{accuracy: {margin: 0.01}, latency_p95_ms: 5, size_mb: 10}"))
    assert (config.accuracy.margin, config.latency_p95_ms, config.size_mb) == (0.01, 5.0, 10.0)


@pytest.mark.parametrize("tree", [{"acuracy": {}}, {"accuracy": {"margin": "0.01"}}, {"accuracy": {"margin": 0}}])
def test_a_wrong_key_or_value_is_refused(tree):
    with pytest.raises(ValidationError):
        GateConfig.model_validate(tree)


def test_equal_models_pass_and_the_evidence_is_there():
    verdict = accuracy_verdict(*pair(3_000, candidate_only=30, reference_only=30))
    assert (verdict.gate, verdict.outcome, verdict.n) == ("accuracy_vs_teacher", "pass", 3_000)
    assert verdict.limit == -0.01
    assert verdict.interval[0] > -0.01
    assert verdict.observed == 0


@pytest.mark.parametrize("points", [1, 2])
def test_a_candidate_worse_by_the_margin_or_twice_the_margin_fails(points):
    verdict = accuracy_verdict(*pair(3_000, candidate_only=30, reference_only=30 + 30 * points))
    assert verdict.outcome == "fail"
    assert verdict.needed_n is None
    assert f"{points}.0 points worse" in verdict.reason


def test_a_loss_within_the_margin_that_so_few_rows_cannot_show_is_inconclusive():
    verdict = accuracy_verdict(*pair(2_310, candidate_only=40, reference_only=50))
    assert verdict.outcome == "inconclusive"
    assert verdict.needed_n > 2_310
    assert f"{verdict.needed_n:,} rows would be needed, 2,310 were there" in verdict.reason
    assert "0.4 points worse" in verdict.reason


def test_a_tiny_test_set_is_inconclusive_even_for_a_perfect_candidate():
    verdict = accuracy_verdict(*pair(99, candidate_only=40, reference_only=0))
    assert (verdict.outcome, verdict.needed_n) == ("inconclusive", 100)


def test_perfect_agreement_on_few_rows_is_inconclusive_and_says_how_many_would_do():
    candidate, reference = pair(200, candidate_only=0, reference_only=0)
    verdict = accuracy_verdict(candidate, reference)
    assert verdict.outcome == "inconclusive"
    assert accuracy_verdict(*pair(verdict.needed_n, candidate_only=0, reference_only=0)).outcome == "pass"


def test_the_verdict_agrees_with_its_interval_over_many_counts():
    for reference_only in range(0, 70, 3):
        verdict = accuracy_verdict(*pair(1_500, candidate_only=20, reference_only=reference_only))
        assert (verdict.outcome == "pass") == (verdict.interval[0] > -0.01)


def test_missing_probabilities_fail_every_comparison():
    candidate, reference = pair(1_000, candidate_only=5, reference_only=5)
    candidate.probabilities_NC[7, 2] = np.nan
    config = GateConfig(macro_f1=MarginGate(), negative_flips=0.05)
    verdicts = judge(candidate, reference, reference_name="champion", config=config)
    assert [verdict.outcome for verdict in verdicts] == ["fail"] * 3
    assert all("1 of 1,000 rows" in verdict.reason for verdict in verdicts)


def test_no_rows_at_all_fail():
    assert accuracy_verdict(*pair(0, candidate_only=0, reference_only=0)).outcome == "fail"


def test_answers_on_different_or_reordered_rows_are_refused():
    candidate, reference = pair(300, candidate_only=5, reference_only=5)
    for ids in (("other", *candidate.ids[1:]), candidate.ids[::-1]):
        with pytest.raises(UserError, match="same rows"):
            accuracy_verdict(replace(candidate, ids=ids), reference)


def test_another_class_order_is_refused():
    candidate, reference = pair(300, candidate_only=5, reference_only=5)
    swapped = replace(candidate, labels_N=(candidate.labels_N + 1) % NUM_CLASSES)
    with pytest.raises(UserError, match="class order"):
        accuracy_verdict(swapped, reference)


def test_swapped_outputs_under_the_same_labels_fail():
    candidate, reference = pair(1_000, candidate_only=5, reference_only=5)
    swapped = replace(candidate, probabilities_NC=candidate.probabilities_NC[:, [1, 0, 2, 3]])
    assert accuracy_verdict(swapped, reference).outcome == "fail"


def test_a_different_number_of_classes_is_refused():
    candidate, reference = pair(300, candidate_only=5, reference_only=5)
    with pytest.raises(UserError, match="shapes"):
        accuracy_verdict(replace(candidate, probabilities_NC=candidate.probabilities_NC[:, :3]), reference)


def test_macro_f1_catches_a_ruined_small_class_that_accuracy_lets_pass():
    labels_N = np.repeat([0, 1, 2, 3], [1_900, 1_900, 1_900, 30])
    reference = predictions(labels_N, labels_N)
    candidate = predictions(np.where(labels_N == 3, 0, labels_N), labels_N)
    config = GateConfig(macro_f1=MarginGate(margin=0.02))
    accuracy, macro_f1 = judge(candidate, reference, reference_name="teacher", config=config)
    assert accuracy.outcome == "pass"
    assert macro_f1.outcome == "fail"


def test_macro_f1_of_near_equal_models_passes():
    candidate, reference = pair(4_000, candidate_only=20, reference_only=20)
    config = GateConfig(macro_f1=MarginGate(margin=0.01))
    verdict = judge(candidate, reference, reference_name="teacher", config=config)[1]
    assert (verdict.gate, verdict.outcome) == ("macro_f1_vs_teacher", "pass")
    assert verdict.interval[0] < verdict.observed < verdict.interval[1]


@pytest.mark.parametrize(("flips", "outcome"), [(10, "pass"), (48, "inconclusive"), (80, "fail")])
def test_negative_flips_are_limited_even_when_gains_outweigh_them(flips, outcome):
    candidate, reference = pair(1_000, candidate_only=150, reference_only=flips)
    verdict = judge(candidate, reference, reference_name="champion", config=GateConfig(negative_flips=0.05))[1]
    assert (verdict.gate, verdict.outcome) == ("negative_flips_vs_champion", outcome)


def test_the_worst_verdict_counts():
    candidate, reference = pair(3_000, candidate_only=30, reference_only=30)
    verdicts = judge(candidate, reference, reference_name="teacher", config=GateConfig())
    verdicts += judge_limits(candidate, scores(), GateConfig(size_mb=1))
    assert GateReport(verdicts=tuple(verdicts)).outcome == "fail"


@pytest.mark.parametrize(("loss", "least", "most"), [(0.01, 0.0, 0.065), (0.02, 0.0, 0.001), (-0.005, 0.9, 1.0)])
def test_promotion_rates_of_planted_candidates(loss, least, most):
    """1,000 test sets of 3,000 rows, 4 % disagreement: at the margin, at twice the margin, and better."""
    rng = np.random.default_rng(0)
    promoted = 0
    for b, c, _ in rng.multinomial(3_000, [0.02 - loss / 2, 0.02 + loss / 2, 0.96], size=1_000):
        candidate, reference = pair(3_000, candidate_only=int(b), reference_only=int(c))
        promoted += accuracy_verdict(candidate, reference).outcome == "pass"
    assert least <= promoted / 1_000 <= most


def one(gate, candidate, reference, **config):
    found = judge(candidate, reference, reference_name="teacher", config=GateConfig(**config))
    return next(verdict for verdict in found if verdict.gate == f"{gate}_vs_teacher")


def softened(answers, temperature):
    """The same answers with other probabilities."""
    logits_NC = np.log(0.97 * answers.probabilities_NC + 0.01) / temperature
    probabilities_NC = np.exp(logits_NC) / np.exp(logits_NC).sum(axis=1, keepdims=True)
    return replace(answers, probabilities_NC=probabilities_NC.astype(np.float32))


def test_brier_sees_probabilities_get_worse_where_all_answers_stay():
    _, reference = pair(2_000, candidate_only=0, reference_only=0, both_wrong=100)
    reference = softened(reference, 1.0)
    rule = MarginGate(margin=0.02)
    assert one("brier", reference, reference, brier=rule).outcome == "pass"
    worse = one("brier", softened(reference, 3.0), reference, brier=rule)
    assert (worse.outcome, worse.limit) == ("fail", 0.02)
    assert worse.observed > 0.02
    assert one("accuracy", softened(reference, 3.0), reference).observed == 0


def test_brier_on_few_rows_is_inconclusive_and_says_how_many_would_do():
    candidate, reference = pair(150, candidate_only=6, reference_only=6)
    verdict = one("brier", candidate, reference, brier=MarginGate(margin=0.02))
    assert verdict.outcome == "inconclusive"
    assert verdict.needed_n > 150


@pytest.mark.parametrize("seed", range(10))
def test_brier_without_a_loss_in_a_hundred_rows_does_not_rule_out_two_in_a_hundred(seed):
    rng = np.random.default_rng(seed)
    true_N = np.where(rng.random(100) < 0.75, 0.99, rng.uniform(0.4, 0.99, 100))
    probabilities_NC = np.repeat((1 - true_N)[:, None] / 4, 5, axis=1)
    probabilities_NC[:, 0] = true_N
    answers = Predictions(
        ids=tuple(map(str, range(100))), probabilities_NC=probabilities_NC,
        labels_N=np.zeros(100, dtype=np.int64), latency_ms_N=np.empty(0),
    )  # fmt: skip
    two_lost = 0.02 * 1.97  # each costs 0.99**2 + 0.99**2 or nearly so
    assert one("brier", answers, answers, brier=MarginGate(margin=two_lost)).outcome == "inconclusive"


@pytest.mark.parametrize(("temperature", "outcome"), [(1.0, "pass"), (4.0, "fail")])
def test_kl_limits_how_far_the_probabilities_move(temperature, outcome):
    reference = softened(pair(500, candidate_only=0, reference_only=0)[1], 1.0)
    verdict = one("kl", softened(reference, temperature), reference, kl=0.05)
    assert verdict.outcome == outcome


def test_kl_is_that_of_scipy():
    rng = np.random.default_rng(0)
    labels_N = rng.integers(0, NUM_CLASSES, 300)
    candidate, reference = (
        replace(
            predictions(labels_N, labels_N),
            probabilities_NC=rng.dirichlet(np.ones(NUM_CLASSES), 300).astype(np.float32),
        )
        for _ in range(2)
    )
    rows = zip(reference.probabilities_NC, candidate.probabilities_NC, strict=True)
    expected = np.mean([entropy(*row) for row in rows])
    assert one("kl", candidate, reference, kl=9.0).observed == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("candidate_only", "outcome"), [(60, "pass"), (32, "inconclusive"), (20, "fail")])
def test_superiority_needs_more_than_chance(candidate_only, outcome):
    verdict = one("superiority", *pair(1_000, candidate_only=candidate_only, reference_only=25), superiority=0.05)
    assert (verdict.outcome, verdict.limit) == (outcome, 0.0)


def test_parity_is_about_the_worst_row():
    _, reference = pair(500, candidate_only=0, reference_only=0)
    moved = reference.probabilities_NC.copy()
    moved[7] = [0.004, 0.004, 0.004, 0.988]
    candidate = replace(reference, probabilities_NC=moved)
    assert one("parity", candidate, reference, parity=0.02).outcome == "pass"
    verdict = one("parity", candidate, reference, parity=0.001)
    assert (verdict.outcome, verdict.n) == ("fail", 500)
    candidate.probabilities_NC[8] = np.nan
    assert one("parity", candidate, reference, parity=0.02).outcome == "fail"


@pytest.mark.parametrize(
    ("row", "told"), [([2.5, -1.0, 0.2, 0.1], "sums to 1.8"), ([0.9, 0.9, 0.1, 0.1], "sums to 2"), ([0.1] * 4, "0.4")]
)
def test_what_is_no_probability_is_refused(row, told):
    candidate, reference = pair(300, candidate_only=5, reference_only=5)
    candidate.probabilities_NC[3] = row
    with pytest.raises(UserError, match=rf"1 of 300 rows that are none \(row 'row-3' .*{told}"):
        accuracy_verdict(candidate, reference)


def test_a_reference_whose_retired_classes_were_left_out_is_no_fault():
    candidate, reference = pair(3_000, candidate_only=5, reference_only=5)
    reference.probabilities_NC[3] *= 0.5
    assert accuracy_verdict(candidate, reference).outcome == "pass"
