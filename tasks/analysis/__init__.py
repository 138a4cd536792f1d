"""Error analysis: where the candidate errs, what compression changed, and which rows to look at.

Every table is a whole CSV file in the artifact; `analysis.json` has what the report shows of them.
"""

from pathlib import Path
from typing import Any

import numpy as np

from bento.predictor import Predictor
from bento.task_types import softmax
from tasks.analysis import calibrated, flips, inputs, label_errors, neighbours, over_time, slices
from tasks.analysis.config import ErrorsConfig
from tasks.analysis.files import Tables, read_analysis, write_analysis
from tasks.analysis.where import where_tables
from tasks.data import read_labels, read_split
from tasks.evaluate import read_class_predictions
from tasks.store import Step, run_step
from tasks.tables import Rows, shown
from tasks.task_types import SingleLabel
from tasks.types import Artifact, Predictions, Split

__all__ = ["ErrorsConfig", "analyse", "check_errors", "read_analysis"]

MEASURE = "accuracy"
ERROR_COLUMNS = (
    "id", "text", "label", "candidate", "candidate_probability", "teacher", "teacher_probability", "abstained",
    *inputs.READING_COLUMNS, *neighbours.neighbour_columns("label"),
)  # fmt: skip


def analyse(
    *,
    config: ErrorsConfig,
    data: Artifact,
    evaluation: Artifact,
    teacher_logits: Artifact,
    candidate: Artifact,
    candidate_name: str,
    seed: int,
) -> Step:
    """All tables of one candidate. `candidate_name` is its name in `evaluation`.

    Raises: DataError for a time column that is missing or holds no times.
    """
    return run_step(
        "analysis",
        kind="scores",
        inputs=(data, evaluation, teacher_logits, candidate),
        config=config.model_dump() | {"candidate": candidate_name, "seed": seed},
        code="tasks.analysis",
        make=lambda out, work: _Analysis(
            config, data.path, evaluation.path, teacher_logits.path, candidate.path, candidate_name
        ).write(out, np.random.default_rng(seed)),
    )


def check_errors(config: ErrorsConfig, data: Path) -> None:
    """Before any compute. Raises: UserError for a class or a time column that the data does not have."""
    config.check_classes(read_labels(data))
    if config.time is not None:
        over_time.read_times(data, config.time)


class _Analysis:
    """The inputs of every table, read once."""

    def __init__(
        self, config: ErrorsConfig, data: Path, evaluation: Path, teacher_logits: Path, model: Path, name: str
    ) -> None:
        self.config, self.data, self.teacher_logits = config, data, teacher_logits
        self.labels = read_labels(data)
        self.train, self.validation, self.test = (read_split(data, split) for split in ("train", "validation", "test"))
        self.teacher = read_class_predictions(evaluation, "teacher")
        self.candidate = read_class_predictions(evaluation, name)
        self.predictor = Predictor(model, check=False)
        self.costs_CC = config.costs_CC(self.labels)

    def write(self, out: Path, rng: np.random.Generator) -> None:
        """All tables and what the report shows of them."""
        reading = inputs.read_inputs(self.predictor, self.test.texts, self.train.texts)
        candidate_N, teacher_N = self.candidate.correct_N, self.teacher.correct_N
        rule = self.predictor.manifest.abstain
        curve = calibrated.selective_curve(self.candidate, self.labels, rule)
        conditions = slices.describe(self.test.texts, [{f"class {label}"} for label in self.test.labels])
        where, trend = where_tables(
            self.config, self.data, conditions, reading,
            candidate_N=candidate_N, teacher_N=teacher_N, measure=MEASURE, rng=rng,
        )  # fmt: skip
        tables: Tables = where | {
            "flips": (
                flips.FLIP_COLUMNS,
                flips.flips(self.test, self.teacher, self.candidate, self.labels),
            ),
            "confusions": (
                flips.CONFUSION_COLUMNS,
                flips.confusions(self.test, self.teacher, self.candidate, self.labels, self.costs_CC),
            ),
            "errors": (ERROR_COLUMNS, self._errors(reading)),
            "label_errors": (label_errors.COLUMNS, self._label_errors()),
            "coverage": (calibrated.COLUMNS, calibrated.curve_rows(curve)),
        }
        lost, gained = teacher_N & ~candidate_N, ~teacher_N & candidate_N
        found = {
            "num_rows": len(self.test),
            "measure": MEASURE,
            "num_lost": int(lost.sum()),
            "num_gained": int(gained.sum()),
            "mean_cost": {
                "teacher": flips.mean_cost(self.teacher, self.costs_CC),
                "candidate": flips.mean_cost(self.candidate, self.costs_CC),
            },
            "weighed": bool(self.config.costs),
            "num_label_rows": len(self.validation) + len(self.test),
            "trend_p": trend,
            "calibration": calibrated.calibration(self.candidate, self.predictor.manifest),
            "abstention": calibrated.abstention(self.candidate, self.labels, rule) if rule else None,
            "area_under_risk": curve.area,
        }
        write_analysis(out, tables, found)

    def _label_errors(self) -> Rows:
        """Of validation and test, which the teachers' answers were not trained on."""
        logits_NC = np.load(self.teacher_logits / "validation.npy")
        held_out = ((self.validation, softmax(logits_NC)), (self.test, self.teacher.probabilities_NC))
        labels_N = np.concatenate([SingleLabel().targets(split, self.labels) for split, _ in held_out])
        probabilities_NC = np.concatenate([probabilities_MC for _, probabilities_MC in held_out])
        place = [(split, at) for split, _ in held_out for at in range(len(split))]
        rows = []
        for row, suggested in zip(*label_errors.suspects(probabilities_NC, labels_N), strict=True):
            split, at = place[row]
            rows.append(
                {
                    "split": split.name,
                    "id": split.ids[at],
                    "text": shown(split.texts[at]),
                    "label": split.labels[at],
                    "suggested": self.labels[suggested],
                    "probability_label": float(probabilities_NC[row, labels_N[row]]),
                    "probability_suggested": float(probabilities_NC[row, suggested]),
                }
            )
        return rows

    def _errors(self, reading: inputs.Reading) -> Rows:
        """Every error of the candidate with how it was read and what training shows that is like it."""
        wrong = np.flatnonzero(~self.candidate.correct_N).tolist()
        abstained_N = self.predictor.abstains(self.candidate.probabilities_NC)
        near = neighbours.neighbour_cells(
            [self.test.texts[at] for at in wrong], self.train.texts, self.train.labels, "label"
        )
        rows = [
            error_row(at, self.test, self.candidate, self.teacher, self.labels)
            | {"abstained": bool(abstained_N[at])}
            | inputs.reading_cells(reading, at)
            | cells
            for at, cells in zip(wrong, near, strict=True)
        ]
        return sorted(rows, key=lambda row: -row["candidate_probability"])


def error_row(
    at: int, test: Split, candidate: Predictions, teacher: Predictions, labels: tuple[str, ...]
) -> dict[str, Any]:
    """One row of the test split with both answers."""
    row = {"id": test.ids[at], "text": shown(test.texts[at]), "label": test.labels[at]}
    return (
        row
        | flips.answer_cells("candidate", candidate, at, labels)
        | flips.answer_cells("teacher", teacher, at, labels)
    )
