"""The gates of label sets, scores and entities: each metric of the task by a paired bootstrap over rows.

Rows are resampled whole, both models' answers together, so what makes a row hard for both cancels. Whether a candidate
may pass is the same question as for accuracy: the lower end of the interval of the difference against the margin.
"""

import numpy as np

from bento.errors import UserError
from bento.task_types import Task
from tasks.gate.config import CLASS_GATES, GateConfig, MarginGate
from tasks.gate.verdicts import at_least, difference_in_words, parity, rows_for_mean, unjudged
from tasks.metrics import METRICS, metric_difference
from tasks.types import EntityPredictions, SigmoidPredictions, Verdict


def check_gates(config: GateConfig, task: Task) -> None:
    """Before any compute. Raises: UserError for a gate that was asked for and that the task does not have."""
    asked = {name for name in config.model_fields_set if getattr(config, name)}
    without = CLASS_GATES | {"parity"} if task == "entities" else CLASS_GATES
    foreign = {name for names in METRICS.values() for name in names} - set(METRICS[task])
    wrong = sorted(asked & (foreign if task == "single_label" else foreign | without))
    if wrong:
        has = " and ".join(f"gate.{name}" for name in METRICS[task])
        raise UserError(f"gate.{wrong[0]}: a model of data.task {task} is not judged by it; its metrics are {has}")


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
    rng: np.random.Generator | None = None,
) -> list[Verdict]:
    """The gates that compare the candidate with `reference_name` (teacher or champion), row by row.

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
    return verdicts


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
    room = rule.margin + min(found.value, 0.0)
    wanted = rows_for_mean(n, (found.high - found.low) / 2, room, rule.alpha)
    words = difference_in_words(name, found, rule.margin, rule.alpha)
    return at_least(gate, found, -rule.margin, n=n, wanted=wanted, words=words)


def _check_paired(candidate: Judged, reference: Judged, reference_name: str) -> None:
    same = candidate.ids == reference.ids and np.array_equal(candidate.truth, reference.truth)
    if not (same and candidate.task == reference.task):
        raise UserError(
            f"gate against the {reference_name}: expected both models' answers on the same rows in the same order and "
            f"for the same labels, got {len(candidate.ids):,} rows of {candidate.task} and {len(reference.ids):,} of "
            f"{reference.task} that differ; evaluate both on one test split"
        )
