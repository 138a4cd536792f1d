import math
from dataclasses import replace

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from bento.errors import UserError
from tasks.gate import GateConfig, MarginGate, judge, judge_behaviour, judge_limits
from tasks.types import BehaviourResult, GateReport, Interval, Predictions, Scores

NUM_CLASSES = 4


def predictions(predicted_N, labels_N, ids=None):
    n = len(labels_N)
    return Predictions(
        ids=ids or tuple(f"row-{row}" for row in range(n)),
        probabilities_NC=np.eye(NUM_CLASSES, dtype=np.float32)[predicted_N],
        labels_N=labels_N,
        latency_ms_N=np.empty(0),
    )


def pair(n, *, candidate_only, reference_only, both_wrong=0):
    """A candidate and a reference with exactly these counts, answers spread over the classes."""
    labels_N = np.arange(n) % NUM_CLASSES
    wrong_N = (labels_N + 1) % NUM_CLASSES
    rows = np.arange(n)
    candidate_wrong = (rows < reference_only + both_wrong) & (rows >= 0)
    reference_wrong = (rows >= reference_only) & (rows < reference_only + both_wrong + candidate_only)
    return (
        predictions(np.where(candidate_wrong, wrong_N, labels_N), labels_N),
        predictions(np.where(reference_wrong, wrong_N, labels_N), labels_N),
    )


def accuracy_verdict(candidate, reference, **config):
    return judge(candidate, reference, reference_name="teacher", config=GateConfig(**config))[0]


def scores(**changes):
    whole = Scores(
        accuracy=Interval(value=0.92, low=0.91, high=0.93),
        macro_f1=Interval(value=0.9, low=0.89, high=0.91),
        num_rows=2_000,
        size_bytes=17_000_000,
        latency_ms_p50=0.4,
        latency_ms_p95=0.7,
        throughput_per_s=2_000.0,
    )
    return replace(whole, **changes)


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


@pytest.mark.parametrize(
    ("field", "limit", "outcome"),
    [
        ("latency_p95_ms", 0.7, "pass"),
        ("latency_p95_ms", 0.69, "fail"),
        ("latency_p50_ms", 0.3, "fail"),
        ("size_mb", 17, "pass"),
        ("size_mb", 16.9, "fail"),
        ("min_accuracy", 0.9, "pass"),
        ("min_accuracy", 0.915, "inconclusive"),
        ("min_accuracy", 0.93, "fail"),
    ],
)
def test_each_limit_decides(field, limit, outcome):
    (verdict,) = judge_limits(scores(), GateConfig.model_validate({field: limit}))
    assert (verdict.gate, verdict.outcome, verdict.limit) == (field, outcome, limit)


def test_an_unmeasured_metric_fails():
    missing = scores(latency_ms_p95=math.nan, accuracy=Interval(value=math.nan, low=math.nan, high=math.nan))
    verdicts = judge_limits(missing, GateConfig(latency_p95_ms=5, min_accuracy=0.5))
    assert [verdict.outcome for verdict in verdicts] == ["fail", "fail"]


def test_nothing_is_asked_that_the_config_leaves_out():
    assert judge_limits(scores(), GateConfig()) == []


def test_the_worst_verdict_counts():
    candidate, reference = pair(3_000, candidate_only=30, reference_only=30)
    verdicts = judge(candidate, reference, reference_name="teacher", config=GateConfig())
    verdicts += judge_limits(scores(), GateConfig(size_mb=1))
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


def behaviour_verdicts(failures, num_cases, kind="invariance", **limits):
    result = BehaviourResult(
        test="typos",
        kind=kind,
        num_cases=num_cases,
        teacher_failures=0,
        candidate_failures=failures,
        only_candidate=failures,
    )
    return judge_behaviour([result], GateConfig(behaviour=limits))


@pytest.mark.parametrize(
    ("failures", "num_cases", "outcome"),
    [(5, 200, "pass"), (30, 200, "fail"), (19, 200, "inconclusive"), (0, 20, "inconclusive"), (0, 40, "pass")],
)
def test_a_behavioural_test_passes_fails_or_has_too_few_cases(failures, num_cases, outcome):
    (verdict,) = behaviour_verdicts(failures, num_cases, invariance=0.1)
    assert (verdict.gate, verdict.outcome, verdict.n) == ("behaviour_typos", outcome, num_cases)


def test_plain_texts_are_all_there_are_so_few_of_them_decide():
    assert behaviour_verdicts(0, 3, "minimum_functionality", minimum_functionality=0.0)[0].outcome == "pass"
    (verdict,) = behaviour_verdicts(1, 3, "minimum_functionality", minimum_functionality=0.0)
    assert (verdict.outcome, verdict.reason) == ("fail", "1 of 3 cases failed, 0 by the teacher; limit 0.0%")


def test_a_kind_without_a_single_case_is_not_passed():
    (verdict,) = behaviour_verdicts(0, 0, invariance=0.1)
    assert (verdict.gate, verdict.outcome) == ("behaviour_invariance", "inconclusive")


def test_behaviour_without_a_limit_is_not_judged():
    assert behaviour_verdicts(200, 200) == []
    assert behaviour_verdicts(200, 200, "directional") == []
