"""What a model of label sets, scores or entities answers wrongly: every such row beside its truth and the teacher's
answer, the mistakes of each label, and where they are more frequent.

`tasks.analysis` is of one class a text, whose errors are confusions of two; here an answer has parts, or is more or
less far off. An answer is right where every part of it is. A score is never exactly right: it counts as right where it
is no further off than three quarters of the teacher's answers are, a bound that no candidate moves.

Shapes: N rows, C labels.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento.errors import DataError
from bento.predictor import Predictor
from bento.task_types import Target
from tasks.analysis import inputs, neighbours, slices
from tasks.analysis.config import ErrorsConfig
from tasks.analysis.files import write_analysis
from tasks.analysis.mistakes import Partial, all_mistakes, mistake_columns, mistakes
from tasks.analysis.where import where_tables
from tasks.data import read_labels, read_split, read_target
from tasks.data.truths import class_names, read_entities
from tasks.evaluate import read_predictions
from tasks.store import Step, run_step
from tasks.tables import Rows, shown
from tasks.types import Artifact, EntityPredictions, Predictions, Split

COLUMNS = (
    "id", "text", "truth", "teacher", "candidate", "off", "teacher_off", *inputs.READING_COLUMNS,
    *neighbours.neighbour_columns("truth"),
)  # fmt: skip
"""`off` is how far the candidate's answer is from the truth: labels or entities too many and too few, or a difference
of scores; `teacher_off` the teacher's."""
MEASURES = {"multi_label": "exact_match", "entities": "exact_match", "score": "within_bound"}
"""What the share of right answers is called."""
NAMES = {"multi_label": ("label", "no label"), "entities": ("type", "no entity")}
"""What slices call a label of a row, and a row without."""
BOUND_SHARE = 0.75
"""Share of the teacher's scores that is within the bound."""


def analyse_answers(
    *, config: ErrorsConfig, data: Artifact, evaluation: Artifact, candidate: Artifact, candidate_name: str, seed: int
) -> Step:
    """All tables of one candidate. `candidate_name` is its name in `evaluation`."""
    return run_step(
        "analysis",
        kind="scores",
        inputs=(data, evaluation, candidate),
        config=config.model_dump() | {"candidate": candidate_name, "seed": seed},
        code="tasks.analysis.answers",
        make=lambda out, work: _write(
            config, data.path, evaluation.path, candidate.path, candidate_name, out, np.random.default_rng(seed)
        ),
    )


def _write(
    config: ErrorsConfig, data: Path, evaluation: Path, model: Path, name: str, out: Path, rng: np.random.Generator
) -> None:
    teacher, candidate = (_read(evaluation, model) for model in ("teacher", name))
    target, test, train = read_target(data), read_split(data, "test"), read_split(data, "train")
    labels = candidate.types if isinstance(candidate, EntityPredictions) else read_labels(data)
    reading = inputs.read_inputs(Predictor(model, check=False), test.texts, train.texts)
    bound = float(np.quantile(off_truth(teacher), BOUND_SHARE)) if target.task == "score" else 0.0
    candidate_N, teacher_N = off_truth(candidate) <= bound, off_truth(teacher) <= bound
    tables, trend = where_tables(
        config, data, slices.describe(test.texts, named(test.labels, target)), reading,
        candidate_N=candidate_N, teacher_N=teacher_N, measure=MEASURES[target.task], rng=rng,
    )  # fmt: skip
    rows = answer_rows(test, teacher, candidate, labels, target)
    tables["answers"] = (COLUMNS, _beside(rows, off_rows(teacher, candidate, target), reading, train, target))
    found: dict[str, Any] = {"num_rows": len(test), "measure": MEASURES[target.task], "trend_p": trend}
    if target.task == "score":
        found["bound"] = bound * (target.high - target.low)
    else:
        by_label = mistakes(teacher, candidate, labels)
        tables["mistakes"], found["mistakes"] = (mistake_columns(target.task), by_label), all_mistakes(by_label)
        found["num_lost"] = int((teacher_N & ~candidate_N).sum())
        found["num_gained"] = int((~teacher_N & candidate_N).sum())
    write_analysis(out, tables, found)


def answer_rows(test: Split, teacher: Partial, candidate: Partial, labels: Sequence[str], target: Target) -> Rows:
    """The answers of `off_rows` beside the truth."""
    off_N, teacher_off_N = off_truth(candidate), off_truth(teacher)
    before, after = (_told(found, test, labels, target) for found in (teacher, candidate))
    scale = target.high - target.low if target.task == "score" else 1
    return [
        {
            "id": test.ids[at], "text": shown(test.texts[at]),
            "truth": told_truth(test.texts[at], test.labels[at], target),
            "teacher": before[at], "candidate": after[at],
            "off": float(off_N[at] * scale), "teacher_off": float(teacher_off_N[at] * scale),
        }
        for at in off_rows(teacher, candidate, target)
    ]  # fmt: skip


def off_rows(teacher: Partial, candidate: Partial, target: Target) -> list[int]:
    """The rows that the candidate has not exactly right, first those where it is furthest from the truth against its
    teacher; of scores all rows, the furthest from the truth first."""
    off_N = off_truth(candidate)
    lost_N = off_N if target.task == "score" else off_N - off_truth(teacher)
    return [int(at) for at in np.lexsort((-off_N, -lost_N)) if off_N[at] > 0]


def _beside(rows: Rows, places: Sequence[int], reading: inputs.Reading, train: Split, target: Target) -> Rows:
    """Each row with how it was read and what training shows that is like it."""
    truths = [told_truth(text, truth, target) for text, truth in zip(train.texts, train.labels, strict=True)]
    near = neighbours.neighbour_cells([row["text"] for row in rows], train.texts, truths, "truth")
    return [row | inputs.reading_cells(reading, at) | cells for row, at, cells in zip(rows, places, near, strict=True)]


def named(truths: Sequence[str], target: Target) -> list[set[str]]:
    """What slices can name of each truth: its labels or types, or the quarter of the true scores that it is in."""
    if target.task == "score":
        scores_N = np.array([float(truth) for truth in truths])
        edges = slices.quarters(scores_N)
        return [{_quarter_name(edges, at)} for at in np.searchsorted(edges, scores_N).tolist()]
    kind, none = NAMES[target.task]
    found = [class_names(truth, target.task) for truth in truths]
    return [{f"{kind} {name}" for name in names} or {none} for names in found]


def _quarter_name(edges: Any, at: int) -> str:
    low = f" above {edges[at - 1]:g}" if at else ""
    high = f" up to {edges[at]:g}" if at < len(edges) else ""
    return f"true score{low}{high}"


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


def told_truth(text: Any, truth: str, target: Target) -> str:
    """A truth for a reader."""
    if target.task == "entities":
        return _told_entities(text, truth)
    return f"{float(truth):.2f}" if target.task == "score" else ", ".join(class_names(truth, target.task))


def _told(found: Partial, test: Split, labels: Sequence[str], target: Target) -> list[str]:
    """Each answer for a reader."""
    if isinstance(found, EntityPredictions):
        return [_told_entities(text, row) for text, row in zip(test.texts, found.answers, strict=True)]
    if found.task == "multi_label":
        return [", ".join(labels[at] for at in np.flatnonzero(row_C).tolist()) for row_C in found.chosen_NC]
    return [f"{target.score(float(row_C[0])):.2f}" for row_C in found.probabilities_NC]


def _told_entities(text: str, entities: str) -> str:
    return ", ".join(f"{text[start:end]} ({name})" for start, end, name in read_entities(entities))
