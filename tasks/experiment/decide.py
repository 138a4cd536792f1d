"""From the evidence of one look to what is done; pure.

| phase | on | action |
|---|---|---|
| shadow | not worse proven, guardrails passed | next: A/B if the config has shares, else promote |
| ab | enough requests at this share, guardrails passed | next: the next share, or promote |
| shadow, ab | worse proven, in all or in one class; a guardrail broken; A/B accuracy below -delta | veto |
| shadow, ab | budget of labels or days used up; the split is not the planned one | inconclusive |
| watch | worse proven, or a guardrail broken | rollback |
| watch | watched long enough | keep |
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tasks.experiment.evidence import Evidence, Ratio
from tasks.experiment.guardrails import Guardrail
from tasks.experiment.table import Experiment

Action = Literal["wait", "next", "veto", "inconclusive", "rollback", "keep"]
DAY_S = 86_400


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What follows from one look, and why."""

    action: Action
    reason: str


def decide(experiment: Experiment, evidence: Evidence, now: float) -> Decision:
    """`now` in seconds since the epoch, as in the experiment."""
    harm = next(_harms(experiment, evidence), None)
    if experiment.phase == "watch":
        if harm is not None:
            return Decision(action="rollback", reason=harm)
        return _watched(experiment, evidence, now)
    if harm is not None:
        return Decision(action="veto", reason=harm)
    if evidence.ratio is not None and evidence.ratio.mismatch:
        return Decision(action="inconclusive", reason=_mismatch(evidence.ratio))
    if _proven(experiment, evidence):
        return Decision(action="next", reason=_proof(experiment, evidence))
    spent = _spent(experiment, evidence, now)
    if spent is not None:
        return Decision(action="inconclusive", reason=spent)
    return Decision(action="wait", reason=_waiting(experiment, evidence))


def _harms(experiment: Experiment, evidence: Evidence) -> Iterator[str]:
    """Each reason why the new model must not serve."""
    if evidence.worse.crossed_at is not None:
        yield (
            f"version {experiment.challenger.version} is worse than version {experiment.champion.version} by more than "
            f"{100 * experiment.config.delta:g} points ({_pairs(evidence)})"
        )
    for rail in evidence.guardrails:
        if rail.outcome == "fail":
            yield f"{_rail(rail)}, above the limit"
    for one in evidence.slices:
        if one.worse:
            yield (
                f"worse by more than {100 * experiment.config.guardrails.slice_delta:g} points where the older model "
                f"says {one.label!r}: {100 * one.difference:+.1f} points on {one.num_pairs:,} texts"
            )
    if evidence.accuracy is not None and evidence.accuracy.high < -experiment.config.delta:
        yield (
            f"audited accuracy in A/B is lower by {-100 * evidence.accuracy.high:.1f} points at least, "
            f"{100 * experiment.config.delta:g} are allowed"
        )


def _proven(experiment: Experiment, evidence: Evidence) -> bool:
    """No data is not a pass: each guardrail needs its requests."""
    passed = all(rail.outcome == "pass" for rail in evidence.guardrails)
    if experiment.phase == "ab":
        return passed and evidence.num_at_share >= experiment.config.min_requests
    return passed and evidence.better.crossed_at is not None


def _watched(experiment: Experiment, evidence: Evidence, now: float) -> Decision:
    days, labels = (now - experiment.phase_at) / DAY_S, evidence.num_labels
    long_enough = days >= experiment.config.watch_days
    if not long_enough and labels < experiment.config.watch_labels:
        return Decision(
            action="wait",
            reason=f"watched for {days:.1f} of {experiment.config.watch_days:g} days, {labels:,} of "
            f"{experiment.config.watch_labels:,} labels; {_pairs(evidence)}",
        )
    why = f"watched for {days:.1f} days and {labels:,} labels without harm; {_pairs(evidence)}"
    untested = [rail.name for rail in evidence.guardrails if rail.outcome != "pass"]
    return Decision(action="keep", reason=why + f"; not shown to pass: {', '.join(untested)}" * bool(untested))


def _spent(experiment: Experiment, evidence: Evidence, now: float) -> str | None:
    """Which budget is used up."""
    days = (now - experiment.started_at) / DAY_S
    if days >= experiment.config.max_days:
        return f"{experiment.config.max_days:g} days have passed; {_waiting(experiment, evidence)}"
    undecided = experiment.phase == "shadow" and evidence.better.crossed_at is None
    if undecided and evidence.num_labels >= experiment.config.max_labels:
        return f"all {experiment.config.max_labels:,} labels are used and decide nothing; {_pairs(evidence)}"
    return None


def _proof(experiment: Experiment, evidence: Evidence) -> str:
    if experiment.phase == "ab":
        return f"{evidence.num_at_share:,} requests at a share of {_share(experiment):g}, guardrails passed"
    return (
        f"version {experiment.challenger.version} is not worse than version {experiment.champion.version} by "
        f"{100 * experiment.config.delta:g} points or more ({_pairs(evidence)})"
    )


def _share(experiment: Experiment) -> float:
    return experiment.config.ab_share[experiment.step]


def _mismatch(ratio: Ratio) -> str:
    total = ratio.num_new + ratio.num_old
    return (
        f"sample ratio mismatch: the challenger was to have {ratio.share:.1%} of the units and had {ratio.num_new:,} "
        f"of {total:,} (p {ratio.p_value:.1g}), so nothing measured on this split counts; look for requests that one "
        "arm loses"
    )


def _waiting(experiment: Experiment, evidence: Evidence) -> str:
    """What is still missing."""
    open_rails = [_rail(rail) for rail in evidence.guardrails if rail.outcome != "pass"]
    rails = f"; not yet passed: {', '.join(open_rails)}" if open_rails else ""
    if experiment.phase == "ab":
        needed = experiment.config.min_requests
        return f"{evidence.num_at_share:,} of {needed:,} requests at a share of {_share(experiment):g}{rails}"
    if evidence.num_waiting and evidence.num_unreadable == evidence.num_waiting:
        return (
            f"{evidence.num_waiting:,} disagreements cannot be labelled, since their text was hashed or dropped; set "
            f"RETORT_LOG_TEXT to keep or redact{rails}"
        )
    needed_labels = f", about {evidence.needed_labels:,} are needed" if evidence.needed_labels else ""
    return f"{_pairs(evidence)}; {evidence.num_waiting:,} disagreements wait for a label{needed_labels}{rails}"


def _pairs(evidence: Evidence) -> str:
    known = "" if evidence.difference is None else f", {100 * evidence.difference:+.2f} points"
    return f"{evidence.num_pairs:,} texts, {evidence.num_labels:,} labelled disagreements{known}"


def _rail(rail: Guardrail) -> str:
    name = rail.name.replace("_", " ")
    if not rail.n:
        return f"{name}, as nothing was counted yet"
    return f"{name} {rail.num_bad / rail.n:.2%} of {rail.n:,} (limit {rail.limit:.2%})"
