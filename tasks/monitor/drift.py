"""One look: has the window moved away from the reference, and if so, was it only the class mix?

Four tests share one set of block relabellings: the embeddings (MMD), the champion's probabilities (the largest
Kolmogorov-Smirnov distance), its predicted labels (chi-squared) and the descriptors of the text (the largest distance).
Holm corrects between them, and the look's level comes from the false-alarm budget.

Shapes: N window rows, M reference rows, P pooled rows (window first), C classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento.errors import UserError
from tasks.monitor.config import NUM_DRIFT_TESTS, MonitorConfig
from tasks.monitor.reference import Reference
from tasks.monitor.window import Window
from tasks.stats.budget import alpha_per_look, holm, permutations_needed
from tasks.stats.permutation import TestResult, permutation_tests, time_blocks
from tasks.stats.prior import bbse_prior, saerens_prior
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

MAX_COORDINATES = 20
"""Up to this many classes each probability is compared; above, their summaries."""
RESIDUAL_ALPHA = 0.05
"""Drift is called mix only when nothing beyond the mix is significant even at this lenient level: the mistake of taking
harm for a change of mix is dearer than some audit labels."""
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
    """The same from predicted labels and confusions; null where those cannot be inverted."""


def drift_alpha(config: MonitorConfig) -> float:
    """Level of one look's drift tests: half of the budget over all looks."""
    return alpha_per_look(config.false_alarm_budget / 2, config.looks)


def look(reference: Reference, window: Window, *, config: MonitorConfig, rng: np.random.Generator) -> DriftEvidence:
    """Compare a window of distinct texts with the reference. Raises: UserError when they do not fit each other."""
    _check(reference, window)
    alpha = drift_alpha(config)
    num_permutations = config.permutations or permutations_needed(alpha, NUM_DRIFT_TESTS)
    enough = len(window) >= config.min_window
    found = _compare(reference, window, alpha, num_permutations, rng) if enough else _nothing()
    return DriftEvidence(
        num_rows=len(window),
        num_reference=len(reference),
        window_sha256=window.sha256,
        reference_sha256=reference.sha256,
        enough=enough,
        alpha=alpha,
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
    names, features_PF = _features(window, reference)
    prediction_names, predictions_PF = prediction_features(probabilities_PC, reference.class_names)
    labels_P = np.repeat([1, 0], [len(window), len(reference)])
    kernel_PP = rbf_kernel(points_PK)
    statistics = {
        "embedding": mmd2_u(kernel_PP),
        "probabilities": largest_ks(predictions_PF),
        "predicted_labels": chi2_counts(probabilities_PC.argmax(axis=1)),
        "descriptors": largest_ks(features_PF),
    }
    blocks_P = _blocks(window, len(reference))
    results = permutation_tests(statistics, labels_P, num_permutations=num_permutations, rng=rng, blocks_N=blocks_P)
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
        **_priors(reference, window),
    }


def _features(window: Window, reference: Reference) -> tuple[list[str], NDArray[np.float64]]:
    """The descriptors of the pooled rows, sorted by name."""
    names = sorted(reference.descriptors)
    columns = [np.concatenate([window.descriptors[name], reference.descriptors[name]]) for name in names]
    return names, np.stack(columns, axis=1).astype(np.float64)


def prediction_features(probabilities_PC: Floats, class_names: tuple[str, ...]) -> tuple[list[str], Floats]:
    """What is compared of the champion's answers: each probability, or above 20 classes their summaries.

    Source: Lipton 2018 (arXiv:1802.03916), Rabanser 2019 (arXiv:1810.11953).
    """
    probabilities_PC = np.asarray(probabilities_PC).astype(np.float64)
    if len(class_names) <= MAX_COORDINATES:
        return [f"probability of {name}" for name in class_names], probabilities_PC
    top_P2 = np.sort(probabilities_PC, axis=1)[:, :-3:-1]
    entropy_P = -(probabilities_PC * np.log(np.maximum(probabilities_PC, 1e-12))).sum(axis=1)
    columns = [top_P2[:, 0], top_P2[:, 0] - top_P2[:, 1], entropy_P]
    return ["largest probability", "margin", "entropy"], np.stack(columns, axis=1)


def _blocks(window: Window, num_reference: int) -> NDArray[np.int64] | None:
    """Block numbers of the pooled rows; held-out rows have no order in time, so each is its own block."""
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


def _priors(reference: Reference, window: Window) -> dict[str, Any]:
    """Class shares of the reference and of the window."""
    num_classes = len(reference.class_names)
    old_C = np.bincount(reference.labels_M, minlength=num_classes) / len(reference)
    predicted_N, predicted_M = window.probabilities_NC.argmax(axis=1), reference.probabilities_MC.argmax(axis=1)
    try:
        check = _named(reference, bbse_prior(predicted_N, predicted_M, reference.labels_M, num_classes))
    except UserError:  # a cross-check that the confusions do not allow is left out, and its absence is the evidence
        check = None
    return {
        "prior_reference": _named(reference, old_C),
        "prior_window": _named(reference, saerens_prior(window.probabilities_NC, old_C)),
        "prior_check": check,
    }


def _named(reference: Reference, shares_C: Floats) -> dict[str, float]:
    return dict(zip(reference.class_names, np.round(shares_C, 6).tolist(), strict=True))
