"""`retort bench gate` where a text has other than one class: planted faults of label sets, scores and entities.

A candidate is planted in the teacher's answers: some rows are put right and others spoilt, until its metric is what it
should be on the whole population, so it differs on many rows however much worse it is; or it only loses, on few rows.

Shapes: N rows, C classes.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento.errors import DataError
from flows.bench_gate_trials import MAX_AT_MARGIN, MAX_BEYOND, outcomes, passed_row, refusals, refused_row
from tasks.confidences import answered
from tasks.gate import GateConfig, Probes, judge_measured, judge_metrics, metric_rules
from tasks.gate.metrics import of_rows
from tasks.metrics import METRICS, terms_of
from tasks.stats import calibration as stats
from tasks.stats.multi_label import f1_terms, micro_f1, micro_statistic
from tasks.stats.scores import spearman
from tasks.types import EntityPredictions, SigmoidPredictions, Verdict

MAX_ROWS = 10_000
"""A pilot whose equal models seem nearly worse by the margin asks for any number of rows; a trial gets no more."""
DISAGREEMENT = 0.04
"""Share of the rows that are put right, and about as many spoilt beside the loss."""
NOISE = 0.3
"""Of scores: how far planted candidates stray, in standard deviations of the teacher's."""
SLICE_MARGIN = 0.1
MUCH = 3
"""Margins that the F1 of a label must have for its loss to be beyond doubt."""
NUM_CLASSES = 3
MAX_CALIBRATION_ERROR = 0.1

Rng = np.random.Generator
Judged = SigmoidPredictions | EntityPredictions


def task_rows(teacher: Judged, chosen: GateConfig, rng: Rng) -> list[dict[str, Any]]:
    """Candidates that are equal, worse by the margin and by twice the margin, with outputs exchanged, and with one
    label or type broken, by the config's margin of the task's first metric; and one whose confidence is wrong."""
    first, *_ = METRICS[teacher.task]
    probable = [] if teacher.task == "score" else [calibration_row(teacher, rng)]
    if isinstance(teacher, EntityPredictions):
        teacher = replace(teacher, confidences=())  # those of answers that the planted faults change
    margin = metric_rules(chosen, teacher.task)[first].margin
    config = GateConfig.model_validate({first: {"margin": margin}})
    equal = worse_by(teacher, 0.0, rng)
    refused = refusals(lambda number: _compare(equal, teacher, number, config, rng), max_rows=MAX_ROWS)
    lost = worse_by(teacher, margin, rng, gained=0.0)
    n = int(np.median([asked for asked, _ in refused]))
    against = f"{first}, margin {margin:g}, on {n:,} rows"
    planted = (
        ("worse by the margin", worse_by(teacher, margin, rng), MAX_AT_MARGIN),
        ("worse by twice the margin", worse_by(teacher, 2 * margin, rng), MAX_BEYOND),
        ("wrong label order", in_wrong_order(teacher), MAX_BEYOND),
    )
    rows = [
        passed_row(name, outcomes(partial(_compare, one, teacher, n, config, rng)), most, against)
        for name, one, most in planted
    ]
    few = GateConfig().min_rows
    passed = outcomes(partial(_compare, lost, teacher, few, config, rng))
    against = f"{first}, margin {margin:g}, on {few:,} rows, of which few differ"
    rows.append(passed_row("worse by the margin on few rows", passed, MAX_AT_MARGIN, against))
    rows.append(refused_row(refused, first))
    if (
        isinstance(teacher, SigmoidPredictions)
        and isinstance(lost, SigmoidPredictions)
        and teacher.task == "multi_label"
    ):
        probable.append(brier_row(lost, teacher, rng))
    return rows if teacher.task == "score" else [*rows, class_row(teacher, n, rng), *probable]


def brier_row(lost: SigmoidPredictions, teacher: SigmoidPredictions, rng: Rng) -> dict[str, Any]:
    """Label sets whose Brier loss is more by the margin because of few rows."""
    few, first = GateConfig().min_rows, METRICS[teacher.task][0]
    margin = _brier_loss(lost) - _brier_loss(teacher)
    config = GateConfig.model_validate({first: {"margin": 0.999}, "brier": {"margin": margin}})
    passed = outcomes(partial(_compare, lost, teacher, few, config, rng))
    against = f"brier, margin {margin:.3g}, on {few:,} rows, of which few differ"
    return passed_row("worse by the margin on few rows, brier", passed, MAX_AT_MARGIN, against)


def _brier_loss(predictions: SigmoidPredictions) -> float:
    return float(stats.set_brier_losses(predictions.probabilities_NC, predictions.truth_NC).mean())


def calibration_row(teacher: Judged, rng: Rng) -> dict[str, Any]:
    """The same answers with a confidence that means nothing any more."""
    candidate = miscalibrated(teacher)
    config, n = GateConfig(calibration_error=MAX_CALIBRATION_ERROR), len(candidate.ids)
    nothing = Probes(num_texts=n)

    def trial() -> list[Verdict]:
        return judge_measured(of_rows(candidate, rng.integers(n, size=n)), nothing, config)

    against = f"calibration error of at most {100 * MAX_CALIBRATION_ERROR:g} % on {n:,} rows"
    return passed_row("calibration broken", outcomes(trial), MAX_BEYOND, against)


def miscalibrated(teacher: Judged) -> Judged:
    """All answers of one confidence, as far from the share of them that is right as leaves them answered.

    Raises: DataError where nothing is answered.
    """
    given = answered(teacher)
    if given is None or not len(given.right_M):
        raise DataError("the teacher gives no answer whose confidence could be wrong; train it for longer")
    least = 0.0 if isinstance(teacher, EntityPredictions) else teacher.threshold
    right = float(given.right_M.mean())
    planted = 1.0 if 1 - right > right - least else least
    if isinstance(teacher, EntityPredictions):
        told = (json.dumps([planted] * len(json.loads(row))) for row in teacher.answers)
        return replace(teacher, confidences=tuple(told))
    probabilities_NC = np.where(teacher.chosen_NC, np.float32(planted), teacher.probabilities_NC)
    return replace(teacher, probabilities_NC=probabilities_NC)


def class_row(teacher: Judged, n: int, rng: Rng) -> dict[str, Any]:
    """A label, or type, is not answered any more: of those with much to lose the one found third most often."""
    hits_C, f1_C = _hits_and_f1(teacher)
    ranked = np.argsort(-hits_C, kind="stable")
    rich = [at for at in ranked if f1_C[at] >= MUCH * SLICE_MARGIN] or [int(f1_C.argmax())]
    support_C, at = _support(teacher), int(rich[:NUM_CLASSES][-1])
    config = GateConfig.model_validate(
        {
            METRICS[teacher.task][0]: {"margin": 0.999},
            "slices": [{"by": "class", "margin": SLICE_MARGIN, "only": [str(at)]}],
        }
    )
    names = {"class": [str(number) for number in range(len(support_C))]}
    n = max(n, int(np.ceil(2 * config.slices[0].min_rows * len(teacher.ids) / support_C[at])))
    candidate = without_class(teacher, at)
    passed = outcomes(partial(_compare, candidate, teacher, n, config, rng, names))
    return passed_row("one label broken", passed, MAX_BEYOND, f"slices by class, margin {SLICE_MARGIN:g}, {n:,} rows")


def worse_by(teacher: Judged, loss: float, rng: Rng, gained: float = DISAGREEMENT) -> Judged:
    """A candidate whose first metric is less by `loss`, or by a row more. Raises: DataError where no rows are left.

    A share `gained` of the rows is put right first; of scores, all stray a little unless it is 0.
    """
    wanted = metric_value(teacher) - loss
    if isinstance(teacher, SigmoidPredictions) and teacher.task == "score":
        return _strayed(teacher, wanted, rng) if gained else _exchanged(teacher, wanted, rng)
    right_N = _right(teacher)
    wrong = rng.permutation(np.flatnonzero(~right_N))[: int(gained * len(right_N))]
    mended = _with_truth(teacher, wrong)
    order = rng.permutation(np.setdiff1d(_spoilable(teacher, metric_value(mended)), wrong))
    few, many = 0, len(order)
    if metric_value(_spoilt(mended, order)) > wanted:
        raise DataError(f"the teacher finds something on {many:,} rows alone, too few to be worse by {loss:g}")
    while few < many:
        middle = (few + many) // 2
        few, many = (middle + 1, many) if metric_value(_spoilt(mended, order[:middle])) > wanted else (few, middle)
    return _spoilt(mended, order[:few])


def metric_value(predictions: Judged) -> float:
    """The task's first metric."""
    if isinstance(predictions, EntityPredictions):
        return float(micro_statistic(terms_of(predictions).sum(axis=0)[None])[0])
    if predictions.task == "multi_label":
        return micro_f1(predictions.chosen_NC, predictions.truth_NC)
    return spearman(predictions.probabilities_NC[:, 0], predictions.truth_NC[:, 0])


def _strayed(teacher: SigmoidPredictions, wanted: float, rng: Rng) -> SigmoidPredictions:
    """Noise on every score, and as much of the truth, or of its contrary, as gives the wanted correlation."""
    shares_NC = teacher.probabilities_NC.astype(np.float64)
    noisy_NC = shares_NC + NOISE * shares_NC.std() * rng.normal(size=shares_NC.shape)

    def moved(part: float) -> SigmoidPredictions:
        mixed_NC = noisy_NC + part * (teacher.truth_NC - shares_NC)
        return replace(teacher, probabilities_NC=mixed_NC.astype(np.float32))

    low, high = -1.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if metric_value(moved(middle)) > wanted else (middle, high)
    return moved(low)


def _exchanged(teacher: SigmoidPredictions, wanted: float, rng: Rng) -> SigmoidPredictions:
    """A few rows have the scores of others."""
    order = rng.permutation(len(teacher.ids))

    def moved(number: int) -> SigmoidPredictions:
        shares_NC = teacher.probabilities_NC.copy()
        shares_NC[order[:number]] = teacher.probabilities_NC[np.roll(order[:number], 1)]
        return replace(teacher, probabilities_NC=shares_NC)

    return moved(next(number for number in range(len(order) + 1) if metric_value(moved(number)) <= wanted))


def in_wrong_order(teacher: Judged) -> Judged:
    """Each output under the next one's name; a score the wrong way round."""
    if isinstance(teacher, EntityPredictions):
        following = dict(zip(teacher.types, (*teacher.types[1:], teacher.types[0]), strict=True))
        if len(following) == 1:
            following = dict.fromkeys(following, "")
        return replace(teacher, answers=_changed(teacher, lambda one: [[*one[:2], following[one[2]]]]))
    return replace(teacher, probabilities_NC=stats.in_wrong_order(teacher.probabilities_NC))


def without_class(teacher: Judged, at: int) -> Judged:
    """Label or type number `at` is never answered."""
    if isinstance(teacher, EntityPredictions):
        return replace(teacher, answers=_changed(teacher, lambda one: [] if one[2] == teacher.types[at] else [one]))
    probabilities_NC = teacher.probabilities_NC.copy()
    probabilities_NC[:, at] = 0
    return replace(teacher, probabilities_NC=probabilities_NC)


def _changed(teacher: EntityPredictions, change: Callable[[list[Any]], list[list[Any]]]) -> tuple[str, ...]:
    return tuple(json.dumps([new for one in json.loads(row) for new in change(one)]) for row in teacher.answers)


def _support(teacher: Judged) -> NDArray[np.int64]:
    """How many rows have each label, or type."""
    if isinstance(teacher, EntityPredictions):
        found = [{one[2] for one in json.loads(row)} for row in teacher.truth]
        return np.array([sum(name in names for names in found) for name in teacher.types])
    return np.asarray((teacher.truth_NC > 0).sum(axis=0))


def _hits_and_f1(teacher: Judged) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How often each label, or type, is found where it is, doubled, and its F1."""
    if isinstance(teacher, EntityPredictions):
        terms_NK = terms_of(teacher)
    else:
        terms_NK = f1_terms(teacher.chosen_NC, teacher.truth_NC)
    hits_C, sizes_C = terms_NK.sum(axis=0).reshape(2, -1)
    return hits_C, hits_C / sizes_C.clip(1)


def _right(teacher: Judged) -> NDArray[np.bool_]:
    if isinstance(teacher, EntityPredictions):
        pairs = zip(teacher.answers, teacher.truth, strict=True)
        return np.array([json.loads(answer) == json.loads(truth) for answer, truth in pairs], dtype=np.bool_)
    return np.asarray((teacher.chosen_NC == (teacher.truth_NC > 0)).all(axis=1))


def _spoilable(teacher: Judged, value: float) -> NDArray[np.int64]:
    """The rows whose loss makes a metric of this value less: wherever it is low, few are right in every part."""
    if isinstance(teacher, EntityPredictions):
        doubled_hits_NC, _ = np.split(terms_of(teacher), 2, axis=1)
        num_answers_N = np.array([len(json.loads(row)) for row in teacher.answers])
        return np.flatnonzero(doubled_hits_NC.sum(axis=1) > value * num_answers_N)
    return np.flatnonzero(_right(teacher) & teacher.chosen_NC.any(axis=1))


def _with_truth(teacher: Judged, rows: NDArray[np.int64]) -> Judged:
    if isinstance(teacher, EntityPredictions):
        chosen = set(rows.tolist())
        both = enumerate(zip(teacher.answers, teacher.truth, strict=True))
        return replace(teacher, answers=tuple(truth if at in chosen else answer for at, (answer, truth) in both))
    probabilities_NC = teacher.probabilities_NC.copy()
    probabilities_NC[rows] = teacher.truth_NC[rows]
    return replace(teacher, probabilities_NC=probabilities_NC)


def _spoilt(teacher: Judged, rows: NDArray[np.int64]) -> Judged:
    """Nothing is found in these rows; label sets get the next label in place of each."""
    if isinstance(teacher, EntityPredictions):
        chosen = set(rows.tolist())
        answers = tuple("[]" if at in chosen else answer for at, answer in enumerate(teacher.answers))
        return replace(teacher, answers=answers)
    probabilities_NC = teacher.probabilities_NC.copy()
    probabilities_NC[rows] = np.roll(teacher.probabilities_NC[rows], 1, axis=1)
    return replace(teacher, probabilities_NC=probabilities_NC)


def _compare(
    candidate: Judged, reference: Judged, n: int, config: GateConfig, rng: Rng, names: Any = None
) -> list[Verdict]:
    """The gate on `n` rows drawn for both."""
    rows = rng.integers(len(reference.ids), size=n)
    drawn, other = of_rows(candidate, rows), of_rows(reference, rows)
    return judge_metrics(drawn, other, reference_name="teacher", config=config, columns=names)
