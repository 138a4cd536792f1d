import math

import pytest

from tasks.gate import Evidence, GateConfig, HoldoutGate, MarginGate, Probes, SliceGate, judge_evidence
from tests.tasks.gate.answers import pair, scores


def evidence(candidate, **changes):
    values = {"predictions": candidate, "scores": scores(), "probes": Probes(num_texts=3_000), "num_judged": 1}
    return Evidence(**(values | changes))


def test_each_reference_and_the_candidate_alone_are_judged_at_once():
    candidate, reference = pair(3_000, candidate_only=30, reference_only=30)
    config = GateConfig(
        slices=(SliceGate(by="class"),), brier=MarginGate(margin=0.05), calibration_error=0.1, size_mb=20
    )
    columns = {"class": [str(label) for label in candidate.labels_N]}
    report = judge_evidence(evidence(candidate, columns=columns), {"teacher": reference, "champion": reference}, config)
    assert [verdict.gate for verdict in report.verdicts] == [
        "accuracy_vs_teacher", "brier_vs_teacher", "accuracy_vs_teacher_by_class",
        "accuracy_vs_champion", "brier_vs_champion", "accuracy_vs_champion_by_class",
        "calibration_error", "size_mb", "holdout_uses",
    ]  # fmt: skip
    assert report.outcome == "pass"


@pytest.mark.parametrize(
    ("num_judged", "limit", "outcome", "told"),
    [
        (1, None, "pass", "have judged 1 candidate, this one included"),
        (20, None, "pass", "20 that are worse by the margin let 1.0 pass: draw fresh rows"),
        (5, 5, "pass", "have judged 5 candidates"),
        (6, 5, "inconclusive", "after 5 (gate.holdout.limit) fresh rows are needed"),
    ],
)
def test_the_use_of_the_holdout_is_told_warned_of_and_limited(num_judged, limit, outcome, told):
    candidate, reference = pair(3_000, candidate_only=0, reference_only=0)
    config = GateConfig(holdout=HoldoutGate(limit=limit))
    report = judge_evidence(evidence(candidate, num_judged=num_judged), {"teacher": reference}, config)
    verdict = report.verdicts[-1]
    assert (verdict.gate, verdict.outcome, report.outcome) == ("holdout_uses", outcome, outcome)
    assert told in verdict.reason
    assert math.isnan(verdict.limit) is (limit is None)
