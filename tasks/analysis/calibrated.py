"""Whether the probabilities that are served can be believed, and what abstention buys with them.

Shapes: N rows, C classes.
"""

from typing import Any

import numpy as np

from bento.abstention import Abstention, scope_confidence
from bento.manifest import Manifest
from tasks.stats.calibration import brier_loss, calibration_error
from tasks.stats.proportion import clopper_pearson
from tasks.stats.selective import Curve, risk_coverage
from tasks.tables import Rows
from tasks.types import Predictions

COLUMNS = ("threshold", "coverage", "risk", "answered", "wrong")
MOST_POINTS = 200


def calibration(predictions: Predictions, manifest: Manifest) -> dict[str, Any]:
    """Calibration error and Brier loss on the test split with the stored temperature, and as they were without it."""
    after_NC = predictions.probabilities_NC.astype(np.float64)
    before_NC = np.maximum(after_NC, np.finfo(np.float32).tiny) ** manifest.temperature
    before_NC /= before_NC.sum(axis=1, keepdims=True)
    labels_N = predictions.labels_N
    return {
        "temperature": manifest.temperature,
        "calibration_error": calibration_error(after_NC, labels_N),
        "calibration_error_before": calibration_error(before_NC, labels_N),
        "brier_loss": brier_loss(after_NC, labels_N),
        "brier_loss_before": brier_loss(before_NC, labels_N),
    }


def selective_curve(predictions: Predictions, labels: tuple[str, ...], rule: Abstention | None) -> Curve:
    """Coverage and risk on the test split at every threshold."""
    outside = rule.labels if rule else ()
    confidence_N = scope_confidence(predictions.probabilities_NC, labels, outside)
    return risk_coverage(confidence_N, ~predictions.correct_N)


def curve_rows(curve: Curve) -> Rows:
    """One row a threshold, the strictest first."""
    columns = (curve.threshold_K, curve.coverage_K, curve.risk_K, curve.num_answered_K, curve.num_wrong_K)
    return [
        dict(zip(COLUMNS, values, strict=True)) for values in zip(*(each.tolist() for each in columns), strict=True)
    ]


def thinned(rows: Rows) -> Rows:
    """At most `MOST_POINTS` of them, evenly spaced, for a drawing."""
    kept = np.unique(np.linspace(0, len(rows) - 1, min(MOST_POINTS, len(rows))).astype(int))
    return [rows[at] for at in kept]


def abstention(predictions: Predictions, labels: tuple[str, ...], rule: Abstention) -> dict[str, Any]:
    """What the stored threshold does on the test split; shares with 95 % intervals, None where there are no rows."""
    confidence_N = scope_confidence(predictions.probabilities_NC, labels, rule.labels)
    answered_N = confidence_N >= rule.threshold
    outside_N = np.isin(predictions.labels_N, [labels.index(label) for label in rule.labels])
    return {
        "threshold": rule.threshold,
        "labels": list(rule.labels),
        "coverage": _share(answered_N),
        "risk": _share(~predictions.correct_N[answered_N]),
        "risk_without": _share(~predictions.correct_N),
        "coverage_in_scope": _share(answered_N[~outside_N]) if rule.labels else None,
        "abstained_out_of_scope": _share(~answered_N[outside_N]),
    }


def _share(hit_N: Any) -> dict[str, Any] | None:
    if not len(hit_N):
        return None
    found = clopper_pearson(int(hit_N.sum()), len(hit_N))
    return {"value": found.value, "low": found.low, "high": found.high, "n": len(hit_N)}
