"""What a text has as its truth, and what a model therefore answers: one class of several, any number of labels, a
score, or entities.

| task | truth | probabilities_NC | answer |
|---|---|---|---|
| single_label | one class | softmax over C classes | label, probability, abstained |
| multi_label | any number of classes | a sigmoid each | labels, label_probabilities |
| score | a number on a scale | one sigmoid: the place on the scale, C = 1 | score |
| entities | spans with a type | of each word a softmax over the tags, probabilities_NWK | entities |

A score is learnt as a share of its scale by cross entropy, as the cross encoders of Sentence-BERT are (Reimers 2019,
arXiv:1908.10084), so that it shares everything with the label sets.

Shapes: N rows, B batch, C classes.
"""

import itertools
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

Floats = NDArray[np.float32]
Task = Literal["single_label", "multi_label", "score", "entities"]
Answers = dict[str, list[Any]]
"""Column -> one value a row: what service, batch scoring and the MLflow model answer."""


class Target(BaseModel):
    """What the rows' truth is, as data artifact and manifest store it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Task = "single_label"
    low: float = 0.0
    """Lower end of a score's scale: the smallest score that training has."""
    high: float = 1.0
    """Its upper end."""

    def score(self, shares: Any) -> Any:
        """The scores at these shares of the scale."""
        return self.low + shares * (self.high - self.low)

    def share(self, scores: Any) -> Any:
        """Where on the scale the scores are, 0 to 1; outside of it below or above."""
        return (scores - self.low) / (self.high - self.low)


def softmax(logits_BC: Floats, temperature: float = 1.0) -> Floats:
    """Row-wise softmax of `logits_BC / temperature`."""
    exp_BC: Floats = np.subtract(logits_BC, logits_BC.max(axis=-1, keepdims=True), dtype=np.float32)
    exp_BC *= 1 / temperature
    np.exp(exp_BC, out=exp_BC)
    exp_BC /= exp_BC.sum(axis=-1, keepdims=True)
    return exp_BC


def sigmoid(logits_BC: Floats, temperature: float = 1.0) -> Floats:
    """Each logit's own probability, that of `logits_BC / temperature`."""
    found_BC: Floats = 0.5 * (1 + np.tanh(logits_BC.astype(np.float32) / (2 * temperature)))
    return found_BC


def probabilities(logits_BC: Floats, task: Task, temperature: float = 1.0) -> Floats:
    """probabilities_BC of the logits of a model of this task."""
    return sigmoid(logits_BC, temperature) if task in ("multi_label", "score") else softmax(logits_BC, temperature)


def label_answers(probabilities_NC: Floats, labels: tuple[str, ...], abstained_N: NDArray[np.bool_]) -> Answers:
    """The most probable class of each row."""
    return {
        "label": [labels[at] for at in probabilities_NC.argmax(axis=1)],
        "probability": probabilities_NC.max(axis=1).astype(float).tolist(),
        "abstained": abstained_N.tolist(),
    }


def label_set_answers(probabilities_NC: Floats, labels: tuple[str, ...], threshold: float) -> Answers:
    """The classes of each row that reach the threshold, the most probable first."""
    chosen = [
        [int(at) for at in np.argsort(-row_C, kind="stable") if row_C[at] >= threshold] for row_C in probabilities_NC
    ]
    return {
        "labels": [[labels[at] for at in row] for row in chosen],
        "label_probabilities": [
            [float(row_C[at]) for at in row] for row_C, row in zip(probabilities_NC, chosen, strict=True)
        ],
    }


def named(answers: Mapping[str, list[Any]]) -> list[str]:
    """Every class that the answers name, as often as they do; none for scores."""
    entities = itertools.chain.from_iterable(answers.get("entities", ()))
    label_sets = itertools.chain.from_iterable(answers.get("labels", ()))
    return [*answers.get("label", ()), *label_sets, *(entity["label"] for entity in entities)]


def confidences(answers: Mapping[str, list[Any]]) -> list[float]:
    """The probability of each class that `named` lists, in its order."""
    entities = itertools.chain.from_iterable(answers.get("entities", ()))
    label_sets = itertools.chain.from_iterable(answers.get("label_probabilities", ()))
    return [*answers.get("probability", ()), *label_sets, *(entity["score"] for entity in entities)]
