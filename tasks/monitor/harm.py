"""Does it hurt? Audited answers against the accuracy that the gate saw."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bento.errors import UserError
from tasks.monitor.config import MonitorConfig
from tasks.stats.budget import alpha_per_look
from tasks.stats.proportion import clopper_pearson, excess_error_p, ppi_accuracy
from tasks.types import Interval


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """The champion's errors on the test split."""

    num_errors: int
    num_rows: int

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return 1 - self.num_errors / self.num_rows


@dataclass(frozen=True, kw_only=True)
class HarmEvidence:
    """What the audited labels say."""

    num_labels: int
    num_errors: int
    accuracy: Interval | None
    """Exact 95 % interval; null without labels."""
    estimate: Interval | None
    """Accuracy sharpened by the confidences of unlabelled rows; null where those were not given or labels are few."""
    baseline_accuracy: float
    baseline_rows: int
    tolerance: float
    p_value: float
    """Of "the error rate rose by no more than the tolerance"."""
    alpha: float
    enough: bool
    """Whether there were the labels that a verdict needs."""
    harmful: bool
    new_labels: tuple[str, ...]
    """Audited labels that the champion cannot answer; each counts as an error."""


def harm_alpha(config: MonitorConfig) -> float:
    """Level of one look's harm test: half of the budget over all looks."""
    return alpha_per_look(config.false_alarm_budget / 2, config.looks)


def audit(
    true_labels: Sequence[str],
    predicted_labels: Sequence[str],
    *,
    known_labels: Sequence[str],
    baseline: Baseline,
    config: MonitorConfig,
    confidence_n: NDArray[np.floating] | None = None,
    confidence_N: NDArray[np.floating] | None = None,
) -> HarmEvidence:
    """Test whether audited answers are wrong more often than the baseline by more than the tolerance.

    The test is exact for any number of labels and allows for the baseline being an estimate too, so that few labels
    cannot alarm by accident. The labelled rows have to be a random sample of the traffic. `confidence_n` (audited rows)
    and `confidence_N` (unlabelled rows) are the champion's largest probabilities. Raises: UserError.
    """
    n = len(true_labels)
    if n != len(predicted_labels) or not 0 <= baseline.num_errors <= baseline.num_rows or not baseline.num_rows:
        raise UserError(
            f"harm: expected a prediction for each of {n} labels and a baseline with rows, got "
            f"{len(predicted_labels)} predictions and {baseline}; score the test split again"
        )
    correct_n = np.array([true == said for true, said in zip(true_labels, predicted_labels, strict=True)], dtype=bool)
    num_errors, alpha = int(n - correct_n.sum()), harm_alpha(config)
    p_value = excess_error_p(
        num_errors,
        n,
        baseline_errors=baseline.num_errors,
        baseline_n=baseline.num_rows,
        tolerance=config.tolerance,
        alpha=alpha,
    )
    enough = n >= config.min_labels
    sharpened = enough and confidence_n is not None and confidence_N is not None and len(confidence_N) > 0
    return HarmEvidence(
        num_labels=n,
        num_errors=num_errors,
        accuracy=clopper_pearson(n - num_errors, n) if n else None,
        estimate=ppi_accuracy(correct_n, confidence_n, confidence_N) if sharpened else None,  # type: ignore[arg-type]
        baseline_accuracy=baseline.accuracy,
        baseline_rows=baseline.num_rows,
        tolerance=config.tolerance,
        p_value=p_value,
        alpha=alpha,
        enough=enough,
        harmful=enough and p_value <= alpha,
        new_labels=tuple(sorted(set(true_labels) - set(known_labels))),
    )
