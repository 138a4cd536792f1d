"""Everything that is known of a candidate, judged at once: the one gate of build, promotion and `retort gate`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bento.errors import UserError
from tasks.gate.behaviour import judge_behaviour
from tasks.gate.compare import judge
from tasks.gate.config import GateConfig, HoldoutGate
from tasks.gate.limits import judge_limits, judge_measured
from tasks.gate.metrics import judge_metrics
from tasks.gate.probes import Probes
from tasks.gate.verdicts import NAN
from tasks.types import (
    AnyPredictions,
    BehaviourResult,
    GateReport,
    Outcome,
    Predictions,
    Scores,
    Verdict,
)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """A candidate's answers on the holdout and what was measured of it."""

    predictions: AnyPredictions
    scores: Scores
    probes: Probes
    num_judged: int
    """Candidates that these rows have decided about, this one included."""
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The rows' parts for the slices, as `tasks.gate.slices.slice_columns` gives them."""
    behaviour: Sequence[BehaviourResult] = ()
    """What the behavioural tests found."""
    behaviour_reference: str | None = "teacher"
    """The other model that they tried, if any."""


def judge_evidence(
    found: Evidence,
    references: Mapping[str, AnyPredictions],
    config: GateConfig,
    *,
    against: Mapping[str, GateConfig] | None = None,
) -> GateReport:
    """All verdicts: against each reference by its name, on the candidate alone, and on the use of the holdout.

    `against` has the gates of those references that have other ones than `config`.
    """
    verdicts = []
    for name, reference in references.items():
        verdicts += _compare(found, reference, name, (against or {}).get(name, config))
    verdicts += judge_measured(found.predictions, found.probes, config)
    verdicts += judge_limits(found.predictions, found.scores, config)
    verdicts += judge_behaviour(found.behaviour, config, found.behaviour_reference)
    verdicts.append(judge_holdout(found.num_judged, config.holdout))
    return GateReport(verdicts=tuple(verdicts))


def _compare(found: Evidence, reference: AnyPredictions, name: str, config: GateConfig) -> list[Verdict]:
    candidate = found.predictions
    if isinstance(candidate, Predictions) and isinstance(reference, Predictions):
        return judge(candidate, reference, reference_name=name, config=config, columns=found.columns)
    if not isinstance(candidate, Predictions) and not isinstance(reference, Predictions):
        return judge_metrics(candidate, reference, reference_name=name, config=config, columns=found.columns)
    raise UserError(f"gate against the {name}: expected two models of one task, got one of classes and one of another")


def judge_holdout(num_judged: int, rule: HoldoutGate, *, gate: str = "holdout_uses") -> Verdict:
    """How often the rows have decided: told, warned of, and from a limit on no decision any more."""
    outcome: Outcome = "pass"
    reason = f"these test rows have judged {num_judged:,} candidate{'s' if num_judged > 1 else ''}, this one included"
    if rule.limit is not None and num_judged > rule.limit:
        outcome = "inconclusive"
        reason += f"; after {rule.limit:,} (gate.holdout.limit) fresh rows are needed to decide"
    elif num_judged >= rule.warn:
        reason += f"; at 5 % each, {num_judged:,} that are worse by the margin let {0.05 * num_judged:.1f} pass: "
        reason += "draw fresh rows"
    limit = NAN if rule.limit is None else float(rule.limit)
    return Verdict(gate=gate, outcome=outcome, observed=num_judged, limit=limit, n=num_judged, reason=reason)
