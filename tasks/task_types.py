"""What the tasks differ in while a model is made: targets, losses, and how good logits are.

The classes of a single label compete in one softmax; the labels of a set, and the share of a score, are sigmoids of
their own; the tags of a word compete like classes. Everything else, from the tokens to the ONNX graph, is the same.

Shapes: N rows, B batch, C classes; of entities WK, words and tags, in C's place, M known words of all rows.
"""

import json
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bento.entities import OUTSIDE, group_tags, tags_of, words_of
from bento.task_types import Target, Task, sigmoid, softmax
from tasks.data.truths import read_entities
from tasks.stats.multi_label import best_threshold, micro_f1
from tasks.stats.scores import spearman
from tasks.types import Split

UNLABELLED = -1
"""Stands for the truth of a row that has none."""

SMALLEST = 1e-12
"""Probabilities are raised to this before a logarithm."""


class TaskType(Protocol):
    """One task: how its truth is learnt and judged."""

    @property
    def problem_type(self) -> str | None:
        """What `transformers` calls the head of a text; None for one of tokens."""

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

    def prior_logits(self, truth: NDArray[Any], num_outputs: int) -> Any:
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

    def prior_logits(self, truth: NDArray[Any], num_outputs: int) -> Any:
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

    def prior_logits(self, truth: NDArray[Any], num_outputs: int) -> Any:
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


class Entities:
    """A tag for every word; the words' answers are those of `SingleLabel`."""

    problem_type = None
    quality_name = "entity_f1"

    def __init__(self) -> None:
        self.of_word = SingleLabel()

    def targets(self, split: Split, labels: tuple[str, ...]) -> NDArray[np.int64]:
        """Tag indices_NW, UNLABELLED behind a text's last word."""
        index = {tag: at for at, tag in enumerate(labels)}
        words = [words_of(text) for text in split.texts]
        found_NW = np.full((len(split), max(map(len, words), default=0)), UNLABELLED, dtype=np.int64)
        for row, (spans, truth) in enumerate(zip(words, split.labels, strict=True)):
            found_NW[row, : len(spans)] = [index[tag] for tag in tags_of(spans, read_entities(truth))]
        return found_NW

    def loss(self, logits_BC: Any, truth: Any) -> Any:
        """Cross entropy of the words that have a tag and a token."""
        return self.of_word.loss(*known_words(logits_BC, truth))

    def soft_loss(self, logits_BC: Any, teacher_BC: Any, temperature: float) -> Any:
        """KL(teacher || student) of the words' softmaxes."""
        logits_MK, teacher_MK = _both_known(logits_BC, teacher_BC)
        return self.of_word.soft_loss(logits_MK, teacher_MK, temperature)

    def divergence(self, reference_NC: NDArray[Any], logits_NC: NDArray[Any]) -> float:
        """Of the words' softmaxes."""
        return self.of_word.divergence(*_both_known(reference_NC, logits_NC))

    def quality(self, logits_NC: NDArray[Any], truth: NDArray[Any]) -> float:
        """F1 of the runs of words that both name, of the same type."""
        best_NW, known_NW = logits_NC.argmax(axis=-1), np.isfinite(logits_NC).all(axis=-1)
        found = [_runs(tags_W) for tags_W in np.where(known_NW, best_NW, UNLABELLED)]
        true = [_runs(tags_W) for tags_W in truth]
        hits = sum(len(mine & its) for mine, its in zip(found, true, strict=True))
        return 2 * hits / max(1, sum(map(len, found)) + sum(map(len, true)))

    def prior_logits(self, truth: NDArray[Any], num_outputs: int) -> Any:
        """The logarithm of each tag's share of the words, nearly all of which are outside."""
        counts_K = np.bincount(truth[truth != UNLABELLED], minlength=num_outputs)
        return np.log(counts_K.clip(1) / counts_K.sum())

    def mean_logits(self, found: list[NDArray[Any]]) -> Any:
        """The logarithm of the mean softmax of each word."""
        return self.of_word.mean_logits(found)


def known_words(logits_NWK: Any, truth_NW: Any) -> tuple[Any, Any]:
    """logits_MK and truth_M of the words that have a tag and, not being cut off, an answer; of numpy or torch."""
    width = min(logits_NWK.shape[1], truth_NW.shape[1])
    logits_NWK, truth_NW = logits_NWK[:, :width], truth_NW[:, :width]
    known_NW = (truth_NW != UNLABELLED) & _answered(logits_NWK)
    return logits_NWK[known_NW], truth_NW[known_NW]


def _both_known(first_NWK: Any, second_NWK: Any) -> tuple[Any, Any]:
    """The logits_MK of the words that both answer."""
    width = min(first_NWK.shape[1], second_NWK.shape[1])
    first_NWK, second_NWK = first_NWK[:, :width], second_NWK[:, :width]
    known_NW = _answered(first_NWK) & _answered(second_NWK)
    return first_NWK[known_NW], second_NWK[known_NW]


def _answered(logits_NWK: Any) -> Any:
    return logits_NWK[..., 0] == logits_NWK[..., 0]  # NaN stands for what was cut off


def _runs(tags_W: NDArray[Any]) -> set[tuple[str, int, int]]:
    """Type, first and last word of the entities of these indices of `bento.entities.entity_tags`."""
    names = [
        None if at == UNLABELLED else OUTSIDE if at == 0 else f"{'IB'[at % 2]}-{(at - 1) // 2}"
        for at in tags_W.tolist()
    ]
    return {(found.type, found.words[0], found.words[-1]) for found in group_tags(names)}


def task_type(target: Target) -> TaskType:
    """The type of this target's task."""
    types: dict[Task, TaskType] = {
        "single_label": SingleLabel(), "multi_label": MultiLabel(), "score": Score(target),
        "entities": Entities(),
    }  # fmt: skip
    return types[target.task]
