"""Which class mix does unlabelled traffic have, and how sure is that?

Shapes: N rows, M reference rows, C classes, B bootstrap resamples.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from bento.errors import UserError
from tasks.types import Interval

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MAX_CONDITION = 100.0
NUM_RESAMPLES = 200
MOST_STEPS = 200
"""Of the fit of what a model favours."""


@dataclass(frozen=True, kw_only=True)
class Confusions:
    """What a classifier answers to each class: the basis of black-box shift estimation."""

    rates_CC: Floats
    """P(predicted | true): predicted down, true across."""
    support_C: Ints
    """Labelled rows of each true class."""


@dataclass(frozen=True, kw_only=True)
class Mix:
    """Class shares of a window by two estimates that err differently, each with its bootstrap resamples."""

    shares_C: Floats
    """By expectation maximisation."""
    draws_BC: Floats
    check_C: Floats | None
    """By predicted labels and confusions; None where those cannot be inverted."""
    check_draws_BC: Floats | None
    refusal: str
    """Why there is no check; empty where there is one."""

    def interval(self, confidence: float = 0.95) -> tuple[Floats, Floats]:
        """Percentile ends low_C, high_C of the shares."""
        low_C, high_C = np.quantile(self.draws_BC, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
        return low_C, high_C

    @property
    def gap(self) -> float:
        """Total variation distance of the two estimates; nan without a check."""
        return float("nan") if self.check_C is None else float(_variation(self.shares_C - self.check_C))

    @property
    def largest_chance_gap(self) -> float:
        """The gap that chance alone exceeds in 1 % of windows; nan without a check."""
        if self.check_C is None or self.check_draws_BC is None:
            return float("nan")
        apart_BC = (self.draws_BC - self.check_draws_BC) - (self.shares_C - self.check_C)
        return float(np.quantile(_variation(apart_BC), 0.99))

    @property
    def agrees(self) -> bool | None:
        """Whether the estimates differ by no more than chance; None without a check."""
        return None if self.check_C is None else self.gap <= self.largest_chance_gap


def _variation(apart_BC: Floats) -> Floats:
    return np.asarray(np.abs(apart_BC).sum(axis=-1) / 2)


def estimate_mix(
    probabilities_NC: NDArray[np.floating],
    prior_C: NDArray[np.floating],
    *,
    reference_probabilities_MC: NDArray[np.floating],
    reference_labels_M: Ints,
    rng: np.random.Generator,
    blocks_N: Ints | None = None,
    num_resamples: int = NUM_RESAMPLES,
) -> Mix:
    """Both estimates with their resamples; rows of one block of time are drawn together.

    `probabilities_NC` have to be about calibrated under `prior_C`; what they favour a class by is learnt from the
    reference, which is drawn again within its classes.
    """
    reference_MC, labels_M = np.asarray(reference_probabilities_MC, dtype=np.float64), reference_labels_M
    favour_1C = _favour(reference_MC, labels_M, prior_C, np.ones((1, len(labels_M))))
    shares_C = saerens_prior(probabilities_NC, _old_mix(prior_C, favour_1C)[0])
    counts_BN = _resample(len(probabilities_NC), blocks_N, num_resamples, rng)
    counts_BM = _resample_within(labels_M, num_resamples, rng)
    favour_BC = _favour(reference_MC, labels_M, prior_C, counts_BM, start_1C=favour_1C)
    start_BC = np.repeat(shares_C[None], num_resamples, axis=0)
    draws_BC = _maximise(probabilities_NC, _old_mix(prior_C, favour_BC), counts_BN, start_BC, tolerance=1e-4)
    predicted_NC = np.eye(len(shares_C))[np.asarray(probabilities_NC).argmax(axis=1)]
    predicted_M = reference_MC.argmax(axis=1)
    try:
        known = confusions(predicted_M, labels_M, len(shares_C))
    except UserError as error:  # the estimate stands alone then, and the refusal is part of the evidence
        return Mix(shares_C=shares_C, draws_BC=draws_BC, check_C=None, check_draws_BC=None, refusal=str(error))
    said_BC = counts_BN @ predicted_NC / counts_BN.sum(axis=1, keepdims=True)
    checks = [
        _solve(_rates(predicted_M, labels_M, len(shares_C), counts_M), said_C)
        for counts_M, said_C in zip(counts_BM, said_BC, strict=True)
    ]
    return Mix(
        shares_C=shares_C,
        draws_BC=draws_BC,
        check_C=_solve(known.rates_CC, predicted_NC.mean(axis=0)),
        check_draws_BC=np.stack(checks),
        refusal="",
    )


def fitted_prior(probabilities_MC: NDArray[np.floating], labels_M: Ints, prior_C: NDArray[np.floating]) -> Floats:
    """The old mix for `saerens_prior` under which probabilities that favour some classes favour none any more.

    A model that is calibrated as a whole may say a class too often and another too rarely, which a mix is estimated
    from. To divide by another old mix is to give each class's log probability a bias, here the likeliest one given
    labelled rows. Source: Alexandari 2020 (arXiv:1901.06852), bias-corrected calibration, with a weak ridge.
    """
    ones_1M = np.ones((1, len(labels_M)))
    return np.asarray(_old_mix(prior_C, _favour(np.asarray(probabilities_MC, float), labels_M, prior_C, ones_1M))[0])


def _old_mix(prior_C: NDArray[np.floating], favour_BC: Floats) -> Floats:
    mixes_BC = np.asarray(prior_C, dtype=np.float64) / favour_BC
    return np.asarray(mixes_BC / mixes_BC.sum(axis=1, keepdims=True))


def _favour(
    probabilities_MC: Floats,
    labels_M: Ints,
    prior_C: NDArray[np.floating],
    counts_BM: Floats,
    *,
    start_1C: Floats | None = None,
) -> Floats:
    """What each class's probability has to be multiplied by, for each weighting of the rows.

    At the fixed point the mean probabilities are the shares s of the labels, but for a ridge of 1 on the biases b = log
    of the result: M(s - mean) = b. A class without a label is left as it is.
    """
    prior_C = np.asarray(prior_C, dtype=np.float64)
    num_rows_BC = counts_BM @ np.eye(len(prior_C))[labels_M]
    total_B1 = num_rows_BC.sum(axis=1, keepdims=True)
    odds_BC = np.divide(num_rows_BC / total_B1, prior_C, out=np.zeros_like(num_rows_BC), where=prior_C > 0)
    kept_BC = num_rows_BC / (1 + num_rows_BC)
    found_BC = np.ones_like(num_rows_BC) if start_1C is None else np.repeat(start_1C, len(counts_BM), axis=0)
    for _ in range(MOST_STEPS):
        ratio_BC = odds_BC * found_BC
        weight_BM = counts_BM / np.maximum(ratio_BC @ probabilities_MC.T, 1e-300)
        said_BC = ratio_BC * (weight_BM @ probabilities_MC)
        updated_BC = (found_BC * (num_rows_BC + 1) / (said_BC + 1)) ** kept_BC
        change = float(np.abs(np.log(updated_BC / found_BC)).max())
        found_BC = updated_BC
        if change < 1e-3:
            break
    return found_BC


def saerens_prior(
    probabilities_NC: NDArray[np.floating], prior_C: NDArray[np.floating], *, tolerance: float = 1e-6, most: int = 500
) -> Floats:
    """Class shares of the rows by expectation maximisation, if only the mix changed since `prior_C`.

    `probabilities_NC` have to be calibrated under `prior_C`; a class with prior 0 stays at 0.
    Source: Saerens 2002, Neural Computation 14:21, equation 2.9.
    """
    old_C = np.asarray(prior_C, dtype=np.float64)
    counts_1N = np.ones((1, len(probabilities_NC)))
    start_1C = (old_C / old_C.sum())[None]
    found_1C = _maximise(probabilities_NC, old_C[None], counts_1N, start_1C, tolerance=tolerance, most=most)
    return np.asarray(found_1C[0], dtype=np.float64)


def _maximise(
    probabilities_NC: NDArray[np.floating],
    priors_BC: Floats,
    counts_BN: Floats,
    shares_BC: Floats,
    *,
    tolerance: float,
    most: int = 500,
) -> Floats:
    """The multiplicative form of the EM's step, for many old mixes and weightings of the rows at once."""
    probabilities_NC = np.asarray(probabilities_NC, dtype=np.float64)
    inverse_BC = np.divide(1.0, priors_BC, out=np.zeros_like(priors_BC), where=priors_BC > 0)
    counts_BN = counts_BN / counts_BN.sum(axis=1, keepdims=True)
    for _ in range(most):
        ratio_BC = shares_BC * inverse_BC
        evidence_BN = np.maximum(ratio_BC @ probabilities_NC.T, 1e-300)
        updated_BC = ratio_BC * ((counts_BN / evidence_BN) @ probabilities_NC)
        updated_BC /= np.maximum(updated_BC.sum(axis=1, keepdims=True), 1e-300)
        change = float(np.abs(updated_BC - shares_BC).max())
        shares_BC = updated_BC
        if change < tolerance:
            break
    return shares_BC


def _resample(num_rows: int, blocks_N: Ints | None, num_resamples: int, rng: np.random.Generator) -> Floats:
    """How often each row is drawn: counts_BN."""
    if blocks_N is None:
        return rng.multinomial(num_rows, np.full(num_rows, 1 / num_rows), size=num_resamples).astype(np.float64)
    _, block_N = np.unique(blocks_N, return_inverse=True)
    num_blocks = int(block_N.max()) + 1
    drawn = rng.multinomial(num_blocks, np.full(num_blocks, 1 / num_blocks), size=num_resamples)
    return np.asarray(drawn[:, block_N], dtype=np.float64)


def _resample_within(labels_M: Ints, num_resamples: int, rng: np.random.Generator) -> Floats:
    """The same within each class, so that each keeps its number of rows: counts_BM."""
    counts_BM = np.empty((num_resamples, len(labels_M)))
    for label in np.unique(labels_M):
        rows = np.flatnonzero(labels_M == label)
        counts_BM[:, rows] = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=num_resamples)
    return counts_BM


def confusions(predicted_M: Ints, labels_M: Ints, num_classes: int) -> Confusions:
    """P(predicted | true) of labelled rows; a mix solves rates @ shares = predicted shares.

    Source: Lipton 2018 (arXiv:1802.03916), section 4. Raises: UserError where it cannot be inverted reliably.
    """
    support_C = np.bincount(labels_M, minlength=num_classes)
    rates_CC = _rates(predicted_M, labels_M, num_classes)
    condition = float(np.linalg.cond(rates_CC)) if (support_C > 0).all() else float("inf")
    if condition > MAX_CONDITION:
        raise UserError(
            f"class mix: expected reference confusions with a condition number of at most {MAX_CONDITION:g}, got "
            f"{condition:.3g}; add labelled reference rows of the rare classes, or trust the EM estimate alone"
        )
    return Confusions(rates_CC=rates_CC, support_C=support_C)


def _rates(predicted_M: Ints, labels_M: Ints, num_classes: int, counts_M: Floats | None = None) -> Floats:
    """P(predicted | true), rows counted as often as `counts_M` says; 0 for a class without rows."""
    places_M = np.asarray(predicted_M) * num_classes + labels_M
    joint_CC = np.bincount(places_M, weights=counts_M, minlength=num_classes**2).reshape(num_classes, num_classes)
    return np.asarray(joint_CC / np.maximum(joint_CC.sum(axis=0), 1), dtype=np.float64)


def _solve(rates_CC: Floats, said_C: Floats) -> Floats:
    """Shares whose predicted labels would be `said_C`."""
    shares_C, _ = nnls(rates_CC, said_C)
    return np.asarray(shares_C / max(shares_C.sum(), 1e-300), dtype=np.float64)


def keep_a_chance(shares_C: NDArray[np.floating], prior_C: NDArray[np.floating], num_rows: int) -> Floats:
    """Shares drawn towards `prior_C` as by one row a class, so that a class not seen yet does not become impossible.

    This is the posterior mean under a Dirichlet prior of C pseudo-rows in the mix `prior_C`.
    """
    prior_C, num_classes = np.asarray(prior_C, dtype=np.float64), len(prior_C)
    kept_C = np.where(prior_C > 0, shares_C, 0.0)
    return np.asarray((num_rows * kept_C / kept_C.sum() + num_classes * prior_C) / (num_rows + num_classes))


def thin_to_mix(labels_N: Ints, shares_C: NDArray[np.floating], rng: np.random.Generator) -> Ints:
    """Row numbers, in order, of a subset that is a random sample of the same classes in the mix `shares_C`.

    Rejection sampling without replacement: each row stays with a chance in proportion to its class's wanted share over
    its present one, so exact tests on the subset remain exact.
    """
    present_C = np.bincount(labels_N, minlength=len(shares_C)) / len(labels_N)
    ratio_C = np.divide(shares_C, present_C, out=np.zeros(len(shares_C)), where=present_C > 0)
    return np.flatnonzero(rng.random(len(labels_N)) < (ratio_C / ratio_C.max())[labels_N])


def gain_at_mix(
    gain_N: NDArray[np.floating], labels_N: Ints, draws_BC: Floats, *, rng: np.random.Generator, confidence: float = 0.9
) -> Interval:
    """Mean of a paired difference a row over the rows' classes in another mix, with its percentile interval.

    Each resample draws rows anew and takes one draw of the mix, so what is not known of either is in the interval; at
    confidence .9 each end is a one-sided bound at 5 %.
    """
    num_draws, num_classes = draws_BC.shape
    member_NC = np.eye(num_classes)[labels_N]
    sums_NC = member_NC * np.asarray(gain_N, dtype=np.float64)[:, None]
    counts_BN = rng.multinomial(len(gain_N), np.full(len(gain_N), 1 / len(gain_N)), size=num_draws).astype(np.float64)
    drawn_B = _mean_at(counts_BN @ sums_NC, counts_BN @ member_NC, draws_BC)
    low, high = np.quantile(drawn_B, [(1 - confidence) / 2, (1 + confidence) / 2])
    value = _mean_at(sums_NC.sum(axis=0)[None], member_NC.sum(axis=0)[None], draws_BC.mean(axis=0)[None])[0]
    return Interval(value=float(value), low=float(low), high=float(high))


def _mean_at(sums_BC: Floats, counts_BC: Floats, shares_BC: Floats) -> Floats:
    """Class means weighted by the shares; a class without rows counts as no difference."""
    means_BC = np.divide(sums_BC, counts_BC, out=np.zeros_like(sums_BC), where=counts_BC > 0)
    return np.asarray((means_BC * shares_BC).sum(axis=1))


def effective_rows(labels_N: Ints, shares_C: NDArray[np.floating]) -> float:
    """Rows of the wanted mix that tell as much as these rows, reweighted to it, do. Source: Kish 1965, section 11.7."""
    counts_C = np.bincount(labels_N, minlength=len(shares_C))
    seen = (counts_C > 0) & (np.asarray(shares_C) > 0)
    return float(shares_C[seen].sum() ** 2 / np.sum(shares_C[seen] ** 2 / counts_C[seen])) if seen.any() else 0.0
