"""The gates of a retrain: on fresh traffic, and with another margin on the frozen test."""

from dataclasses import replace

import pytest

from bento.errors import UserError
from tasks.gate import GateConfig, MarginGate, judge_evidence, judge_fresh, no_verdict, with_frozen_margin
from tests.tasks.gate.answers import pair
from tests.tasks.gate.test_evidence import evidence

RULE = MarginGate(margin=0.05)


@pytest.mark.parametrize(
    ("n", "better", "worse", "outcome"),
    [(200, 30, 4, "pass"), (200, 4, 30, "fail"), (60, 5, 5, "inconclusive"), (40, 10, 0, "inconclusive")],
)
def test_a_candidate_is_judged_on_fresh_rows_and_few_of_them_are_no_verdict(
    n: int, better: int, worse: int, outcome: str
) -> None:
    candidate, champion = pair(n, candidate_only=better, reference_only=worse)
    (verdict,) = judge_fresh(candidate, {"champion": champion}, RULE, min_rows=50)
    assert (verdict.gate, verdict.outcome, verdict.n) == ("fresh_accuracy_vs_champion", outcome, n)
    assert verdict.needed_n is not None or outcome == "fail"


def test_no_fresh_row_at_all_is_inconclusive_and_says_how_many_are_needed() -> None:
    verdict = no_verdict("teacher", RULE, 0, 50)
    assert (verdict.gate, verdict.outcome, verdict.n, verdict.needed_n) == (
        "fresh_accuracy_vs_teacher", "inconclusive", 0, 50,
    )  # fmt: skip


def test_answers_on_other_rows_are_refused() -> None:
    candidate, champion = pair(60, candidate_only=1, reference_only=1)
    with pytest.raises(UserError, match="on the same rows"):
        judge_fresh(candidate, {"champion": replace(champion, ids=champion.ids[::-1])}, RULE, min_rows=50)


def test_a_loss_on_the_frozen_test_is_allowed_against_the_champion_alone_and_only_where_it_is_asked_for() -> None:
    candidate, reference = pair(2_000, candidate_only=20, reference_only=120, both_wrong=0)
    found, config = evidence(candidate), GateConfig(macro_f1=MarginGate())
    both = {"teacher": reference, "champion": reference}
    moved = with_frozen_margin(config, 0.1)
    outcomes = {v.gate: v.outcome for v in judge_evidence(found, both, config, against={"champion": moved}).verdicts}
    assert (outcomes["accuracy_vs_teacher"], outcomes["accuracy_vs_champion"]) == ("fail", "pass")
    assert (outcomes["macro_f1_vs_teacher"], outcomes["macro_f1_vs_champion"]) == ("fail", "pass")
    assert with_frozen_margin(config, None) is config
