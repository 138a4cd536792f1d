"""From an observation, its interval and its limit to a verdict and its words."""

from collections.abc import Callable
from dataclasses import replace
from math import ceil, isfinite, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from bento.errors import UserError
from tasks.gate.config import MarginGate
from tasks.metrics import CORRELATIONS, TITLES
from tasks.types import AnyPredictions, Interval, Outcome, Predictions, SigmoidPredictions, Verdict

Bools = NDArray[np.bool_]
Floats = NDArray[np.floating]
WithProbabilities = Predictions | SigmoidPredictions

NAN = float("nan")
SUM_TOLERANCE = 1e-3
POWER = 0.8
ALPHA = 0.05
"""Error rate of the gates that have no `alpha` of their own."""


def check_probabilities(predictions: Predictions, who: str, *, whole: bool = True) -> None:
    """Raises: UserError where finite rows are no probabilities; less than 1 is right where classes were left out.

    Rows that are not finite are missing, not wrong: the gates fail for them.
    """
    probabilities_NC = predictions.probabilities_NC
    finite_N = np.isfinite(probabilities_NC).all(axis=1)
    sums_N = probabilities_NC.sum(axis=1, where=np.isfinite(probabilities_NC), dtype=np.float64)
    off_N = sums_N > 1 + SUM_TOLERANCE
    if whole:
        off_N |= sums_N < 1 - SUM_TOLERANCE
    wrong_N = finite_N & (off_N | (probabilities_NC < 0).any(axis=1))
    if wrong_N.any():
        first = int(np.flatnonzero(wrong_N)[0])
        raise UserError(
            f"the {who}: expected probabilities, each at least 0 and together 1, got {wrong_N.sum():,} of "
            f"{len(wrong_N):,} rows that are none (row {predictions.ids[first]!r} sums to {sums_N[first]:.4g}); "
            "give the output of a softmax over the classes, not logits or independent scores"
        )


def unjudged(gate: str, limit: float, min_rows: int, *answers: AnyPredictions) -> Verdict | None:
    """The verdict where there is nothing to test: answers are missing, or too few."""
    n = len(answers[0].ids)
    missing_N = np.zeros(n, dtype=bool)
    for each in answers:
        missing_N |= each.missing_N
    num_missing = int(missing_N.sum())
    if n == 0 or num_missing:
        reason = f"{num_missing:,} of {n:,} rows have no finite probability; a missing metric fails"
        return Verdict(gate=gate, outcome="fail", observed=NAN, limit=limit, n=n, reason=reason)
    return too_few(gate, limit, n, min_rows) if n < min_rows else None


def too_few(gate: str, limit: float, n: int, min_rows: int, what: str = "rows") -> Verdict:
    """The verdict on fewer rows than were asked for."""
    reason = f"{n:,} {what} are too few to judge; at least {min_rows:,} (min_rows) are needed"
    return Verdict(gate=gate, outcome="inconclusive", observed=NAN, limit=limit, n=n, needed_n=min_rows, reason=reason)


def at_least(
    gate: str, found: Interval, limit: float, *, n: int, wanted: int | None, words: str, passed: bool | None = None
) -> Verdict:
    """A value that must be shown to be above `limit`; a fail when it is observed at the limit or below.

    `passed` is the test's own word where the lower end of the interval is not it.
    """
    shown = found.low > limit if passed is None else passed
    outcome: Outcome = "fail" if found.value <= limit else "pass" if shown else "inconclusive"
    return _verdict(gate, outcome, found, limit, n, wanted, words)


def not_worse(gate: str, metric: str, found: Interval, rule: MarginGate, n: int) -> Verdict:
    """A difference in `metric` that must be shown to be above the negative margin, by its interval."""
    room = rule.margin + min(found.value, 0.0)
    wanted = rows_for_difference(n, found.value - found.low, found.high - found.value, room, rule.alpha)
    words = difference_in_words(metric, found, rule.margin, rule.alpha)
    return at_least(gate, found, -rule.margin, n=n, wanted=wanted, words=words)


def at_most(gate: str, found: Interval, limit: float, *, n: int, wanted: int | None, words: str) -> Verdict:
    """A value that must be shown to be at most `limit`; a fail when it is observed above."""
    outcome: Outcome = "fail" if found.value > limit else "pass" if found.high <= limit else "inconclusive"
    return _verdict(gate, outcome, found, limit, n, wanted, words)


def _verdict(
    gate: str, outcome: Outcome, found: Interval, limit: float, n: int, wanted: int | None, words: str
) -> Verdict:
    if wanted is not None and outcome == "inconclusive":
        wanted = max(wanted, n + 1)  # more than those that did not decide, whatever the approximation says
    return Verdict(
        gate=gate,
        outcome=outcome,
        observed=found.value,
        limit=limit,
        n=n,
        interval=(found.low, found.high),
        needed_n=wanted,
        reason=f"{words}; {_rows_in_words(outcome, wanted, n)}",
    )


def _rows_in_words(outcome: Outcome, wanted: int | None, n: int) -> str:
    if outcome == "fail" or wanted is None:
        return f"{n:,} rows were there, and more would not help"
    if outcome == "inconclusive":
        return f"{wanted:,} rows would be needed, {n:,} were there"
    return f"{n:,} rows were enough"


def rows_for_mean(n: int, half_width: float, room: float, alpha: float) -> int | None:
    """Rows with which a mean would be shown to keep its limit with 80 % power; None where `room` to it is none.

    `half_width` is that of the interval on `n` rows, from the value to the bound at `alpha`.
    """
    if room <= 0:
        return None
    z_alpha = float(ndtri(1 - alpha))
    return max(1, ceil(n * ((1 + float(ndtri(POWER)) / z_alpha) * half_width / room) ** 2))


def rows_for_difference(n: int, towards: float, away: float, room: float, alpha: float) -> int | None:
    """As `rows_for_mean`, of an interval that reaches `towards` its limit as if one row more had been lost.

    The spread of the rows falls with the root of their number. What the lost row adds falls with the number: it moves
    the middle by its share, by which one end is nearer than the other, and alone it spreads as wide as 1.1 of that.
    """
    if room <= 0:
        return None
    moved = max(0.0, towards - away) / 2
    rows_alone = sqrt(max(0.0, ((towards + away) / 2) ** 2 - (1.1 * moved) ** 2))
    spread, lost = (1 + float(ndtri(POWER)) / float(ndtri(1 - alpha))) * rows_alone, 2.1 * moved
    root = (spread + sqrt(spread**2 + 4 * lost * room)) / (2 * room)  # spread / root + lost / root^2 = room
    return max(1, ceil(n * root**2))


def rows_for_share(share: float, limit: float) -> int | None:
    """Rows that show `share` to be below `limit` with 80 % power at 5 %; None if it is not below."""
    if share >= limit:
        return None
    spread = float(ndtri(1 - ALPHA)) * (limit * (1 - limit)) ** 0.5 + float(ndtri(POWER)) * (share * (1 - share)) ** 0.5
    rows: float = (spread / (limit - share)) ** 2
    return ceil(rows)


def non_inferior(gate: str, candidate_N: Bools, reference_N: Bools, *, margin: float, alpha: float) -> Verdict:
    """Tango's test of two models' right answers on the same rows."""
    from tasks.stats.paired import needed_n, paired_counts, tango_interval, tango_p

    counts = paired_counts(candidate_N, reference_N)
    low, high = tango_interval(counts, confidence=1 - 2 * alpha)
    found = Interval(value=counts.difference, low=low, high=high)
    return at_least(
        gate,
        found,
        -margin,
        n=counts.n,
        wanted=needed_n(counts.disagreement, margin, difference=min(counts.difference, 0.0), alpha=alpha),
        words=difference_in_words("accuracy", found, margin, alpha),
        passed=bool(tango_p(counts.b, counts.c, counts.n, margin) < alpha),
    )


def difference_in_words(metric: str, found: Interval, margin: float, alpha: float) -> str:
    """What was found of a metric that goes up: shares in percentage points, correlations as they are."""
    correlates = metric in CORRELATIONS
    scale, digits, unit = (1, 3, "") if correlates else (100, 1, " points")
    size = f"{scale * abs(found.value):.{digits}f}"
    direction = "better" if found.value > 0 else "worse"
    compared = "equal" if not float(size) else f"{size}{unit} {direction}"
    low, high, limit = (f"{scale * value:.{digits}f}" for value in (found.low, found.high, margin))
    return f"candidate is {compared} in {TITLES[metric]}, {1 - 2 * alpha:.0%} interval [{low}, {high}]; margin {limit}"


def share_at_most(gate: str, num_hits: int, n: int, limit: float, what: str) -> Verdict:
    """A share of the rows by its exact 95 % upper bound."""
    from tasks.stats.proportion import clopper_pearson

    found = clopper_pearson(num_hits, n, confidence=1 - 2 * ALPHA)
    words = (
        f"{num_hits:,} of {n:,} {what} ({found.value:.1%}, 90% interval [{found.low:.1%}, {found.high:.1%}]); "
        f"limit {limit:.1%}"
    )
    return at_most(gate, found, limit, n=n, wanted=rows_for_share(found.value, limit), words=words)


def measured(gate: str, observed: float, limit: float, tell: Callable[[float], str], *, n: int = 1) -> Verdict:
    """A quantity without chance in it against its limit; `n` is how often it was measured."""
    if not isfinite(observed):
        reason = f"not measured; a missing metric fails (limit {tell(limit)})"
        return Verdict(gate=gate, outcome="fail", observed=observed, limit=limit, n=n, reason=reason)
    outcome: Outcome = "pass" if observed <= limit else "fail"
    reason = f"{tell(observed)}, limit {tell(limit)}"
    return Verdict(gate=gate, outcome=outcome, observed=observed, limit=limit, n=n, reason=reason)


def brier(
    candidate: WithProbabilities,
    reference: WithProbabilities,
    reference_name: str,
    rule: MarginGate,
    min_rows: int,
    rng: np.random.Generator,
) -> Verdict:
    """The upper end of the bootstrap interval of the rows' differences against the margin; more is worse."""
    from tasks.stats.bootstrap import mean_interval
    from tasks.stats.calibration import in_wrong_order

    gate, n = f"brier_vs_{reference_name}", len(candidate.ids)
    missing = unjudged(gate, rule.margin, min_rows, candidate, reference)
    if missing is not None:
        return missing
    losses_N, reference_N = _brier_losses(candidate), _brier_losses(reference)
    lost_N = _brier_losses(replace(candidate, probabilities_NC=in_wrong_order(candidate.probabilities_NC)))
    confidence = 1 - 2 * rule.alpha
    # The dearest alone: with the others, cheap ones of rows that the model was unsure of took weight off the tail.
    dearest_R = np.sort((lost_N - reference_N)[lost_N > losses_N])[-1:]
    found = mean_interval(losses_N - reference_N, rng=rng, confidence=confidence, lost_R=dearest_R)
    room = rule.margin - max(found.value, 0.0)
    wanted = rows_for_difference(n, found.high - found.value, found.value - found.low, room, rule.alpha)
    words = (
        f"Brier loss is {found.value:+.4f} against the {reference_name}'s {reference_N.mean():.4f}, {confidence:.0%} "
        f"interval [{found.low:+.4f}, {found.high:+.4f}]; margin {rule.margin:g}"
    )
    return at_most(gate, found, rule.margin, n=n, wanted=wanted, words=words)


def _brier_losses(predictions: WithProbabilities) -> Floats:
    from tasks.stats.calibration import brier_losses, set_brier_losses

    if isinstance(predictions, SigmoidPredictions):
        return set_brier_losses(predictions.probabilities_NC, predictions.truth_NC)
    return brier_losses(predictions.probabilities_NC, predictions.labels_N)


def parity(candidate: WithProbabilities, reference: WithProbabilities, reference_name: str, limit: float) -> Verdict:
    """The largest difference of a probability on any row; a missing one is a fail."""
    difference_NC = np.abs(candidate.probabilities_NC - reference.probabilities_NC)
    largest = float(difference_NC.max()) if difference_NC.size else float("nan")
    return measured(f"parity_vs_{reference_name}", largest, limit, lambda value: f"{value:.2g}", n=len(candidate.ids))
