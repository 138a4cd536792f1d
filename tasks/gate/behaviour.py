"""The gates on behavioural tests."""

from collections.abc import Sequence

from tasks.gate.config import GateConfig
from tasks.gate.verdicts import NAN, share_at_most
from tasks.types import BehaviourResult, Outcome, Verdict


def judge_behaviour(
    results: Sequence[BehaviourResult], config: GateConfig, reference_name: str | None = "teacher"
) -> list[Verdict]:
    """One verdict for each behavioural test that has cases and whose kind has a limit.

    Changed test rows are a sample, judged by their exact interval as flips are; the cases of minimum functionality are
    all that there are, so their share is compared as it is. A kind without any case is inconclusive. `reference_name`
    is the other model that was tried on the cases, None where there was none.
    """
    verdicts = []
    limits = config.behaviour.model_dump(exclude_none=True) if config.behaviour else {}
    for kind, limit in limits.items():
        tried = [result for result in results if result.kind == kind and result.num_cases]
        verdicts += [_behaviour_verdict(result, limit, reference_name) for result in tried] or [_untried(kind, limit)]
    return verdicts


def _behaviour_verdict(result: BehaviourResult, limit: float, reference_name: str | None) -> Verdict:
    gate, failures, n = f"behaviour_{result.test}", result.candidate_failures, result.num_cases
    what = "cases failed"
    if reference_name is not None:
        what += f", {result.teacher_failures:,} by the {reference_name}"
    if result.kind != "minimum_functionality":
        return share_at_most(gate, failures, n, limit, what)
    outcome: Outcome = "pass" if failures / n <= limit else "fail"
    reason = f"{failures:,} of {n:,} {what}; limit {limit:.1%}"
    return Verdict(gate=gate, outcome=outcome, observed=failures / n, limit=limit, n=n, reason=reason)


def _untried(kind: str, limit: float) -> Verdict:
    reason = f"no test row can be changed by any test of behaviour.{kind}; add tests that fit the data"
    return Verdict(gate=f"behaviour_{kind}", outcome="inconclusive", observed=NAN, limit=limit, n=0, reason=reason)
