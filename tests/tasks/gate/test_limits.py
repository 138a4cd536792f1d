import math

import numpy as np
import pytest

from tasks.gate import GateConfig, Probes, judge_limits, judge_measured
from tasks.types import Interval
from tests.tasks.gate.answers import pair, scores

ANSWERS, _ = pair(2_000, candidate_only=0, reference_only=160)


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
    (verdict,) = judge_limits(ANSWERS, scores(), GateConfig.model_validate({field: limit}))
    assert (verdict.gate, verdict.outcome, verdict.limit) == (field, outcome, limit)


def test_an_unmeasured_metric_fails():
    missing = scores(
        latency_ms_p95=math.nan, metrics={"accuracy": Interval(value=math.nan, low=math.nan, high=math.nan)}
    )
    verdicts = judge_limits(ANSWERS, missing, GateConfig(latency_p95_ms=5, min_accuracy=0.5))
    assert [verdict.outcome for verdict in verdicts] == ["fail", "fail"]


def test_an_answer_that_is_no_number_fails_the_floor_and_is_never_right():
    answers, _ = pair(2_000, candidate_only=0, reference_only=0)
    answers.probabilities_NC[:] = np.nan
    assert not answers.correct_N.any()
    (verdict,) = judge_limits(answers, scores(), GateConfig(min_accuracy=0.2))
    assert verdict.outcome == "fail"
    assert verdict.reason.startswith("2,000 of 2,000 rows have no finite probability")


def test_nothing_is_asked_that_the_config_leaves_out():
    assert judge_limits(ANSWERS, scores(), GateConfig()) == []


def confident(n, accuracy, confidence):
    """`n` answers of one confidence, of which a share `accuracy` is right."""
    answers, _ = pair(n, candidate_only=0, reference_only=round(n * (1 - accuracy)))
    others = (1 - confidence) / 3
    answers.probabilities_NC[:] = np.where(answers.probabilities_NC == 1, confidence, others)
    return answers


@pytest.mark.parametrize(
    ("n", "confidence", "outcome"), [(2_000, 0.9, "pass"), (2_000, 0.99, "fail"), (200, 0.93, "inconclusive")]
)
def test_calibration_is_judged_by_the_upper_end_of_its_interval(n, confidence, outcome):
    (verdict,) = judge_measured(confident(n, 0.9, confidence), Probes(num_texts=n), GateConfig(calibration_error=0.05))
    assert (verdict.gate, verdict.outcome) == ("calibration_error", outcome)
    assert verdict.interval[0] <= verdict.observed <= verdict.interval[1]


@pytest.mark.parametrize(
    ("num_texts", "num_unknown", "outcome"),
    [
        (1_000, 3, "pass"),
        (1_000, 9, "inconclusive"),
        (1_000, 30, "fail"),
        (50, 0, "inconclusive"),
        (1_000, None, "fail"),
    ],
)
def test_unknown_words_are_a_share_of_the_texts(num_texts, num_unknown, outcome):
    answers, _ = pair(1_000, candidate_only=0, reference_only=0)
    probes = Probes(num_texts=num_texts, num_unknown=num_unknown)
    (verdict,) = judge_measured(answers, probes, GateConfig(unknown_words=0.01))
    assert (verdict.gate, verdict.outcome) == ("unknown_words", outcome)


@pytest.mark.parametrize(("shift", "outcome"), [(0.0, "pass"), (2e-3, "fail"), (math.nan, "fail")])
def test_a_batch_may_not_move_an_answer(shift, outcome):
    answers, _ = pair(200, candidate_only=0, reference_only=0)
    (verdict,) = judge_measured(answers, Probes(num_texts=200, batch_shift=shift), GateConfig(batch_shift=1e-3))
    assert (verdict.gate, verdict.outcome) == ("batch_shift", outcome)
