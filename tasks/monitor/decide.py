"""From evidence to a state and an action; drift alone never retrains, harm always asks for it.

| state | means | action |
|---|---|---|
| no_drift | nothing significant, or too few rows to say | none |
| mix_only | other shares of the same classes | correct_prior |
| suspect | the input moved; whether it hurts is not known | audit |
| harm | audited accuracy fell by more than the tolerance | retrain, unless the cooldown lasts |
"""

import hashlib
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from tasks.monitor.config import MonitorConfig
from tasks.monitor.drift import DriftEvidence
from tasks.monitor.harm import HarmEvidence
from tasks.types import DriftReport, DriftState

Action = Literal["none", "correct_prior", "audit", "retrain"]


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What follows from one look."""

    report: DriftReport
    action: Action
    reason: str
    key: str
    """Equal for the same action on the same champion, window, labels and reference, which need not be taken twice."""


def decide(
    drift: DriftEvidence,
    harm: HarmEvidence,
    *,
    config: MonitorConfig,
    champion_sha256: str,
    last_retrain_at: datetime | None,
    now: datetime,
) -> Decision:
    """The state and the action, in words too. Pure: both times are given, in one time zone."""
    state = _state(drift, harm)
    wait = _cooldown(config, last_retrain_at, now) if state == "harm" else timedelta(0)
    actions: dict[DriftState, Action] = {"no_drift": "none", "mix_only": "correct_prior", "suspect": "audit"}
    action: Action = actions[state] if state != "harm" else "none" if wait > timedelta(0) else "retrain"
    reason = _reason(state, drift, harm, config, wait)
    key = _key(champion_sha256, drift, harm, action)
    evidence = {"drift": asdict(drift), "harm": asdict(harm), "action": action, "reason": reason, "key": key}
    return Decision(report=DriftReport(state=state, evidence=evidence), action=action, reason=reason, key=key)


def _state(drift: DriftEvidence, harm: HarmEvidence) -> DriftState:
    if harm.harmful:
        return "harm"
    if not drift.drifted:
        return "no_drift"
    return "mix_only" if drift.mix_only else "suspect"


def _cooldown(config: MonitorConfig, last_retrain_at: datetime | None, now: datetime) -> timedelta:
    """How long no retrain may start yet."""
    if last_retrain_at is None:
        return timedelta(0)
    return max(timedelta(0), last_retrain_at + timedelta(minutes=config.cooldown_minutes) - now)


def _key(champion_sha256: str, drift: DriftEvidence, harm: HarmEvidence, action: Action) -> str:
    """The action is part of it, so that a look which the cooldown held back does not hide the one that may retrain."""
    labels = f"{harm.num_labels}/{harm.num_errors}"
    parts = (champion_sha256, drift.window_sha256, drift.reference_sha256, labels, action)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _reason(state: DriftState, drift: DriftEvidence, harm: HarmEvidence, config: MonitorConfig, wait: timedelta) -> str:
    """What a reviewer reads."""
    labels = _labels_in_words(harm, config)
    if state == "harm":
        held = f"; a retrain waits for the cooldown, {wait.total_seconds() / 60:.0f} more minutes" if wait else ""
        return f"{labels}{held}"
    if not drift.enough:
        rows = f"too few rows to judge drift: {drift.num_rows:,} distinct texts, {config.min_window:,} are needed"
        return f"{rows}; {labels}"
    strongest = min(drift.tests, key=lambda name: drift.tests[name]["p_holm"])
    found = f"strongest test {strongest}, p {drift.tests[strongest]['p_holm']:.2g} against {drift.alpha:.2g}"
    if state == "no_drift":
        return f"no drift in {drift.num_rows:,} rows ({found}); {labels}"
    if state == "mix_only":
        moved = ", ".join(f"{name} {before:.1%} to {now:.1%}" for name, before, now in _largest_moves(drift))
        return f"only the class mix moved ({found}): {moved}; {labels}"
    return f"the input moved ({found}); {labels}"


def _labels_in_words(harm: HarmEvidence, config: MonitorConfig) -> str:
    if not harm.enough:
        return f"{harm.num_labels:,} audited labels, {config.min_labels:,} are needed to judge harm"
    accuracy = harm.accuracy.value if harm.accuracy else float("nan")
    new = f"; labels unknown to the champion: {', '.join(harm.new_labels[:5])}" if harm.new_labels else ""
    return (
        f"audited accuracy {accuracy:.1%} on {harm.num_labels:,} labels, {harm.baseline_accuracy:.1%} at the gate "
        f"(tolerance {100 * harm.tolerance:.1f} points, p {harm.p_value:.2g} against {harm.alpha:.2g}){new}"
    )


def _largest_moves(drift: DriftEvidence, most: int = 3) -> list[tuple[str, float, float]]:
    moves = [(name, drift.prior_reference[name], share) for name, share in drift.prior_window.items()]
    return sorted(moves, key=lambda move: -abs(move[2] - move[1]))[:most]


def evidence_json(decision: Decision) -> dict[str, Any]:
    """The decision as one JSON-able document, as it is stored before any event is emitted."""
    return {"state": decision.report.state, **decision.report.evidence}
