import pytest

from tasks.gate import GateConfig, judge_behaviour
from tasks.types import BehaviourResult


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
