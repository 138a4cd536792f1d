"""From evidence to a state and an action; drift alone never retrains, harm always asks for it.

| state | means | action |
|---|---|---|
| no_drift | nothing significant, or too few rows to say | none |
| mix_only | other shares of the same classes | correct_prior, once for each champion and mix |
| suspect | the input moved; whether it hurts is not known | audit, once for each champion and window, until it is |
| harm | audited accuracy fell by more than the tolerance | retrain |

A retrain soon after a change learns from few labels of the new time. So harm is not over before the accuracy is back:
once the new champion has as many labels again, and they say that it is still short of the accuracy before, harm asks
for the next retrain. Labels double each time, so these are few, and a gate stands before each promotion.
A retrain waits for the one under way and for the cooldown, and is left out where it costs more than it saves.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from tasks.monitor.config import MonitorConfig
from tasks.monitor.cost import Balance, balance
from tasks.monitor.drift import DriftEvidence
from tasks.monitor.harm import HarmEvidence
from tasks.stats.mix import same_mix
from tasks.stats.proportion import excess_error_p
from tasks.types import DriftReport, DriftState

Action = Literal["none", "correct_prior", "audit", "retrain"]
Prior = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Repair:
    """What the last retrain that harm asked for had to go by."""

    goal: float
    """Accuracy at the gate before the harm."""
    num_labels: int
    """Audited labels from after it began."""


@dataclass(frozen=True, kw_only=True)
class Past:
    """What earlier looks at this champion led to, so that nothing is asked for twice."""

    priors: Sequence[Prior] = ()
    """Class shares that the champion was corrected for, or that a correction was asked for."""
    audited: frozenset[str] = frozenset()
    """Digests of the windows whose rows were asked to be labelled."""
    retrain: str = ""
    """The retrain under way, in words; empty when there is none."""
    repair: Repair | None = None
    """The retrain that made this champion, if harm asked for it."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What follows from one look."""

    report: DriftReport
    action: Action
    reason: str
    key: str
    """Equal for the same action on the same champion, window, labels and reference, which need not be taken twice."""
    watch: bool
    """Whether more of the traffic is to be drawn for labels for a while: something moved or hurts. As only what was
    seen before decides it, the draw stays a random one."""


def decide(
    drift: DriftEvidence,
    harm: HarmEvidence,
    *,
    config: MonitorConfig,
    champion_sha256: str,
    last_retrain_at: datetime | None,
    now: datetime,
    past: Past | None = None,
) -> Decision:
    """The state and the action, in words too. Pure: both times are given, in one time zone."""
    past = past or Past()
    short = not harm.harmful and past.repair is not None and _is_short(harm, past.repair, config)
    state: DriftState = "harm" if short else _state(drift, harm)
    paid = balance(harm, config.cost) if state == "harm" and config.cost else None
    held = _held(state, drift, harm, paid, past, _cooldown(config, last_retrain_at, now))
    action = "none" if held else ACTIONS[state]
    still = f"still short of the {past.repair.goal:.1%} before the last retrain; " if short and past.repair else ""
    reason = f"{still}{_reason(state, drift, harm, config)}{_damage(drift)}{held or ASKS[action]}"
    key = _key(champion_sha256, drift, harm, action)
    evidence = {
        "drift": asdict(drift),
        "harm": asdict(harm),
        "balance": asdict(paid) if paid else None,
        "repair": asdict(_repair(harm, past.repair if short else None)) if state == "harm" else None,
        "champion_sha256": champion_sha256,
        "action": action,
        "reason": reason,
        "key": key,
    }
    return Decision(
        report=DriftReport(state=state, evidence=evidence),
        action=action,
        reason=reason,
        key=key,
        watch=state == "harm" or (state == "suspect" and not harm.settled),
    )


SHORT_LEVEL = 0.1
"""Of the test that the accuracy is not back; it is lenient, as the harm before it has passed the strict ones."""
ACTIONS: Mapping[DriftState, Action] = {
    "no_drift": "none",
    "mix_only": "correct_prior",
    "suspect": "audit",
    "harm": "retrain",
}
ASKS: Mapping[Action, str] = {
    "none": "",
    "correct_prior": "; its prior is to be corrected, no retrain",
    "audit": "; labels of the drifted rows decide whether it hurts, no retrain before",
    "retrain": "; a retrain was asked for",
}


def _state(drift: DriftEvidence, harm: HarmEvidence) -> DriftState:
    if harm.harmful:
        return "harm"
    if not drift.drifted:
        return "no_drift"
    return "mix_only" if drift.mix_only else "suspect"


def _is_short(harm: HarmEvidence, repair: Repair, config: MonitorConfig) -> bool:
    """Whether as many labels again as the last retrain had say that the accuracy is not back."""
    limit = 1 - repair.goal + config.tolerance
    told = harm.enough and harm.num_labels >= repair.num_labels
    return told and excess_error_p(harm.num_errors, harm.num_labels, limit=limit) <= SHORT_LEVEL


def _repair(harm: HarmEvidence, before: Repair | None) -> Repair:
    """What a retrain now has to go by; one that follows another has its labels too, and the same goal."""
    if before is None:
        found_after_drift = harm.alarms == ("after_drift",)
        return Repair(
            goal=harm.baseline_accuracy, num_labels=harm.num_after_drift if found_after_drift else harm.num_since
        )
    return Repair(goal=before.goal, num_labels=before.num_labels + harm.num_labels)


def _held(
    state: DriftState, drift: DriftEvidence, harm: HarmEvidence, paid: Balance | None, past: Past, wait: timedelta
) -> str:
    """Why the action of the state is not taken, as the end of a sentence; empty when it is."""
    if state == "mix_only" and any(same_mix(prior, drift.prior_window, drift.num_rows) for prior in past.priors):
        return "; this mix was answered by a correction of the prior before, no retrain"
    if state == "suspect" and harm.settled:
        return f"; {harm.num_after_drift:,} labels since then show no harm, no more are asked for"
    if state == "suspect" and drift.window_sha256 in past.audited:
        return "; labels of this window were asked for before, no retrain without them"
    if state != "harm":
        return ""
    if past.retrain:
        return f"; no second retrain beside the one under way ({past.retrain})"
    if wait > timedelta(0):
        return f"; a retrain waits for the cooldown, {wait.total_seconds() / 60:.0f} more minutes"
    return f"; no retrain: {paid.words}" if paid and not paid.worth_it else ""


def _cooldown(config: MonitorConfig, last_retrain_at: datetime | None, now: datetime) -> timedelta:
    """How long no retrain may start yet; one that a clock set back puts into the future holds nothing."""
    if last_retrain_at is None or last_retrain_at > now:
        return timedelta(0)
    return max(timedelta(0), last_retrain_at + timedelta(minutes=config.cooldown_minutes) - now)


def _key(champion_sha256: str, drift: DriftEvidence, harm: HarmEvidence, action: Action) -> str:
    """The action is part of it, so that a look which the cooldown held back does not hide the one that may retrain."""
    labels = f"{harm.num_labels}/{harm.num_errors}"
    parts = (champion_sha256, drift.window_sha256, drift.reference_sha256, labels, action)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _reason(state: DriftState, drift: DriftEvidence, harm: HarmEvidence, config: MonitorConfig) -> str:
    """What a reviewer reads."""
    labels = _labels_in_words(harm, config)
    if state == "harm":
        return labels
    if not drift.enough:
        rows = f"too few rows to judge drift: {drift.num_rows:,} distinct texts, {config.min_window:,} are needed"
        hidden = f"; {drift.num_unreadable:,} more were hashed or dropped by RETORT_LOG_TEXT" * bool(
            drift.num_unreadable
        )
        return f"{rows}{hidden}; {labels}"
    strongest = min(drift.tests, key=lambda name: drift.tests[name]["p_holm"])
    found = f"strongest test {strongest}, p {drift.tests[strongest]['p_holm']:.2g} against {drift.alpha:.2g}"
    if state == "no_drift":
        return f"no drift in {drift.num_rows:,} rows ({found}); {labels}"
    if state == "mix_only":
        moved = ", ".join(f"{name} {before:.1%} to {now:.1%}" for name, before, now in _largest_moves(drift))
        return f"only the class mix moved ({found}): {moved}; {labels}"
    return f"the input moved ({found}); {labels}"


def _damage(drift: DriftEvidence) -> str:
    """Rows that were left out for what is wrong with the log itself."""
    if not drift.num_damaged:
        return ""
    return f"; {drift.num_damaged:,} logged answers were left out: without probabilities, or stamped later than now"


def _labels_in_words(harm: HarmEvidence, config: MonitorConfig) -> str:
    if not harm.enough:
        return f"{harm.num_labels:,} audited labels, {config.min_labels:,} are needed to judge harm"
    accuracy = harm.accuracy.value if harm.accuracy else float("nan")
    over_time = f", evidence over time {harm.e_value:,.0f} of {harm.e_level:,.0f}" if harm.e_level else ""
    if harm.rise_level is not None:
        after = 1 - harm.errors_after_drift / harm.num_after_drift
        rise = f"z {harm.rise:.1f} of {harm.rise_level:.1f}"
        over_time += f"; {after:.1%} on {harm.num_after_drift:,} since the input moved, {rise}"
    new = f"; labels unknown to the champion: {', '.join(harm.new_labels[:5])}" if harm.new_labels else ""
    return (
        f"audited accuracy {accuracy:.1%} on {harm.num_labels:,} labels, {harm.baseline_accuracy:.1%} at the gate "
        f"(tolerance {100 * harm.tolerance:.1f} points, p {harm.p_value:.2g} against {harm.alpha:.2g}{over_time}){new}"
    )


def _largest_moves(drift: DriftEvidence, most: int = 3) -> list[tuple[str, float, float]]:
    moves = [(name, drift.prior_reference[name], share) for name, share in drift.prior_window.items()]
    return sorted(moves, key=lambda move: -abs(move[2] - move[1]))[:most]


def evidence_json(decision: Decision) -> dict[str, Any]:
    """The decision as one JSON-able document, as it is stored before any event is emitted."""
    return {"state": decision.report.state, **decision.report.evidence}
