"""The gate: what a candidate must prove before it can be promoted.

Each verdict is pass, fail or inconclusive:

- `pass`: shown, at the gate's error rate, to be within the limit;
- `fail`: what was observed is itself beyond the limit, or is missing;
- `inconclusive`: the observation is within the limit, but so few rows cannot show that it is no accident.
"""

from collections.abc import Sequence
from math import ceil, isfinite

import numpy as np
from pydantic import Field

from bento.errors import UserError
from tasks.behaviour.config import BehaviourGate
from tasks.types import BehaviourResult, Outcome, Predictions, Scores, Section, Verdict


class MarginGate(Section):
    """How much worse than a reference the candidate may be."""

    margin: float = Field(default=0.01, gt=0, lt=1)
    """Largest acceptable loss, as a fraction: 0.01 is one point."""
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    """Chance that a candidate which is worse by exactly the margin passes."""


class GateConfig(Section):
    """What a candidate must prove; a limit that is null is not asked for."""

    accuracy: MarginGate = MarginGate()
    """Non-inferiority of the accuracy to the teacher, and to the serving champion."""
    macro_f1: MarginGate | None = None
    """The same of macro-F1, which the small classes weigh on as much as the big ones."""
    negative_flips: float | None = Field(default=None, gt=0, le=1)
    """Largest share of rows that the reference gets right and the candidate wrong."""
    min_accuracy: float | None = Field(default=None, gt=0, lt=1)
    """Smallest accuracy, whatever the references do."""
    behaviour: BehaviourGate | None = None
    """Behavioural tests, each with a verdict of its own."""
    latency_p50_ms: float | None = Field(default=None, gt=0)
    """Largest median time of one sentence."""
    latency_p95_ms: float | None = Field(default=None, gt=0)
    """Largest 95th percentile of the time of one sentence."""
    size_mb: float | None = Field(default=None, gt=0)
    """Largest size of the whole model folder, in 1,000,000 bytes."""
    min_rows: int = Field(default=100, ge=1)
    """With fewer test rows every statistical gate is inconclusive."""


def judge(
    candidate: Predictions,
    reference: Predictions,
    *,
    reference_name: str,
    config: GateConfig,
    rng: np.random.Generator | None = None,
) -> list[Verdict]:
    """The gates that compare the candidate with `reference_name` (teacher or champion), row by row.

    `rng` draws the bootstrap of macro-F1; a fixed one by default, so that judging again says the same.
    Raises: UserError unless both answered the same rows, in the same order, with the same classes.
    """
    _check_paired(candidate, reference, reference_name)
    verdicts = [_judge_accuracy(candidate, reference, reference_name, config)]
    if config.macro_f1 is not None:
        rng = rng or np.random.default_rng(0)
        verdicts.append(_judge_macro_f1(candidate, reference, reference_name, config.macro_f1, config.min_rows, rng))
    if config.negative_flips is not None:
        verdicts.append(_judge_flips(candidate, reference, reference_name, config.negative_flips, config.min_rows))
    return verdicts


def judge_limits(scores: Scores, config: GateConfig) -> list[Verdict]:
    """The gates that hold for the candidate alone: accuracy floor, latency, size."""
    limits = (
        ("latency_p50_ms", scores.latency_ms_p50, config.latency_p50_ms, "ms"),
        ("latency_p95_ms", scores.latency_ms_p95, config.latency_p95_ms, "ms"),
        ("size_mb", scores.size_bytes / 1e6, config.size_mb, "MB"),
    )
    verdicts = [_judge_limit(gate, value, limit, unit) for gate, value, limit, unit in limits if limit is not None]
    if config.min_accuracy is not None:
        verdicts.append(_judge_floor(scores, config.min_accuracy, config.min_rows))
    return verdicts


def judge_behaviour(results: Sequence[BehaviourResult], config: GateConfig) -> list[Verdict]:
    """One verdict for each behavioural test that has cases and whose kind has a limit.

    Changed test rows are a sample, judged by their exact interval as flips are; the cases of minimum functionality are
    all that there are, so their share is compared as it is. A kind without any case is inconclusive.
    """
    verdicts = []
    limits = config.behaviour.model_dump(exclude_none=True) if config.behaviour else {}
    for kind, limit in limits.items():
        tried = [result for result in results if result.kind == kind and result.num_cases]
        verdicts += [_behaviour_verdict(result, limit) for result in tried] or [_untried(kind, limit)]
    return verdicts


def _behaviour_verdict(result: BehaviourResult, limit: float) -> Verdict:
    gate, failures, n = f"behaviour_{result.test}", result.candidate_failures, result.num_cases
    what = f"cases failed, {result.teacher_failures:,} by the teacher"
    if result.kind != "minimum_functionality":
        return share_at_most(gate, failures, n, limit, what)
    outcome: Outcome = "pass" if failures / n <= limit else "fail"
    reason = f"{failures:,} of {n:,} {what}; limit {limit:.1%}"
    return Verdict(gate=gate, outcome=outcome, observed=failures / n, limit=limit, n=n, reason=reason)


def _untried(kind: str, limit: float) -> Verdict:
    reason = f"no test row can be changed by any test of behaviour.{kind}; add tests that fit the data"
    nan = float("nan")
    return Verdict(gate=f"behaviour_{kind}", outcome="inconclusive", observed=nan, limit=limit, n=0, reason=reason)


def _check_paired(candidate: Predictions, reference: Predictions, reference_name: str) -> None:
    fault = None
    if candidate.ids != reference.ids:
        shared = len(set(candidate.ids) & set(reference.ids))
        fault = (
            f"{len(candidate.ids):,} and {len(reference.ids):,} rows, {shared:,} of them shared, or in another order"
        )
    elif candidate.probabilities_NC.shape != reference.probabilities_NC.shape:
        fault = f"probabilities of shapes {candidate.probabilities_NC.shape} and {reference.probabilities_NC.shape}"
    elif not np.array_equal(candidate.labels_N, reference.labels_N):
        differing = int((candidate.labels_N != reference.labels_N).sum())
        fault = f"{differing:,} rows with different true classes, as when the class order differs"
    if fault:
        raise UserError(
            f"gate against the {reference_name}: expected both models' answers on the same rows in the same order, got "
            f"{fault}; evaluate both on one test split and put the classes in one order"
        )


def _num_missing(*answers: Predictions) -> int:
    """Rows for which any of the models has no finite probability."""
    missing_N = np.zeros(len(answers[0].ids), dtype=bool)
    for each in answers:
        missing_N |= ~np.isfinite(each.probabilities_NC).all(axis=1)
    return int(missing_N.sum())


def _unjudged(gate: str, limit: float, candidate: Predictions, reference: Predictions, min_rows: int) -> Verdict | None:
    """The verdict where there is nothing to test: answers are missing, or too few."""
    n, num_missing = len(candidate.ids), _num_missing(candidate, reference)
    nan = float("nan")
    if n == 0 or num_missing:
        reason = f"{num_missing:,} of {n:,} rows have no finite probability; a missing metric fails"
        return Verdict(gate=gate, outcome="fail", observed=nan, limit=limit, n=n, reason=reason)
    if n < min_rows:
        reason = f"{n:,} rows are too few to judge; at least {min_rows:,} (gate.min_rows) are needed"
        return Verdict(
            gate=gate, outcome="inconclusive", observed=nan, limit=limit, n=n, needed_n=min_rows, reason=reason
        )
    return None


def _judge_accuracy(candidate: Predictions, reference: Predictions, reference_name: str, config: GateConfig) -> Verdict:
    """Tango's paired non-inferiority test; a fail when the observed loss is the margin or more."""
    from tasks.stats.paired import needed_n, paired_counts, tango_interval, tango_p

    gate, rule = f"accuracy_vs_{reference_name}", config.accuracy
    unjudged = _unjudged(gate, -rule.margin, candidate, reference, config.min_rows)
    if unjudged is not None:
        return unjudged
    counts = paired_counts(candidate.correct_N, reference.correct_N)
    observed = counts.difference
    passed = float(tango_p(counts.b, counts.c, counts.n, rule.margin)) < rule.alpha
    wanted = needed_n(counts.disagreement, rule.margin, difference=min(observed, 0.0), alpha=rule.alpha)
    interval = tango_interval(counts, confidence=1 - 2 * rule.alpha)
    return _margin_verdict(gate, "accuracy", observed, interval, rule, counts.n, wanted, passed=passed)


def _judge_macro_f1(
    candidate: Predictions,
    reference: Predictions,
    reference_name: str,
    rule: MarginGate,
    min_rows: int,
    rng: np.random.Generator,
) -> Verdict:
    """The lower end of the paired bootstrap interval against the margin."""
    from scipy.special import ndtri

    from tasks.stats.bootstrap import macro_f1_difference

    gate, n = f"macro_f1_vs_{reference_name}", len(candidate.ids)
    unjudged = _unjudged(gate, -rule.margin, candidate, reference, min_rows)
    if unjudged is not None:
        return unjudged
    predicted_N, reference_N = (each.probabilities_NC.argmax(axis=1) for each in (candidate, reference))
    confidence = 1 - 2 * rule.alpha
    found = macro_f1_difference(candidate.labels_N, predicted_N, reference_N, rng=rng, confidence=confidence)
    z_alpha = float(ndtri(1 - rule.alpha))
    spread = (found.high - found.low) / (2 * z_alpha)
    room = rule.margin + min(found.value, 0.0)
    wanted = max(1, ceil(n * ((z_alpha + float(ndtri(0.8))) * spread / room) ** 2)) if room > 0 else None
    interval = (found.low, found.high)
    passed = found.low > -rule.margin
    return _margin_verdict(gate, "macro-F1", found.value, interval, rule, n, wanted, passed=passed)


def _margin_verdict(
    gate: str,
    metric: str,
    observed: float,
    interval: tuple[float, float],
    rule: MarginGate,
    n: int,
    wanted: int | None,
    *,
    passed: bool,
) -> Verdict:
    failed = observed <= -rule.margin
    outcome: Outcome = "fail" if failed else "pass" if passed else "inconclusive"
    wanted = _beyond(wanted, n, outcome)
    reason = (
        f"candidate is {_compared(observed)} in {metric}, {1 - 2 * rule.alpha:.0%} interval "
        f"[{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]; margin {100 * rule.margin:.1f}; "
        f"{_rows_in_words(outcome, wanted, n)}"
    )
    return Verdict(
        gate=gate,
        outcome=outcome,
        observed=observed,
        limit=-rule.margin,
        n=n,
        interval=interval,
        needed_n=wanted,
        reason=reason,
    )


def _compared(difference: float) -> str:
    points = 100 * abs(difference)
    return "equal" if points < 0.05 else f"{points:.1f} points {'better' if difference > 0 else 'worse'}"


def _beyond(wanted: int | None, n: int, outcome: Outcome) -> int | None:
    """The needed rows are more than those that did not decide, whatever the approximation says."""
    return max(wanted, n + 1) if wanted is not None and outcome == "inconclusive" else wanted


def _rows_in_words(outcome: Outcome, wanted: int | None, n: int) -> str:
    if outcome == "fail" or wanted is None:
        return f"{n:,} rows were there, and more would not help"
    if outcome == "inconclusive":
        return f"{wanted:,} rows would be needed, {n:,} were there"
    return f"{n:,} rows were enough"


def _judge_flips(
    candidate: Predictions, reference: Predictions, reference_name: str, limit: float, min_rows: int
) -> Verdict:
    """Rows that the reference gets right and the candidate wrong, by the exact 95 % upper bound of their share."""
    gate, n = f"negative_flips_vs_{reference_name}", len(candidate.ids)
    unjudged = _unjudged(gate, limit, candidate, reference, min_rows)
    if unjudged is not None:
        return unjudged
    num_flips = int((reference.correct_N & ~candidate.correct_N).sum())
    return share_at_most(gate, num_flips, n, limit, "rows turned from right to wrong")


def share_at_most(gate: str, num_hits: int, n: int, limit: float, what: str) -> Verdict:
    """A share of the rows by its exact 95 % upper bound."""
    from tasks.stats.proportion import clopper_pearson

    found = clopper_pearson(num_hits, n, confidence=0.9)
    outcome: Outcome = "fail" if found.value > limit else "pass" if found.high <= limit else "inconclusive"
    wanted = _beyond(_rows_for_share(found.value, limit), n, outcome)
    reason = (
        f"{num_hits:,} of {n:,} {what} ({found.value:.1%}, 90% interval "
        f"[{found.low:.1%}, {found.high:.1%}]); limit {limit:.1%}; {_rows_in_words(outcome, wanted, n)}"
    )
    return Verdict(
        gate=gate,
        outcome=outcome,
        observed=found.value,
        limit=limit,
        n=n,
        interval=(found.low, found.high),
        needed_n=wanted,
        reason=reason,
    )


def _judge_floor(scores: Scores, limit: float, min_rows: int) -> Verdict:
    """Accuracy above a fixed floor, by the one-sided 95 % Wilson bound."""
    from tasks.stats.proportion import wilson

    gate, observed, n = "min_accuracy", scores.accuracy.value, scores.num_rows
    if n == 0 or not isfinite(observed):
        reason = "accuracy was not measured; a missing metric fails"
        return Verdict(gate=gate, outcome="fail", observed=float("nan"), limit=limit, n=n, reason=reason)
    found = wilson(round(observed * n), n, confidence=0.9)
    shown = found.low >= limit and n >= min_rows
    outcome: Outcome = "fail" if observed < limit and n >= min_rows else "pass" if shown else "inconclusive"
    wanted = _beyond(_rows_for_share(1 - observed, 1 - limit), n, outcome)
    reason = (
        f"accuracy is {observed:.1%}, 90% interval [{found.low:.1%}, {found.high:.1%}]; floor {limit:.1%}; "
        f"{_rows_in_words(outcome, wanted, n)}"
    )
    return Verdict(
        gate=gate,
        outcome=outcome,
        observed=observed,
        limit=limit,
        n=n,
        interval=(found.low, found.high),
        needed_n=wanted,
        reason=reason,
    )


def _rows_for_share(share: float, limit: float) -> int | None:
    """Rows that show `share` to be below `limit` with 80 % power at 5 %; None if it is not below."""
    from scipy.special import ndtri

    if share >= limit:
        return None
    spread = float(ndtri(0.95)) * (limit * (1 - limit)) ** 0.5 + float(ndtri(0.8)) * (share * (1 - share)) ** 0.5
    rows: float = (spread / (limit - share)) ** 2
    return ceil(rows)


def _judge_limit(gate: str, observed: float, limit: float, unit: str) -> Verdict:
    """A measured quantity against its limit; `n` is 1, the one measurement."""
    outcome: Outcome = "fail"
    if not isfinite(observed):
        reason = f"not measured; a missing metric fails (limit {limit:g} {unit})"
    else:
        outcome = "pass" if observed <= limit else "fail"
        reason = f"{observed:.3g} {unit}, limit {limit:g} {unit}"
    return Verdict(gate=gate, outcome=outcome, observed=observed, limit=limit, n=1, reason=reason)
