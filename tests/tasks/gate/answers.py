"""Answers of two models with exact counts of who alone is right."""

from dataclasses import replace

import numpy as np

from tasks.types import Interval, Predictions, Scores

NUM_CLASSES = 4


def predictions(predicted_N, labels_N, ids=None):
    n = len(labels_N)
    return Predictions(
        ids=ids or tuple(f"row-{row}" for row in range(n)),
        probabilities_NC=np.eye(NUM_CLASSES, dtype=np.float32)[predicted_N],
        labels_N=labels_N,
        latency_ms_N=np.empty(0),
    )


def pair(n, *, candidate_only, reference_only, both_wrong=0):
    """A candidate and a reference with exactly these counts, answers spread over the classes."""
    labels_N = np.arange(n) % NUM_CLASSES
    wrong_N = (labels_N + 1) % NUM_CLASSES
    rows = np.arange(n)
    candidate_wrong = (rows < reference_only + both_wrong) & (rows >= 0)
    reference_wrong = (rows >= reference_only) & (rows < reference_only + both_wrong + candidate_only)
    return (
        predictions(np.where(candidate_wrong, wrong_N, labels_N), labels_N),
        predictions(np.where(reference_wrong, wrong_N, labels_N), labels_N),
    )


def scores(**changes):
    whole = Scores(
        metrics={
            "accuracy": Interval(value=0.92, low=0.91, high=0.93),
            "macro_f1": Interval(value=0.9, low=0.89, high=0.91),
        },
        num_rows=2_000,
        size_bytes=17_000_000,
        latency_ms_p50=0.4,
        latency_ms_p95=0.7,
        throughput_per_s=2_000.0,
    )
    return replace(whole, **changes)
