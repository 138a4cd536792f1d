"""The gates that compare a candidate with a reference, row by row.

Shapes: N rows, C classes.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from bento.errors import UserError
from tasks.gate.config import GateConfig, MarginGate
from tasks.gate.slices import judge_slice
from tasks.gate.verdicts import (
    ALPHA,
    at_least,
    at_most,
    brier,
    check_probabilities,
    non_inferior,
    not_worse,
    parity,
    rows_for_difference,
    rows_for_mean,
    share_at_most,
    unjudged,
)
from tasks.types import Interval, Predictions, Verdict

SMALLEST = 1e-12
"""Probabilities are raised to this before a logarithm."""


def judge(
    candidate: Predictions,
    reference: Predictions,
    *,
    reference_name: str,
    config: GateConfig,
    columns: Mapping[str, Sequence[str]] | None = None,
    rng: np.random.Generator | None = None,
) -> list[Verdict]:
    """The gates that compare the candidate with `reference_name` (teacher or champion), row by row.

    `columns` has each row's part for each of `config.slices`, by its `by`. `rng` draws the bootstraps; a fixed one by
    default, so that judging again says the same.
    Raises: UserError unless both answered the same rows, in the same order, with the same classes, in probabilities.
    """
    _check_paired(candidate, reference, reference_name)
    check_probabilities(candidate, "candidate")
    check_probabilities(reference, reference_name, whole=False)
    rng = rng or np.random.default_rng(0)
    verdicts = [_judge_accuracy(candidate, reference, reference_name, config)]
    if config.macro_f1 is not None:
        verdicts.append(_judge_macro_f1(candidate, reference, reference_name, config.macro_f1, config.min_rows, rng))
    if config.brier is not None:
        verdicts.append(brier(candidate, reference, reference_name, config.brier, config.min_rows, rng))
    if config.superiority is not None:
        verdicts.append(_judge_superiority(candidate, reference, reference_name, config.superiority, config.min_rows))
    if config.negative_flips is not None:
        verdicts.append(_judge_flips(candidate, reference, reference_name, config.negative_flips, config.min_rows))
    if config.kl is not None:
        verdicts.append(_judge_kl(candidate, reference, reference_name, config.kl, config.min_rows, rng))
    if config.parity is not None:
        verdicts.append(parity(candidate, reference, reference_name, config.parity))
    for rule in config.slices:
        verdicts.append(judge_slice(candidate, reference, (columns or {})[rule.by], reference_name, rule))
    return verdicts


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


def _judge_accuracy(candidate: Predictions, reference: Predictions, reference_name: str, config: GateConfig) -> Verdict:
    """Tango's paired non-inferiority test; a fail when the observed loss is the margin or more."""
    gate, rule = f"accuracy_vs_{reference_name}", config.accuracy
    found = unjudged(gate, -rule.margin, config.min_rows, candidate, reference)
    return found or non_inferior(gate, candidate.correct_N, reference.correct_N, margin=rule.margin, alpha=rule.alpha)


def _judge_macro_f1(
    candidate: Predictions,
    reference: Predictions,
    reference_name: str,
    rule: MarginGate,
    min_rows: int,
    rng: np.random.Generator,
) -> Verdict:
    """The lower end of the paired bootstrap interval against the margin."""
    from tasks.stats.bootstrap import macro_f1_difference

    gate, n = f"macro_f1_vs_{reference_name}", len(candidate.ids)
    missing = unjudged(gate, -rule.margin, min_rows, candidate, reference)
    if missing is not None:
        return missing
    predicted_N, reference_N = (each.probabilities_NC.argmax(axis=1) for each in (candidate, reference))
    confidence = 1 - 2 * rule.alpha
    found = macro_f1_difference(candidate.labels_N, predicted_N, reference_N, rng=rng, confidence=confidence)
    return not_worse(gate, "macro_f1", found, rule, n)


def _judge_superiority(
    candidate: Predictions, reference: Predictions, reference_name: str, alpha: float, min_rows: int
) -> Verdict:
    """Exact McNemar: more rows that only the candidate gets right than chance would give."""
    from tasks.stats.paired import mcnemar_p, paired_counts, tango_interval

    gate, n = f"superiority_vs_{reference_name}", len(candidate.ids)
    missing = unjudged(gate, 0.0, min_rows, candidate, reference)
    if missing is not None:
        return missing
    counts = paired_counts(candidate.correct_N, reference.correct_N)
    low, high = tango_interval(counts, confidence=1 - 2 * alpha)
    found, p = Interval(value=counts.difference, low=low, high=high), mcnemar_p(counts)
    wanted = rows_for_mean(n, found.value - found.low, found.value, alpha)
    words = f"only the candidate is right on {counts.b:,} rows, only the {reference_name} on {counts.c:,}; p {p:.2g}"
    return at_least(gate, found, 0.0, n=n, wanted=wanted, words=words, passed=p < alpha)


def _judge_flips(
    candidate: Predictions, reference: Predictions, reference_name: str, limit: float, min_rows: int
) -> Verdict:
    """Rows that the reference gets right and the candidate wrong, by the exact 95 % upper bound of their share."""
    gate = f"negative_flips_vs_{reference_name}"
    missing = unjudged(gate, limit, min_rows, candidate, reference)
    num_flips = int((reference.correct_N & ~candidate.correct_N).sum())
    return missing or share_at_most(gate, num_flips, len(candidate.ids), limit, "rows turned from right to wrong")


def _judge_kl(
    candidate: Predictions,
    reference: Predictions,
    reference_name: str,
    limit: float,
    min_rows: int,
    rng: np.random.Generator,
) -> Verdict:
    """Divergence of the candidate's probabilities from the reference's, mean over the rows."""
    from scipy.stats import entropy

    from tasks.stats.bootstrap import mean_interval
    from tasks.stats.calibration import in_wrong_order

    gate, n = f"kl_vs_{reference_name}", len(candidate.ids)
    missing = unjudged(gate, limit, min_rows, candidate, reference)
    if missing is not None:
        return missing
    given = (candidate.probabilities_NC, reference.probabilities_NC, in_wrong_order(candidate.probabilities_NC))
    candidate_NC, reference_NC, wrong_NC = (np.maximum(each_NC.astype(np.float64), SMALLEST) for each_NC in given)
    values_N, lost_N = (np.asarray(entropy(reference_NC, each_NC, axis=1)) for each_NC in (candidate_NC, wrong_NC))
    found = mean_interval(values_N, rng=rng, confidence=1 - 2 * ALPHA, lost_R=lost_N[lost_N > values_N])
    to_limit, away = found.high - found.value, found.value - found.low
    wanted = rows_for_difference(n, to_limit, away, limit - found.value, ALPHA)
    words = f"{found.value:.4f} nats, 90% interval [{found.low:.4f}, {found.high:.4f}]; limit {limit:g}"
    return at_most(gate, found, limit, n=n, wanted=wanted, words=words)
