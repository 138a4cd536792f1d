"""One look: has the window moved away from the reference, and if so, was it only the class mix?

Four tests share one set of relabellings: the embeddings (MMD), the champion's probabilities (the largest
Kolmogorov-Smirnov distance), its predicted labels (chi-squared) and the descriptors of the text (the largest distance).
Holm corrects between them, and the look's level comes from the false-alarm budget. Relabellings vary as independent
rows would; neighbours in time that resemble each other make the truth vary more, so the statistics are divided by how
much more, as the window itself and the reference's own order tell (Rao and Scott 1981, JASA 76:221, first order). An
abrupt change within the window looks like such a resemblance until half of the window is new.

Shapes: N window rows, M reference rows, P pooled rows (window first), C classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento.errors import UserError
from tasks.monitor.calibration import Calibration
from tasks.monitor.config import NUM_DRIFT_TESTS, MonitorConfig
from tasks.monitor.reference import Reference, descriptor_table, prediction_features
from tasks.monitor.window import Window
from tasks.stats.budget import alpha_per_look, holm, permutations_needed
from tasks.stats.dependence import design_effect
from tasks.stats.permutation import TestResult, permutation_tests, time_blocks
from tasks.stats.prior import estimate_mix, fitted_prior, saerens_prior
from tasks.stats.two_sample import (
    chi2_counts,
    ks_distances,
    largest_ks,
    mmd2_u,
    rbf_kernel,
    stratum_weights,
    weighted_mmd,
    weighted_shift,
)

Floats = NDArray[np.floating]

RESIDUAL_ALPHA = 0.05
"""Drift is called mix only when nothing beyond the mix is significant even at this lenient level: the mistake of taking
harm for a change of mix is dearer than some audit labels."""
LEADING = 5
"""Principal components whose dependence in time is looked at one by one; the others have less."""
MAX_UNMATCHED = 0.05
"""Largest share of window rows whose predicted class the reference lacks, for the mix to explain a drift."""


@dataclass(frozen=True, kw_only=True)
class DriftEvidence:
    """What one look found."""

    num_rows: int
    """Distinct window rows."""
    num_reference: int
    window_sha256: str
    reference_sha256: str
    enough: bool
    """Whether the window had the rows that a verdict needs."""
    alpha: float
    """Level of this look."""
    num_permutations: int
    tests: Mapping[str, Mapping[str, float]]
    """Test name -> statistic, p_value, p_holm."""
    distances: Mapping[str, float]
    """Kolmogorov-Smirnov distance of each descriptor and probability, for the reader."""
    drifted: bool
    mix_only: bool
    """The drift is explained by other shares of the same classes."""
    residual: Mapping[str, float]
    """p-values after the mix was taken out; empty without drift."""
    prior_reference: Mapping[str, float]
    prior_window: Mapping[str, float]
    """Class shares of the window by expectation maximisation."""
    prior_check: Mapping[str, float] | None
    """The same from predicted labels and confusions; null without drift, or where those cannot be inverted."""
    prior_low: Mapping[str, float] = field(default_factory=dict)
    """Lower ends of the 95 % bootstrap intervals of `prior_window`; empty without drift."""
    prior_high: Mapping[str, float] = field(default_factory=dict)
    prior_agrees: bool | None = None
    """Whether the two estimates differ by no more than chance; null without the second."""
    alpha_source: str = "per look"
    """Where the level comes from: calibrated by replay, or the budget spread over independent looks."""
    prior_refusal: str = ""
    """Why there is no second estimate."""
    num_unreadable: int = 0
    """Requests that no look can compare, since the log hashed or dropped their texts."""
    num_damaged: int = 0
    """Logged answers that no look can compare: no probabilities, or a time later than now."""


def drift_alpha(config: MonitorConfig) -> float:
    """Level of one look's drift tests: half of the budget over all looks."""
    return alpha_per_look(config.false_alarm_budget / 2, config.looks)


def look(
    reference: Reference,
    window: Window,
    *,
    config: MonitorConfig,
    rng: np.random.Generator,
    calibration: Calibration | None = None,
) -> DriftEvidence:
    """Compare a window of distinct texts with the reference, at the calibrated level where there is one.

    Raises: UserError when they do not fit each other.
    """
    _check(reference, window)
    alpha = calibration.alpha if calibration else drift_alpha(config)
    num_permutations = config.permutations or permutations_needed(alpha, NUM_DRIFT_TESTS)
    enough = len(window) >= config.min_window
    found = _compare(reference, window, alpha, num_permutations, rng) if enough else _nothing()
    return DriftEvidence(
        num_rows=len(window),
        num_reference=len(reference),
        window_sha256=window.sha256,
        reference_sha256=reference.sha256,
        num_unreadable=window.num_unreadable,
        num_damaged=window.num_damaged,
        enough=enough,
        alpha=alpha,
        alpha_source=calibration.source if calibration else "per look",
        num_permutations=num_permutations,
        **found,
    )


def _check(reference: Reference, window: Window) -> None:
    num_classes = window.probabilities_NC.shape[1]
    if num_classes != len(reference.class_names) or set(window.descriptors) != set(reference.descriptors):
        raise UserError(
            f"monitor: expected {len(reference.class_names)} classes and the descriptors "
            f"{', '.join(sorted(reference.descriptors))} of the reference, got {num_classes} and "
            f"{', '.join(sorted(window.descriptors))}; make the reference again for this champion"
        )


def _nothing() -> dict[str, Any]:
    empty: dict[str, Any] = {name: {} for name in ("tests", "distances", "residual", "prior_reference", "prior_window")}
    return empty | {"drifted": False, "mix_only": False, "prior_check": None}


def _compare(
    reference: Reference, window: Window, alpha: float, num_permutations: int, rng: np.random.Generator
) -> dict[str, Any]:
    points_PK = np.concatenate([reference.project(window.embeddings_ND), reference.projected_MK])
    probabilities_PC = np.concatenate([window.probabilities_NC, reference.probabilities_MC])
    names, window_NF = descriptor_table(window.descriptors)
    features_PF = np.concatenate([window_NF, descriptor_table(reference.descriptors)[1]])
    prediction_names, predictions_PF = prediction_features(probabilities_PC, reference.class_names)
    labels_P = np.repeat([1, 0], [len(window), len(reference)])
    kernel_PP = rbf_kernel(points_PK, same=True)
    blocks_P = _blocks(window, len(reference))
    by = _inflation(window, points_PK, probabilities_PC, predictions_PF, features_PF)
    own_P = np.diag(kernel_PP).copy()
    np.fill_diagonal(kernel_PP, 0)
    statistics = {
        "embedding": mmd2_u(kernel_PP),
        "probabilities": largest_ks(predictions_PF),
        "predicted_labels": chi2_counts(probabilities_PC.argmax(axis=1)),
        "descriptors": largest_ks(features_PF),
    }
    plain = {name: float(statistic(labels_P[:, None].astype(np.float32))[0]) for name, statistic in statistics.items()}
    observed = {
        "embedding": _deflated_mmd(plain["embedding"], own_P, labels_P, by),
        "probabilities": plain["probabilities"] / by**0.5,
        "predicted_labels": plain["predicted_labels"] / by,
        "descriptors": plain["descriptors"] / by**0.5,
    }
    results = permutation_tests(statistics, labels_P, num_permutations=num_permutations, rng=rng, observed=observed)
    adjusted = holm({name: result.p_value for name, result in results.items()})
    drifted = min(adjusted.values()) <= alpha
    residual = (
        _residual(kernel_PP, features_PF, probabilities_PC, labels_P, num_permutations, rng, blocks_P)
        if drifted
        else {}
    )
    distances_F = ks_distances(np.concatenate([features_PF, predictions_PF], axis=1), labels_P)
    return {
        "tests": _rows(results, adjusted),
        "distances": dict(zip((*names, *prediction_names), distances_F.tolist(), strict=True)),
        "drifted": drifted,
        "mix_only": bool(residual) and min(residual.values()) > RESIDUAL_ALPHA,
        "residual": residual,
        **(_priors(reference, window, blocks_P, rng) if drifted else _shares(reference, window)),
    }


def _inflation(
    window: Window, points_PK: Floats, probabilities_PC: Floats, predictions_PF: Floats, features_PF: Floats
) -> float:
    """Variance of a difference of window and reference over that of independent rows: the most of what is compared.

    Each half of the window is asked too, so that a change between them does not count as dependence.
    """
    if window.timestamps_s_N is None:
        return 1.0
    n, m = len(window), len(points_PK) - len(window)
    class_P = probabilities_PC.argmax(axis=1)
    member_PC = (class_P[:, None] == np.unique(class_P)).astype(np.float64)
    columns = np.concatenate([points_PK[:, :LEADING], predictions_PF, features_PF], axis=1)
    groups = [member_PC, *(column_P[:, None] for column_P in columns.T)]
    whole, older, newer, other = (
        max(design_effect(group[part]) for group in groups)
        for part in (slice(n), slice(n // 2), slice(n // 2, n), slice(n, None))
    )
    return (min(whole, max(older, newer)) / n + other / m) / (1 / n + 1 / m)


def _deflated_mmd(value: float, own_P: Floats, labels_P: NDArray[np.int64], by: float) -> float:
    """Its mean without drift is 0 for independent rows alone, so what is divided is the biased statistic."""
    num_window = int(labels_P.sum())
    chance = float(own_P.mean()) * (1 / num_window + 1 / (len(labels_P) - num_window))
    return (value + chance) / by - chance


def _blocks(window: Window, num_reference: int) -> NDArray[np.int64] | None:
    """Block numbers of the pooled rows, for what is asked once there is drift; held-out rows have no order in time, so
    each is its own block."""
    if window.timestamps_s_N is None:
        return None
    own_N = time_blocks(window.timestamps_s_N)
    return np.concatenate([own_N, own_N.max() + 1 + np.arange(num_reference)])


def _rows(results: Mapping[str, TestResult], adjusted: Mapping[str, float]) -> dict[str, dict[str, float]]:
    return {
        name: {"statistic": result.statistic, "p_value": result.p_value, "p_holm": adjusted[name]}
        for name, result in results.items()
    }


def _residual(
    kernel_PP: NDArray[np.float32],
    features_PF: NDArray[np.float64],
    probabilities_PC: Floats,
    labels_P: NDArray[np.int64],
    num_permutations: int,
    rng: np.random.Generator,
    blocks_P: NDArray[np.int64] | None,
) -> dict[str, float]:
    """p-values of a difference that remains between rows of the same predicted class.

    The reference is reweighted to the window's shares and rows are exchanged within a predicted class only, so another
    mix of the same classes is no evidence. Rows of a class that one side lacks cannot be compared: many of them mean
    that it is not the mix (p = 0).
    """
    class_P = probabilities_PC.argmax(axis=1)
    shared = np.intersect1d(class_P[labels_P == 1], class_P[labels_P == 0])
    rows = np.flatnonzero(np.isin(class_P, shared))
    if labels_P[rows].sum() < (1 - MAX_UNMATCHED) * labels_P.sum():
        return {"unmatched_classes": 0.0}
    weights = stratum_weights(labels_P[rows], class_P[rows])
    statistics = {
        "embedding": weighted_mmd(kernel_PP[np.ix_(rows, rows)], weights),
        "descriptors": weighted_shift(features_PF[rows], weights),
    }
    results = permutation_tests(
        statistics,
        labels_P[rows],
        num_permutations=min(num_permutations, 1_999),
        rng=rng,
        blocks_N=None if blocks_P is None else blocks_P[rows],
        strata_N=class_P[rows],
    )
    return holm({name: result.p_value for name, result in results.items()})


def _shares(reference: Reference, window: Window) -> dict[str, Any]:
    """Class shares for the reader alone: without drift nothing is decided by them, so nothing checks them."""
    old_C = fitted_prior(reference.probabilities_MC, reference.labels_M, reference.prior_C)
    shares_C = saerens_prior(window.probabilities_NC, old_C, tolerance=1e-4)
    return {
        "prior_reference": _named(reference, _reference_shares(reference)),
        "prior_window": _named(reference, shares_C),
        "prior_check": None,
    }


def _reference_shares(reference: Reference) -> Floats:
    return np.bincount(reference.labels_M, minlength=len(reference.class_names)) / len(reference)


def _priors(
    reference: Reference, window: Window, blocks_P: NDArray[np.int64] | None, rng: np.random.Generator
) -> dict[str, Any]:
    """Class shares of the reference and of the window, with what chance leaves open."""
    found = estimate_mix(
        window.probabilities_NC,
        reference.prior_C,
        reference_probabilities_MC=reference.probabilities_MC,
        reference_labels_M=reference.labels_M,
        blocks_N=None if blocks_P is None else blocks_P[: len(window)],
        rng=rng,
    )
    low_C, high_C = found.interval()
    return {
        "prior_reference": _named(reference, _reference_shares(reference)),
        "prior_window": _named(reference, found.shares_C),
        "prior_low": _named(reference, low_C),
        "prior_high": _named(reference, high_C),
        "prior_check": None if found.check_C is None else _named(reference, found.check_C),
        "prior_agrees": None if found.agrees is None else bool(found.agrees),
        "prior_refusal": found.refusal,
    }


def _named(reference: Reference, shares_C: Floats) -> dict[str, float]:
    return dict(zip(reference.class_names, np.round(shares_C, 6).tolist(), strict=True))
