"""Collapse: a technique after which the model answers as if by chance stops the build, and its result is not kept.

Chance is what answers of the same frequencies, given without looking at the text, would get right (Cohen 1960,
Educational and Psychological Measurement 20:37), so a model that always names the largest class has collapsed however
large that class is. Of entities the words' tags are looked at so.

On a few rows even good answers can be chance, so the test alone collapses no model: its agreement beyond chance has to
be low too.

Labels of a set, and scores, have collapsed where their logits do not go with the truth: the correlation of both, each
output about its own mean, so that knowing only how frequent a label is counts for nothing.

Shapes: N rows, C classes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bento.errors import RetortError
from bento.predictor import Predictor
from tasks.data import read_labels, read_split
from tasks.ensemble import torch_logits
from tasks.task_types import Entities, SingleLabel, TaskType, known_words

if TYPE_CHECKING:
    from tasks.compress.context import Context
    from tasks.types import Kind

NUM_ROWS = 512
P_CHANCE = 1e-3
SAME = 1e-9
"""Values that are closer together do not differ."""
LEAST_SHARE = 0.1
"""Share of the teacher's agreement beyond chance below which a model counts as collapsed."""
LEAST_SHARE_BY_CHANCE = 0.5
"""The same, for answers that chance explains."""
LEAST_AGREEMENT = 0.3
"""Agreement beyond chance below which a teacher whose answers chance explains has learnt nothing."""


def check_teacher(logits_NC: Any, truth: Any, task: TaskType) -> None:
    """Raises: RetortError when the teacher has learnt nothing."""
    if _learnt_nothing(_judge(logits_NC, truth, task)):
        raise RetortError(
            f"teacher: collapsed: {_told(logits_NC, truth, task)}, which guessing reaches too; train longer "
            "(teacher.epochs), at another rate (teacher.learning_rate), or look at the labels"
        )


def check_not_collapsed(folder: Path, kind: "Kind", technique: str, context: "Context") -> None:
    """Compare a technique's result with chance and with the teacher on validation rows.

    A teacher that has learnt nothing itself, as one with random weights, leaves nothing to compare with.
    Raises: RetortError naming the technique.
    """
    split = read_split(context.data.path, "validation")
    chosen, task = _evenly(len(split)), context.task
    truth = task.targets(split, read_labels(context.data.path))[chosen]
    teacher_NC = np.load(context.teacher_logits.path / "validation.npy")[chosen]
    teacher = _judge(teacher_NC, truth, task)
    if _learnt_nothing(teacher):
        return
    texts = [split.texts[row] for row in chosen]
    logits_NC = torch_logits(folder, texts, context.max_tokens) if kind == "torch" else _onnx_logits(folder, texts)
    found = _judge(logits_NC, truth, task)
    if found.agreement < (LEAST_SHARE_BY_CHANCE if found.by_chance else LEAST_SHARE) * teacher.agreement:
        raise RetortError(
            f"{technique}: collapsed: {_told(logits_NC, truth, task)}, its teacher's "
            f"{_told(teacher_NC, truth, task)}; ask less of {technique}, or train longer or at a lower rate after it. "
            "Nothing of it was kept"
        )


@dataclass(frozen=True)
class _Judged:
    by_chance: bool
    agreement: float
    """Beyond chance, 1 at most."""


def _learnt_nothing(teacher: _Judged) -> bool:
    return teacher.by_chance and teacher.agreement < LEAST_AGREEMENT


def _judge(logits_NC: Any, truth: Any, task: TaskType) -> _Judged:
    if isinstance(task, Entities):
        logits_NC, truth = known_words(logits_NC, truth)
    if isinstance(task, SingleLabel | Entities):
        predicted_N = logits_NC.argmax(axis=1)
        return _Judged(at_chance(predicted_N, truth), kappa(predicted_N, truth))
    r, p = correlation(logits_NC, truth)
    return _Judged(p > P_CHANCE, r)


def correlation(logits_NC: Any, truth_NC: Any) -> tuple[float, float]:
    """Of logits and truth, each output about its own mean; and the p-value of one that is not above 0."""
    from scipy.stats import pearsonr

    centred = [np.asarray(values_NC, dtype=np.float64) for values_NC in (logits_NC, truth_NC)]
    flat = [(values_NC - values_NC.mean(axis=0)).ravel() for values_NC in centred]
    if len(flat[0]) < 2 or min(np.ptp(values) for values in flat) < SAME:
        return 0.0, 1.0
    found = pearsonr(*flat, alternative="greater")
    return float(found.statistic), float(found.pvalue)


def at_chance(predicted_N: Any, labels_N: Any) -> bool:
    """Whether so many right answers can be expected of answers that do not look at the text."""
    from scipy.stats import binomtest

    num_correct = int((predicted_N == labels_N).sum())
    by_chance = _expected_agreement(predicted_N, labels_N)
    return bool(binomtest(num_correct, len(labels_N), by_chance, alternative="greater").pvalue > P_CHANCE)


def kappa(predicted_N: Any, labels_N: Any) -> float:
    """Cohen's kappa: agreement beyond chance, 1 at most."""
    observed, expected = float((predicted_N == labels_N).mean()), _expected_agreement(predicted_N, labels_N)
    return (observed - expected) / (1 - expected) if expected < 1 else 0.0


def _expected_agreement(predicted_N: Any, labels_N: Any) -> float:
    size = int(max(predicted_N.max(), labels_N.max())) + 1
    shares = (np.bincount(values_N, minlength=size) / len(values_N) for values_N in (predicted_N, labels_N))
    return float(np.multiply(*shares).sum())


def _evenly(num_rows: int) -> Any:
    return np.unique(np.linspace(0, num_rows - 1, min(num_rows, NUM_ROWS)).round().astype(int))


def _onnx_logits(folder: Path, texts: list[Any]) -> Any:
    return Predictor(folder).predict_logits(texts)


def _told(logits_NC: Any, truth: Any, task: TaskType) -> str:
    return f"{task.quality_name} {task.quality(logits_NC, truth):.3f} on {len(truth)} validation rows"
