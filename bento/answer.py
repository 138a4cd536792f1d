"""One text's answer as it is sent, logged, counted and cached."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from bento.task_types import Answers, Floats, confidences, named

if TYPE_CHECKING:
    from bento.predictor import Predictor, Text

OBJECT_BYTES = 600
"""What an answer's Python objects take beside their contents."""


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What a model says of one text. All of it can be written as JSON, so it can come from a shared cache."""

    prediction: dict[str, Any]
    """As it is sent."""
    logged: str
    """The answer as the log's one column of text: a class, a JSON list of them or of entities, or a number."""
    named: tuple[str, ...]
    """The classes that it names, for the counters."""
    probabilities_C: Floats
    """Of each class; of entities, the score of each that was found."""

    @property
    def abstained(self) -> bool:
        """Whether a person had better answer."""
        return bool(self.prediction.get("abstained"))

    @property
    def confidences(self) -> Sequence[float]:
        """The probability of each class that it names."""
        probability = self.prediction.get("probability")
        if probability is not None:
            return (probability,)
        return confidences({key: [value] for key, value in self.prediction.items()})

    def size_bytes(self) -> int:
        """About what it takes in memory."""
        return OBJECT_BYTES + 2 * len(self.logged) + self.probabilities_C.nbytes

    def probabilities(self) -> list[float]:
        """Of each class, as they are sent."""
        values: list[float] = self.probabilities_C.tolist()
        return values

    def dump(self) -> bytes:
        """As JSON, for a shared cache."""
        return orjson.dumps([self.prediction, self.logged, self.named, self.probabilities()])

    @classmethod
    def load(cls, stored: bytes) -> "Answer":
        """What `dump` wrote. Raises: ValueError, TypeError for anything else."""
        prediction, logged, names, values = orjson.loads(stored)
        if not isinstance(prediction, dict) or not isinstance(logged, str):
            raise TypeError("expected an answer")
        return cls(prediction, logged, tuple(names), np.asarray(values, dtype=np.float32))


def answers_of(predictor: "Predictor", texts: Sequence["Text"], probabilities_BC: Floats) -> list[Answer]:
    """The answers to B texts that have these probabilities."""
    columns = predictor.answers(texts, probabilities_BC)
    logged_B = _logged(columns)
    values_B = _values(columns, probabilities_BC)
    rows = zip(*columns.values(), strict=True)
    return [
        Answer(prediction := dict(zip(columns, row, strict=True)), logged, _named(prediction), values)
        for row, logged, values in zip(rows, logged_B, values_B, strict=True)
    ]


def _named(prediction: dict[str, Any]) -> tuple[str, ...]:
    label = prediction.get("label")
    return (label,) if label is not None else tuple(named({key: [value] for key, value in prediction.items()}))


def _logged(columns: Answers) -> list[str]:
    if "label" in columns:
        return columns["label"]
    if "entities" in columns:
        return [json.dumps([_without_text(entity) for entity in found]) for found in columns["entities"]]
    (values,) = (columns[name] for name in ("labels", "score") if name in columns)
    return [json.dumps(value, ensure_ascii=False) for value in values]


def _without_text(entity: dict[str, Any]) -> dict[str, Any]:
    """Its place says what it is where the log keeps the text, and nothing may say it where the log does not."""
    return {key: value for key, value in entity.items() if key != "text"}


def _values(columns: Answers, probabilities_BC: Floats) -> list[Floats]:
    if "entities" in columns:
        return [np.array([entity["score"] for entity in found], dtype=np.float32) for found in columns["entities"]]
    return [row_C.copy() for row_C in probabilities_BC]  # a view would keep the whole batch in the cache
