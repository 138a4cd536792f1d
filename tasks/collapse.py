"""Collapse: a technique after which the model answers as if by chance stops the build, and its result is not kept.

Chance is what answers of the same frequencies, given without looking at the text, would get right (Cohen 1960,
Educational and Psychological Measurement 20:37), so a model that always names the largest class has collapsed however
large that class is.

Shapes: N rows, C classes.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bento.errors import RetortError
from bento.predictor import Predictor
from tasks.data import read_labels, read_split
from tasks.ensemble import torch_logits
from tasks.training import label_targets

if TYPE_CHECKING:
    from tasks.compress.context import Context
    from tasks.types import Kind

NUM_ROWS = 512
P_CHANCE = 1e-3
LEAST_SHARE = 0.1
"""Share of the teacher's agreement beyond chance below which a model counts as collapsed."""


def check_teacher(logits_NC: Any, labels_N: Any) -> None:
    """Raises: RetortError when the teacher has learnt nothing."""
    predicted_N = logits_NC.argmax(axis=1)
    if at_chance(predicted_N, labels_N):
        raise RetortError(
            f"teacher: collapsed: {_told(predicted_N, labels_N)}, which guessing reaches too; train longer "
            "(teacher.epochs), at another rate (teacher.learning_rate), or look at the labels"
        )


def check_not_collapsed(folder: Path, kind: "Kind", technique: str, context: "Context") -> None:
    """Compare a technique's result with chance and with the teacher on validation rows.

    A teacher that answers by chance itself, as one with random weights, leaves nothing to compare with.
    Raises: RetortError naming the technique.
    """
    split = read_split(context.data.path, "validation")
    chosen = _evenly(len(split))
    labels_N = label_targets(split, read_labels(context.data.path))["label"][chosen]
    teacher_N = np.load(context.teacher_logits.path / "validation.npy").argmax(axis=1)[chosen]
    if at_chance(teacher_N, labels_N):
        return
    texts = [split.texts[row] for row in chosen]
    logits_NC = torch_logits(folder, texts, context.max_tokens) if kind == "torch" else _onnx_logits(folder, texts)
    predicted_N = logits_NC.argmax(axis=1)
    if at_chance(predicted_N, labels_N) or kappa(predicted_N, labels_N) < LEAST_SHARE * kappa(teacher_N, labels_N):
        raise RetortError(
            f"{technique}: collapsed: {_told(predicted_N, labels_N)}, its teacher's {_told(teacher_N, labels_N)}; "
            f"ask less of {technique}, or train longer or at a lower rate after it. Nothing of it was kept"
        )


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


def _told(predicted_N: Any, labels_N: Any) -> str:
    return f"accuracy {(predicted_N == labels_N).mean():.3f} on {len(labels_N)} validation rows"
