"""Rows whose label is likely wrong, by confident learning, as a list for a person to check.

Shapes: N rows, C classes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

COLUMNS = ("split", "id", "text", "label", "suggested", "probability_label", "probability_suggested")


def suspects(probabilities_NC: Any, labels_N: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows that are confidently of another class than their label, most blatant first, and that class.

    A row counts as confidently of class j where p_j reaches the mean p_j of the rows labelled j. The probabilities
    must come from a model that was not trained on these rows. Source: Northcutt 2021 (arXiv:1911.00068), equations 1
    and 2, ranked by normalised margin.
    """
    probabilities_NC = np.asarray(probabilities_NC, dtype=np.float64)
    num_classes = probabilities_NC.shape[1]
    counts_C = np.bincount(labels_N, minlength=num_classes)
    given_N = probabilities_NC[np.arange(len(labels_N)), labels_N]
    sums_C = np.bincount(labels_N, weights=given_N, minlength=num_classes)
    threshold_C = np.divide(sums_C, counts_C, out=np.full(num_classes, np.inf), where=counts_C > 0)
    confident_NC = np.where(probabilities_NC >= threshold_C, probabilities_NC, -1.0)
    class_N = confident_NC.argmax(axis=1)
    found = np.flatnonzero((confident_NC.max(axis=1) >= 0) & (class_N != labels_N))
    margin = given_N[found] - probabilities_NC[found, class_N[found]]
    ranked = found[np.argsort(margin, kind="stable")]
    return ranked.astype(np.int64), class_N[ranked].astype(np.int64)
