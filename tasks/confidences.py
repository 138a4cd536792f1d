"""The confidence that is served with each answer, and whether the answer is right.

| task | answers | confidence |
|---|---|---|
| single_label | a class a row | its probability |
| multi_label | each label that is answered | its probability |
| entities | each entity that is found, right where span and type are | the mean probability of its words' tags |

A score has none: it is a place on a scale.

Shapes: N rows, M answers of all rows, C classes.
"""

import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.data.truths import read_entities
from tasks.types import AnyPredictions, EntityPredictions, Predictions


@dataclass(frozen=True, kw_only=True)
class Answered:
    """All answers of a split."""

    confidence_M: NDArray[np.float64]
    right_M: NDArray[np.bool_]
    row_M: NDArray[np.int64]
    """Which row each belongs to."""


def answered(predictions: AnyPredictions) -> Answered | None:
    """The answers of a model; None of a score, or where no confidence was said."""
    if isinstance(predictions, Predictions):
        confidence_N = predictions.probabilities_NC.max(axis=1).astype(np.float64)
        rows_N = np.arange(len(confidence_N))
        return Answered(confidence_M=confidence_N, right_M=predictions.correct_N, row_M=rows_N)
    if isinstance(predictions, EntityPredictions):
        return _entities(predictions) if predictions.confidences else None
    if predictions.task == "score":
        return None
    row_M, class_M = np.nonzero(predictions.chosen_NC)
    return Answered(
        confidence_M=predictions.probabilities_NC[row_M, class_M].astype(np.float64),
        right_M=predictions.truth_NC[row_M, class_M] > 0,
        row_M=row_M,
    )


def _entities(predictions: EntityPredictions) -> Answered:
    found = [
        (confidence, entity in truth, row)
        for row, (answers, confidences, truth) in enumerate(
            zip(
                map(read_entities, predictions.answers),
                map(json.loads, predictions.confidences),
                map(read_entities, predictions.truth),
                strict=True,
            )
        )
        for entity, confidence in zip(answers, confidences, strict=True)
    ]
    return Answered(
        confidence_M=np.array([one[0] for one in found], dtype=np.float64),
        right_M=np.array([one[1] for one in found], dtype=np.bool_),
        row_M=np.array([one[2] for one in found], dtype=np.int64),
    )
