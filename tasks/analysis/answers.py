"""What a model of label sets, scores or entities answered wrongly: every such row beside its truth and the teacher's
answer.

The tables of `tasks.analysis` are of one class a text, whose errors are confusions of two; here an answer has parts, or
is more or less far off.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento.errors import DataError
from bento.task_types import Target
from tasks.analysis import ANALYSIS_FILE, NUM_SHOWN
from tasks.data import read_labels, read_split, read_target
from tasks.data.truths import read_entities
from tasks.evaluate import read_predictions
from tasks.store import Step, run_step
from tasks.tables import Rows, shown, write_table
from tasks.types import Artifact, EntityPredictions, Predictions, SigmoidPredictions, Split

Partial = SigmoidPredictions | EntityPredictions
"""Answers that can be right in part."""
COLUMNS = ("id", "text", "truth", "teacher", "candidate", "off", "teacher_off")
"""`off` is how far the candidate's answer is from the truth: labels or entities too many and too few, or a difference
of scores; `teacher_off` the teacher's."""


def analyse_answers(*, data: Artifact, evaluation: Artifact, candidate_name: str) -> Step:
    """`answers.csv`, and what the report shows of it. `candidate_name` is the candidate's name in `evaluation`."""
    return run_step(
        "analysis",
        kind="scores",
        inputs=(data, evaluation),
        config={"candidate": candidate_name},
        code="tasks.analysis.answers",
        make=lambda out, work: _write(data.path, evaluation.path, candidate_name, out),
    )


def _write(data: Path, evaluation: Path, name: str, out: Path) -> None:
    models = [_read(evaluation, model) for model in ("teacher", name)]
    target, labels = read_target(data), read_labels(data)
    rows = answer_rows(read_split(data, "test"), models[0], models[1], labels, target)
    write_table(out / "answers.csv", COLUMNS, rows)
    found: dict[str, Any] = {"answers": rows[:NUM_SHOWN], "num": {"answers": len(rows)}}
    if target.task != "score":
        right_teacher_N, right_N = (off_truth(model) == 0 for model in models)
        found |= {"num_lost": int((right_teacher_N & ~right_N).sum())}
        found |= {"num_gained": int((~right_teacher_N & right_N).sum())}
    (out / ANALYSIS_FILE).write_text(json.dumps(found, indent=1, ensure_ascii=False), encoding="utf-8")


def answer_rows(test: Split, teacher: Partial, candidate: Partial, labels: Sequence[str], target: Target) -> Rows:
    """The rows that the candidate has not exactly right, first those where it is furthest from the truth against its
    teacher; of scores all rows, the furthest from the truth first."""
    off_N, teacher_off_N = off_truth(candidate), off_truth(teacher)
    lost_N = off_N if target.task == "score" else off_N - teacher_off_N
    truth, before, after = (_told(found, test, labels, target) for found in (_true(candidate), teacher, candidate))
    scale = target.high - target.low if target.task == "score" else 1
    return [
        {
            "id": test.ids[at], "text": shown(test.texts[at]), "truth": truth[at], "teacher": before[at],
            "candidate": after[at], "off": float(off_N[at] * scale), "teacher_off": float(teacher_off_N[at] * scale),
        }
        for at in np.lexsort((-off_N, -lost_N))
        if off_N[at] > 0
    ]  # fmt: skip


def _read(folder: Path, name: str) -> Partial:
    """Raises: DataError for the answers of a model of classes."""
    found = read_predictions(folder, name)
    if isinstance(found, Predictions):
        raise DataError(f"expected answers of label sets, scores or entities, got classes of {name}")
    return found


def off_truth(found: Partial) -> NDArray[np.float64]:
    """How far each row's answer is from its truth; of a score as a share of its scale."""
    if isinstance(found, EntityPredictions):
        rows = zip(found.answers, found.truth, strict=True)
        return np.array([len(set(read_entities(mine)) ^ set(read_entities(true))) for mine, true in rows], dtype=float)
    if found.task == "multi_label":
        return np.asarray((found.chosen_NC != (found.truth_NC > 0)).sum(axis=1), dtype=float)
    return np.asarray(np.abs(found.probabilities_NC - found.truth_NC)[:, 0], dtype=float)


def _true(found: Partial) -> Partial:
    """The truth as if a model had answered it."""
    if isinstance(found, EntityPredictions):
        return replace(found, answers=found.truth)
    return replace(found, probabilities_NC=found.truth_NC)


def _told(found: Partial, test: Split, labels: Sequence[str], target: Target) -> list[str]:
    """Each answer for a reader."""
    if isinstance(found, EntityPredictions):
        return [
            ", ".join(f"{text[start:end]} ({name})" for start, end, name in read_entities(row))
            for text, row in zip(test.texts, found.answers, strict=True)
        ]
    if found.task == "multi_label":
        return [", ".join(labels[at] for at in np.flatnonzero(row_C).tolist()) for row_C in found.chosen_NC]
    return [f"{target.score(float(row_C[0])):.2f}" for row_C in found.probabilities_NC]
