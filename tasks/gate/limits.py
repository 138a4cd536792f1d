"""The gates that hold for the candidate alone."""

from math import isfinite

import numpy as np

from tasks.confidences import answered
from tasks.gate.config import GateConfig
from tasks.gate.probes import Probes
from tasks.gate.verdicts import (
    ALPHA,
    NAN,
    at_least,
    at_most,
    check_probabilities,
    measured,
    rows_for_mean,
    rows_for_share,
    share_at_most,
    too_few,
    unjudged,
)
from tasks.types import AnyPredictions, Predictions, Scores, Verdict


def judge_limits(candidate: AnyPredictions, scores: Scores, config: GateConfig) -> list[Verdict]:
    """Accuracy floor, latency, size."""
    limits = (
        ("latency_p50_ms", scores.latency_ms_p50, config.latency_p50_ms, "ms"),
        ("latency_p95_ms", scores.latency_ms_p95, config.latency_p95_ms, "ms"),
        ("size_mb", scores.size_bytes / 1e6, config.size_mb, "MB"),
    )
    verdicts = [judge_limit(gate, value, limit, unit) for gate, value, limit, unit in limits if limit is not None]
    if config.min_accuracy is not None:
        verdicts.append(_judge_floor(candidate, scores, config.min_accuracy, config.min_rows))
    return verdicts


def judge_limit(gate: str, observed: float, limit: float, unit: str) -> Verdict:
    """A measured quantity against its limit; `n` is 1, the one measurement."""
    return measured(gate, observed, limit, lambda value: f"{value:.3g} {unit}")


def judge_measured(
    candidate: AnyPredictions, probes: Probes, config: GateConfig, rng: np.random.Generator | None = None
) -> list[Verdict]:
    """Calibration of the answers, and what was probed of the model. Raises: UserError for what is no probability."""
    verdicts = []
    if isinstance(candidate, Predictions):
        check_probabilities(candidate, "candidate")
    if config.calibration_error is not None:
        rng = rng or np.random.default_rng(0)
        verdicts.append(_judge_calibration(candidate, config.calibration_error, config.min_rows, rng))
    if config.unknown_words is not None:
        verdicts.append(_judge_unknown(probes, config.unknown_words, config.min_rows))
    if config.batch_shift is not None:
        verdicts.append(
            measured(
                "batch_shift", probes.batch_shift, config.batch_shift, lambda value: f"{value:.2g}", n=probes.num_texts
            )
        )
    return verdicts


def _judge_calibration(candidate: AnyPredictions, limit: float, min_rows: int, rng: np.random.Generator) -> Verdict:
    """The upper end of the bootstrap interval of the error of what is answered against the limit."""
    from tasks.stats.calibration import calibration_error_interval

    gate, n, given = "calibration_error", len(candidate.ids), answered(candidate)
    missing = unjudged(gate, limit, min_rows, candidate)
    if missing is not None:
        return missing
    if given is None:
        reason = "no confidence was said; a missing metric fails"
        return Verdict(gate=gate, outcome="fail", observed=NAN, limit=limit, n=n, reason=reason)
    num_answers = len(given.confidence_M)
    if num_answers < min_rows:
        return too_few(gate, limit, num_answers, min_rows, "answers")
    found = calibration_error_interval(
        given.confidence_M, given.right_M, given.row_M, num_rows=n, rng=rng, confidence=1 - 2 * ALPHA
    )
    wanted = rows_for_mean(n, found.high - found.value, limit - found.value, ALPHA)
    what = "confidence" if num_answers == n else f"confidence of {num_answers:,} answers"
    words = f"{what} is off by {found.value:.1%}, 90% interval [{found.low:.1%}, {found.high:.1%}]; limit {limit:.1%}"
    return at_most(gate, found, limit, n=n, wanted=wanted, words=words)


def _judge_unknown(probes: Probes, limit: float, min_rows: int) -> Verdict:
    """Texts with a piece that the tokenizer does not know, by the exact 95 % upper bound of their share."""
    if probes.num_unknown is None:
        reason = "not measured; a missing metric fails"
        return Verdict(gate="unknown_words", outcome="fail", observed=NAN, limit=limit, n=0, reason=reason)
    if probes.num_texts < min_rows:
        return too_few("unknown_words", limit, probes.num_texts, min_rows)
    what = "texts have a piece that the tokenizer does not know"
    return share_at_most("unknown_words", probes.num_unknown, probes.num_texts, limit, what)


def _judge_floor(candidate: AnyPredictions, scores: Scores, limit: float, min_rows: int) -> Verdict:
    """Accuracy above a fixed floor, by the one-sided 95 % Wilson bound."""
    from tasks.stats.proportion import wilson

    gate, observed, n = "min_accuracy", scores.metrics["accuracy"].value, scores.num_rows
    missing = unjudged(gate, limit, min_rows, candidate)
    if missing is not None:
        return missing
    if not isfinite(observed):
        reason = "accuracy was not measured; a missing metric fails"
        return Verdict(gate=gate, outcome="fail", observed=NAN, limit=limit, n=n, reason=reason)
    found = wilson(round(observed * n), n, confidence=1 - 2 * ALPHA)
    wanted = rows_for_share(1 - observed, 1 - limit)
    words = f"accuracy is {observed:.1%}, 90% interval [{found.low:.1%}, {found.high:.1%}]; floor {limit:.1%}"
    return at_least(gate, found, limit, n=n, wanted=wanted, words=words)
