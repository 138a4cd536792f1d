"""The gates of label sets, scores and entities: each metric of the task by a paired bootstrap over rows.

Rows are resampled whole, both models' answers together, so what makes a row hard for both cancels. Whether a candidate
may pass is the same question as for accuracy: the lower end of the interval of the difference against the margin.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bento.errors import UserError
from bento.task_types import Task
from tasks.data.truths import read_entities, write_entities
from tasks.gate.config import CLASS_GATES, GateConfig, MarginGate, SliceGate
from tasks.gate.slices import worst_of
from tasks.gate.verdicts import brier, not_worse, parity, too_few, unjudged
from tasks.metrics import METRICS, metric_difference
from tasks.types import EntityPredictions, SigmoidPredictions, Verdict

WITHOUT: dict[Task, frozenset[str]] = {
    "single_label": frozenset(),
    "multi_label": CLASS_GATES,
    "score": CLASS_GATES | {"brier", "calibration_error"},
    "entities": CLASS_GATES | {"brier", "parity"},
}
"""What the models of a task are not judged by, besides the metrics of others."""
WHY: dict[Task, str] = {
    "score": "a score is a place on a scale and no probability, so there is nothing to calibrate",
    "entities": "what is not found has no probability to compare; gate.calibration_error judges that of what is found",
}


def check_gates(config: GateConfig, task: Task) -> None:
    """Before any compute. Raises: UserError for a gate that was asked for and that the task does not have."""
    asked = {name for name in config.model_fields_set if getattr(config, name)}
    foreign = {name for names in METRICS.values() for name in names} - set(METRICS[task])
    wrong = sorted(asked & (foreign | WITHOUT[task]))
    if wrong:
        why = "" if wrong[0] in foreign | CLASS_GATES else f", for {WHY[task]}"
        has = " and ".join(f"gate.{name}" for name in METRICS[task])
        raise UserError(f"gate.{wrong[0]}: a model of data.task {task} is not judged by it{why}; its metrics are {has}")
    if task == "score" and any(rule.by == "class" for rule in config.slices):
        raise UserError("gate.slices: a score has no class; slice by length or by another column of the data")


def metric_rules(config: GateConfig, task: Task) -> dict[str, MarginGate]:
    """The metrics to judge by; the task's first always, by a margin of one point unless another is given."""
    first, *_ = METRICS[task]
    given = {name: getattr(config, name) for name in METRICS[task]}
    return {name: rule or MarginGate() for name, rule in given.items() if rule is not None or name == first}


Judged = SigmoidPredictions | EntityPredictions


def judge_metrics(
    candidate: Judged,
    reference: Judged,
    *,
    reference_name: str,
    config: GateConfig,
    columns: Mapping[str, Sequence[str]] | None = None,
    rng: np.random.Generator | None = None,
) -> list[Verdict]:
    """The gates that compare the candidate with `reference_name` (teacher or champion), row by row.

    `columns` has each row's part, or by `class` the names of the parts, for each of `config.slices`, by its `by`.
    Raises: UserError unless both answered the same rows, in the same order, for the same truth.
    """
    _check_paired(candidate, reference, reference_name)
    rng = rng or np.random.default_rng(0)
    verdicts = [
        _judge_metric(name, rule, candidate, reference, reference_name, config.min_rows, rng)
        for name, rule in metric_rules(config, candidate.task).items()
    ]
    if isinstance(candidate, SigmoidPredictions) and isinstance(reference, SigmoidPredictions):
        verdicts += [parity(candidate, reference, reference_name, config.parity)] if config.parity is not None else []
        if config.brier is not None:
            verdicts.append(brier(candidate, reference, reference_name, config.brier, config.min_rows, rng))
    first, *_ = METRICS[candidate.task]
    for rule in config.slices:
        parts = judge_parts(candidate, reference, (columns or {})[rule.by], reference_name, rule, rng=rng)
        verdicts.append(worst_of(parts, f"{first}_vs_{reference_name}_by_{rule.by}"))
    return verdicts


def judge_parts(
    candidate: Judged,
    reference: Judged,
    parts: Sequence[str],
    reference_name: str,
    rule: SliceGate,
    *,
    rng: np.random.Generator | None = None,
) -> list[Verdict]:
    """One verdict a part by the task's first metric, named `METRIC_vs_REFERENCE[BY=PART]`, in the order of the names.

    By `class` a part is a label, or a type of entities, in all rows, and those that have it must be `min_rows`.
    """
    rng = rng or np.random.default_rng(0)
    first, *_ = METRICS[candidate.task]
    margin, verdicts = MarginGate(margin=rule.margin, alpha=rule.alpha), []
    for part in rule.only or sorted(set(parts)):
        gate = f"{first}_vs_{reference_name}[{rule.by}={part}]"
        if rule.by == "class":
            both = [_of_class(each, list(parts).index(part)) for each in (candidate, reference)]
            n = int(_has_truth(both[0]).sum())
        else:
            inside_N = np.array([one == part for one in parts])
            both, n = [of_rows(each, np.flatnonzero(inside_N)) for each in (candidate, reference)], int(inside_N.sum())
        if n < rule.min_rows:
            verdicts.append(too_few(gate, -rule.margin, n, rule.min_rows))
        else:
            found = _judge_metric(first, margin, both[0], both[1], reference_name, 1, rng)
            verdicts.append(replace(found, gate=gate))
    return verdicts


def of_rows(predictions: Judged, rows: NDArray[np.int64]) -> Judged:
    """The answers on some of the rows, some perhaps more than once."""
    if isinstance(predictions, EntityPredictions):
        parts = {name: getattr(predictions, name) for name in ("answers", "truth", "confidences")}
        drawn = {name: tuple(each[row] for row in rows) if each else () for name, each in parts.items()}
        return replace(predictions, ids=tuple(map(str, rows)), latency_ms_N=np.empty(0), **drawn)
    return replace(
        predictions,
        ids=tuple(map(str, rows)),
        probabilities_NC=predictions.probabilities_NC[rows],
        truth_NC=predictions.truth_NC[rows],
        latency_ms_N=np.empty(0),
    )


def _of_class(predictions: Judged, at: int) -> Judged:
    """The answers as far as they are about one label, or one type of entities."""
    if isinstance(predictions, EntityPredictions):
        kind = predictions.types[at]
        answers, truth = (
            tuple(write_entities([one for one in read_entities(row) if one[2] == kind]) for row in rows)
            for rows in (predictions.answers, predictions.truth)
        )
        return replace(predictions, types=(kind,), answers=answers, truth=truth, confidences=())
    return replace(
        predictions,
        probabilities_NC=predictions.probabilities_NC[:, [at]],
        truth_NC=predictions.truth_NC[:, [at]],
    )


def _has_truth(predictions: Judged) -> NDArray[np.bool_]:
    if isinstance(predictions, EntityPredictions):
        return np.array([bool(read_entities(row)) for row in predictions.truth], dtype=np.bool_)
    return np.asarray(predictions.truth_NC.any(axis=1))


def _judge_metric(
    name: str,
    rule: MarginGate,
    candidate: Judged,
    reference: Judged,
    reference_name: str,
    min_rows: int,
    rng: np.random.Generator,
) -> Verdict:
    gate, n = f"{name}_vs_{reference_name}", len(candidate.ids)
    missing = unjudged(gate, -rule.margin, min_rows, candidate, reference)
    if missing is not None:
        return missing
    found = metric_difference(name, candidate, reference, rng=rng, confidence=1 - 2 * rule.alpha)
    return not_worse(gate, name, found, rule, n)


def _check_paired(candidate: Judged, reference: Judged, reference_name: str) -> None:
    same = candidate.ids == reference.ids and np.array_equal(candidate.truth, reference.truth)
    if not (same and candidate.task == reference.task):
        raise UserError(
            f"gate against the {reference_name}: expected both models' answers on the same rows in the same order and "
            f"for the same labels, got {len(candidate.ids):,} rows of {candidate.task} and {len(reference.ids):,} of "
            f"{reference.task} that differ; evaluate both on one test split"
        )
