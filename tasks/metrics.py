"""Each task's metrics, with bootstrap intervals of one model and paired ones of two. The first judges the task.

| task | metrics |
|---|---|
| single_label | accuracy, macro_f1 |
| multi_label | micro_f1, macro_f1 |
| score | spearman, pearson |
| entities | entity_f1 (span and type exact), macro_f1 (mean over the types) |

Shapes: N rows, C classes.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento.task_types import Task
from tasks.data.truths import read_entities
from tasks.stats import multi_label, scores
from tasks.stats.bootstrap import accuracy_interval, macro_f1_interval
from tasks.stats.entities import entity_terms
from tasks.stats.sums import SumStatistic, sums_interval
from tasks.types import AnyPredictions, EntityPredictions, Interval, Predictions, SigmoidPredictions

METRICS: dict[Task, tuple[str, str]] = {
    "single_label": ("accuracy", "macro_f1"),
    "multi_label": ("micro_f1", "macro_f1"),
    "score": ("spearman", "pearson"),
    "entities": ("entity_f1", "macro_f1"),
}
TITLES = {
    "accuracy": "accuracy", "macro_f1": "macro-F1", "micro_f1": "micro-F1", "spearman": "Spearman",
    "pearson": "Pearson", "entity_f1": "entity F1",
}  # fmt: skip

CORRELATIONS = frozenset({"spearman", "pearson"})
"""The metrics that are no shares, so that they are told as numbers and not in percent."""


def metrics_of(row: Mapping[str, Any]) -> tuple[str, str]:
    """Names of the metrics in a flat row of scores, the one that judges the task first."""
    return next((names for names in METRICS.values() if names[0] in row), METRICS["single_label"])


Difference = Callable[..., Interval]
_SET_INTERVALS: dict[str, Difference] = {
    "micro_f1": multi_label.micro_f1_interval,
    "macro_f1": multi_label.macro_f1_sets_interval,
}
_SET_DIFFERENCES: dict[str, Difference] = {
    "micro_f1": multi_label.micro_f1_difference,
    "macro_f1": multi_label.macro_f1_sets_difference,
}
_ENTITY_STATISTICS: dict[str, SumStatistic] = {
    "entity_f1": multi_label.micro_statistic,
    "macro_f1": multi_label.macro_statistic,
}
_SCORE_INTERVALS: dict[str, Difference] = {"spearman": scores.spearman_interval, "pearson": scores.pearson_interval}
_SCORE_DIFFERENCES: dict[str, Difference] = {
    "spearman": scores.spearman_difference,
    "pearson": scores.pearson_difference,
}


def metric_intervals(
    predictions: AnyPredictions, rng: np.random.Generator, confidence: float = 0.95
) -> dict[str, Interval]:
    """The metrics by name. Raises: ValueError without rows."""
    options: dict[str, Any] = {"rng": rng, "confidence": confidence}
    if isinstance(predictions, Predictions):
        predicted_N = predictions.probabilities_NC.argmax(axis=1)
        return {
            "accuracy": accuracy_interval(predictions.labels_N, predicted_N, **options),
            "macro_f1": macro_f1_interval(predictions.labels_N, predicted_N, **options),
        }
    if isinstance(predictions, EntityPredictions):
        terms_NK = terms_of(predictions)
        return {name: sums_interval(terms_NK, statistic, **options) for name, statistic in _ENTITY_STATISTICS.items()}
    if predictions.task == "multi_label":
        return {
            name: interval(predictions.chosen_NC, predictions.truth_NC, **options)
            for name, interval in _SET_INTERVALS.items()
        }
    given_N, truth_N = predictions.probabilities_NC[:, 0], predictions.truth_NC[:, 0]
    return {name: interval(given_N, truth_N, **options) for name, interval in _SCORE_INTERVALS.items()}


def terms_of(predictions: EntityPredictions) -> NDArray[np.float64]:
    """terms_N2C of `tasks.stats.entities.entity_terms`."""
    answers, truth = ([read_entities(row) for row in rows] for rows in (predictions.answers, predictions.truth))
    return entity_terms(answers, truth, predictions.types)


def metric_difference(
    name: str,
    candidate: SigmoidPredictions | EntityPredictions,
    reference: SigmoidPredictions | EntityPredictions,
    *,
    rng: np.random.Generator,
    confidence: float,
) -> Interval:
    """A metric of the candidate less that of the reference, with its paired interval."""
    options: dict[str, Any] = {"rng": rng, "confidence": confidence}
    if isinstance(candidate, EntityPredictions) and isinstance(reference, EntityPredictions):
        both = [terms_of(one) for one in (candidate, reference)]
        both = [multi_label.all_together(terms) for terms in both] if name == "entity_f1" else both
        return multi_label.f1_difference(both[0], both[1], _ENTITY_STATISTICS[name], **options)
    if isinstance(candidate, EntityPredictions) or isinstance(reference, EntityPredictions):
        raise ValueError(f"expected answers of one task, got {candidate.task} and {reference.task}")
    if candidate.task == "multi_label":
        return _SET_DIFFERENCES[name](candidate.chosen_NC, reference.chosen_NC, candidate.truth_NC, **options)
    given = (each[:, 0] for each in (candidate.probabilities_NC, reference.probabilities_NC, candidate.truth_NC))
    return _SCORE_DIFFERENCES[name](*given, **options)
