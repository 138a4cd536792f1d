"""What the tasks differ in while a model is made: targets, losses, and how good logits are.

The classes of a single label compete in one softmax; the labels of a set, and the share of a score, are sigmoids of
their own. Everything else, from the tokens to the ONNX graph, is the same.

Shapes: N rows, B batch, C classes.
"""

import json
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bento.task_types import Target, Task, sigmoid, softmax
from tasks.stats.multi_label import best_threshold, micro_f1
from tasks.stats.scores import spearman
from tasks.types import Split

UNLABELLED = -1
"""Stands for the truth of a row that has none."""

SMALLEST = 1e-12
"""Probabilities are raised to this before a logarithm."""


class TaskType(Protocol):
    """One task: how its truth is learnt and judged."""

    problem_type: str
    """What `transformers` calls the head."""
    quality_name: str
    """What `quality` is."""

    def targets(self, split: Split, labels: tuple[str, ...]) -> NDArray[Any]:
        """The truth as an array with a row a row."""

    def loss(self, logits_BC: Any, truth: Any) -> Any:
        """Cross entropy of the rows that have a truth, their mean."""

    def soft_loss(self, logits_BC: Any, teacher_BC: Any, temperature: float) -> Any:
        """Divergence of the answers from the teacher's, both softened."""

    def divergence(self, reference_NC: NDArray[Any], logits_NC: NDArray[Any]) -> float:
        """Mean Kullback-Leibler divergence of the answers from the reference's, in nats."""

    def quality(self, logits_NC: NDArray[Any], truth: NDArray[Any]) -> float:
        """How good the answers are, 1 at best: what early stopping and budgets go by."""

    def prior_logits(self, truth: NDArray[Any]) -> Any:
        """logits_C that a new head starts from; None where it starts at zero."""

    def mean_logits(self, found: list[NDArray[Any]]) -> Any:
        """Logits of the mean of several models' probabilities."""


class SingleLabel:
    """One class of several."""

    problem_type = "single_label_classification"
    quality_name = "accuracy"

    def targets(self, split: Split, labels: tuple[str, ...]) -> NDArray[np.int64]:
        """Class indices of the rows."""
        index = {label: at for at, label in enumerate(labels)}
        return np.array([index[label] for label in split.labels], dtype=np.int64)

    def loss(self, logits_BC: Any, truth: Any) -> Any:
        """Cross entropy of `truth`, labels_B."""
        import torch.nn.functional as nn

        total = nn.cross_entropy(logits_BC, truth, ignore_index=UNLABELLED, reduction="sum")
        return total / (truth != UNLABELLED).sum().clamp(min=1)

    def soft_loss(self, logits_BC: Any, teacher_BC: Any, temperature: float) -> Any:
        """KL(teacher || student) of the softmaxes at the temperature."""
        import torch.nn.functional as nn

        student_log = nn.log_softmax(logits_BC / temperature, dim=-1)
        teacher_log = nn.log_softmax(teacher_BC / temperature, dim=-1)
        return nn.kl_div(student_log, teacher_log, reduction="batchmean", log_target=True)

    def divergence(self, reference_NC: NDArray[Any], logits_NC: NDArray[Any]) -> float:
        """Of the softmaxes."""
        p_NC, q_NC = (softmax(logits).astype(np.float64).clip(SMALLEST) for logits in (reference_NC, logits_NC))
        return float((p_NC * np.log(p_NC / q_NC)).sum(axis=1).mean())

    def quality(self, logits_NC: NDArray[Any], truth: NDArray[Any]) -> float:
        """Accuracy."""
        return float((logits_NC.argmax(axis=1) == truth).mean())

    def prior_logits(self, truth: NDArray[Any]) -> Any:
        """None: a softmax of zeros is a start as good as any."""
        return None

    def mean_logits(self, found: list[NDArray[Any]]) -> Any:
        """The logarithm of the mean softmax."""
        mean_NC = np.mean([softmax(logits_NC) for logits_NC in found], axis=0)
        return np.log(np.maximum(mean_NC, 1e-9)).astype(np.float32)


class _Sigmoids:
    """What label sets and scores share: each output is a probability of its own, with a truth in [0, 1]."""

    def loss(self, logits_BC: Any, truth: Any) -> Any:
        """Binary cross entropy of `truth`, shares_BC, mean over the outputs."""
        import torch.nn.functional as nn

        known_BC = truth != UNLABELLED
        losses_BC = nn.binary_cross_entropy_with_logits(logits_BC, truth, reduction="none")
        return (losses_BC * known_BC).sum() / known_BC.sum().clamp(min=1)

    def soft_loss(self, logits_BC: Any, teacher_BC: Any, temperature: float) -> Any:
        """KL(teacher || student) of the sigmoids at the temperature, mean over the outputs."""
        import torch.nn.functional as nn

        teacher_BC = teacher_BC / temperature
        share_BC = teacher_BC.sigmoid()
        cross = nn.binary_cross_entropy_with_logits(logits_BC / temperature, share_BC)
        return cross - nn.binary_cross_entropy_with_logits(teacher_BC, share_BC)

    def divergence(self, reference_NC: NDArray[Any], logits_NC: NDArray[Any]) -> float:
        """Of the sigmoids, summed over the outputs."""
        both = [sigmoid(logits).astype(np.float64) for logits in (reference_NC, logits_NC)]
        p_NC, q_NC = (np.clip(each, SMALLEST, 1 - SMALLEST) for each in both)
        kl_NC = p_NC * np.log(p_NC / q_NC) + (1 - p_NC) * np.log((1 - p_NC) / (1 - q_NC))
        return float(kl_NC.sum(axis=1).mean())

    def prior_logits(self, truth: NDArray[Any]) -> Any:
        """The log-odds of each output's mean truth.

        From zero, the way to rare labels is so far that the encoder learns to say it for all texts alike (the prior
        of focal loss, Lin 2017, arXiv:1708.02002, section 3.3).
        """
        mean_C = truth.mean(axis=0).clip(1e-4, 1 - 1e-4)
        return np.log(mean_C) - np.log1p(-mean_C)

    def mean_logits(self, found: list[NDArray[Any]]) -> Any:
        """The log-odds of the mean sigmoid."""
        mean_NC = np.mean([sigmoid(logits_NC) for logits_NC in found], axis=0).clip(1e-7, 1 - 1e-7)
        return (np.log(mean_NC) - np.log1p(-mean_NC)).astype(np.float32)


class MultiLabel(_Sigmoids):
    """Any number of labels."""

    problem_type = "multi_label_classification"
    quality_name = "micro_f1"

    def targets(self, split: Split, labels: tuple[str, ...]) -> NDArray[np.float32]:
        """shares_NC: 1 for each label that a row has, else 0."""
        index = {label: at for at, label in enumerate(labels)}
        found_NC = np.zeros((len(split), len(labels)), dtype=np.float32)
        for row, names in enumerate(split.labels):
            found_NC[row, [index[name] for name in json.loads(names)]] = 1
        return found_NC

    def quality(self, logits_NC: NDArray[Any], truth: NDArray[Any]) -> float:
        """Micro-F1 at the threshold that gives most of it."""
        probabilities_NC = sigmoid(logits_NC)
        return micro_f1(probabilities_NC >= best_threshold(probabilities_NC, truth), truth)


class Score(_Sigmoids):
    """A number on a scale."""

    problem_type = "regression"
    quality_name = "spearman"

    def __init__(self, target: Target) -> None:
        self.target = target

    def targets(self, split: Split, labels: tuple[str, ...]) -> Any:
        """shares_N1: where on the scale each row's score is, its ends where it lies beyond."""
        shares_N = self.target.share(np.array([float(score) for score in split.labels]))
        return shares_N.clip(0, 1).astype(np.float32)[:, None]

    def quality(self, logits_NC: NDArray[Any], truth: NDArray[Any]) -> float:
        """Spearman's correlation."""
        return spearman(logits_NC[:, 0], truth[:, 0])


def task_type(target: Target) -> TaskType:
    """The type of this target's task."""
    types: dict[Task, TaskType] = {
        "single_label": SingleLabel(), "multi_label": MultiLabel(), "score": Score(target),
    }  # fmt: skip
    return types[target.task]
