"""`retort gate`: any model folder, against any other, on labelled rows, by the gates of a build."""

import logging
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bento.entities import OUTSIDE, entity_tags, entity_types
from bento.errors import DataError, UserError
from bento.task_types import Target, Task
from flows.config import Gates
from flows.summary import score_row, verdict_rows
from tasks.any_model import AnyModel, open_model, said_scale, said_task
from tasks.behaviour import try_rows
from tasks.data.labelled import read_labelled
from tasks.data.rows import listed
from tasks.data.truths import class_names
from tasks.evaluate import interleaved, predict_task, sample, score, throughput
from tasks.gate import (
    Evidence,
    GateConfig,
    SliceGate,
    check_gates,
    judge_evidence,
    judge_parts,
    judge_slice_values,
    probe,
    slice_columns,
)
from tasks.gate.verdicts import check_probabilities
from tasks.holdout import holdout_sha256, note_use
from tasks.types import AnyPredictions, BehaviourResult, Predictions, Scores, Split, Verdict

log = logging.getLogger("retort.gate")

SEED = 0
NUM_TRIED = 8
"""Rows on which a model is tried when it is opened."""
OUTCOMES = {"pass": "passed", "fail": "blocked", "inconclusive": "inconclusive"}


def gate_folder(model: Path, data: Path, against: Path | None, chosen: Gates) -> dict[str, Any]:
    """JSON-able: `outcome`, `scores`, `verdicts` and, where asked for, each part of the `slices`.

    Raises: UserError for what cannot be opened, read or compared; IntegrityError for a Retort folder that was altered.
    """
    paths = {"candidate": model} | ({"reference": against} if against is not None else {})
    task = _task(list(paths.values()), chosen.data.task)
    _check_asked(chosen.gate, task, against)
    split, further, findings = read_labelled(data, chosen.data, task)
    for finding in findings:
        log.warning("%s: %s", data, finding.message)
    _check_truth(split, task, data)
    target = _target(chosen, task, list(paths.values()), split)
    with tempfile.TemporaryDirectory(prefix="retort-gate-") as work:
        models = {
            role: open_model(path, Path(work) / role, target, split.texts[:NUM_TRIED], threshold=chosen.threshold)
            for role, path in paths.items()
        }
        for role, one in models.items():
            _check_fits(one, role, split, task)
            _check_behaviour(chosen, one, role, split, task)
        labels = _labels(models, task)
        names = {"multi_label": labels, "entities": entity_types(labels)}.get(task)
        columns = slice_columns(chosen.gate.slices, split, further, names)
        answers = {role: _answers(one, role, split, labels, target) for role, one in models.items()}
        scores = _scores(models, answers, split)
        candidate = models["candidate"]
        found = Evidence(
            predictions=answers["candidate"],
            scores=scores["candidate"],
            probes=probe(candidate.classifier, candidate.tokenizer, split.texts, chosen.gate),
            num_judged=note_use(split, model_sha256=candidate.sha256, name=model),
            columns=columns,
            behaviour=_behaviour(chosen, models, split),
            behaviour_reference="reference" if "reference" in models else None,
        )
    references = {role: one for role, one in answers.items() if role != "candidate"}
    report = judge_evidence(found, references, chosen.gate)
    return {
        "outcome": OUTCOMES[report.outcome],
        "model": str(model),
        "model_sha256": candidate.sha256,
        "against": str(against) if against else None,
        "data": str(data),
        "holdout_sha256": holdout_sha256(split),
        "num_rows": len(split),
        "task": task,
        "thresholds": {role: one.threshold for role, one in models.items()} if task == "multi_label" else None,
        "scores": {role: score_row(one) for role, one in scores.items()},
        "verdicts": verdict_rows(report.verdicts),
        "slices": slice_rows(answers["candidate"], columns, references, chosen.gate),
    }


def slice_rows(
    candidate: AnyPredictions,
    columns: Mapping[str, Sequence[str]],
    references: Mapping[str, AnyPredictions],
    config: GateConfig,
) -> list[dict[str, Any]]:
    """One row for each part of each slice and reference."""
    return [
        row
        for name, reference in references.items()
        for rule in config.slices
        for row in verdict_rows(_parts(candidate, reference, columns[rule.by], name, rule))
    ]


def _parts(
    candidate: AnyPredictions, reference: AnyPredictions, parts: Sequence[str], name: str, rule: SliceGate
) -> list[Verdict]:
    if isinstance(candidate, Predictions) and isinstance(reference, Predictions):
        return judge_slice_values(candidate, reference, parts, name, rule)
    if isinstance(candidate, Predictions) or isinstance(reference, Predictions):
        raise UserError(f"gate against the {name}: expected two models of one task, got one of classes and another")
    return judge_parts(candidate, reference, parts, name, rule)


def _task(paths: Sequence[Path], asked: Task | None) -> Task:
    """What is judged: as asked, or what the first model says that says it. Raises: UserError for a model of another."""
    said = {path: said_task(path) for path in paths}
    task = asked or next((own for own in said.values() if own is not None), None) or "single_label"
    for path, own in said.items():
        if own not in (None, task):
            raise UserError(
                f"{path}: expected a model of data.task {task}, {'as was asked for' if asked else 'as the other is'}, "
                f"got one of {own}; compare models of one task, and set data.task to it or leave it out"
            )
    return task


def _check_truth(split: Split, task: Task, data: Path) -> None:
    """Raises: DataError for rows on which every model of the task is equally good."""
    if task == "score" and len(set(split.labels)) < 2:
        raise DataError(f"{data}: expected scores that differ, got {split.labels[0]} in every row; there is no order")
    if task in ("multi_label", "entities") and not any(class_names(truth, task) for truth in split.labels):
        what = "label" if task == "multi_label" else "entity"
        raise DataError(
            f"{data}: expected rows with labels, got no {what} in {len(split):,} rows; nothing can be found"
        )


def _target(chosen: Gates, task: Task, paths: Sequence[Path], split: Split) -> Target:
    """The task with, of scores, the ends of their scale. Raises: UserError where they matter and nobody says them."""
    if task != "score":
        return Target(task=task)
    if chosen.data.scale is not None:
        low, high = chosen.data.scale
        return Target(task=task, low=low, high=high)
    stored = next((found for path in paths if (found := said_scale(path)) is not None), None)
    if stored is not None:
        return stored
    if chosen.gate.parity is not None:
        raise UserError(
            "gate.parity compares shares of the scores' scale, and neither model's folder says its ends; give them, as "
            "in --set data.scale=[0,5]"
        )
    scores = [float(score) for score in split.labels]
    return Target(task=task, low=min(scores), high=max(scores))


def _check_asked(config: GateConfig, task: Task, against: Path | None) -> None:
    """Raises: UserError where nothing can be judged, or something only against a reference that is not there."""
    check_gates(config, task)
    if against is not None:
        return
    if config.relative:
        raise UserError(
            f"gate.{config.relative[0]} compares with a reference, and there is none: name one with --against MODEL"
        )
    alone = ["unknown_words", "batch_shift", "latency_p50_ms", "latency_p95_ms", "size_mb", "behaviour"]
    if task != "score":
        alone = ["calibration_error", *alone]
    if task == "single_label":
        alone = ["min_accuracy", *alone]
    if not any(getattr(config, name) is not None for name in alone):
        raise UserError(
            "there is nothing to judge: name a reference with --against MODEL, or set one of the gates that need none, "
            f"as in --set gate.{alone[0]}={'0.9' if task == 'single_label' else '0.01'} ({', '.join(alone)})"
        )


def _check_fits(model: AnyModel, role: str, split: Split, task: Task) -> None:
    """Raises: DataError for rows that the model cannot answer or whose label it does not know."""
    pairs = not isinstance(split.texts[0], str)
    if model.pairs is not None and model.pairs is not pairs:
        raise DataError(
            f"the {role} {model.path} reads {'pairs of texts' if model.pairs else 'single texts'}, the data has "
            f"{'pairs' if pairs else 'single texts'}; set data.text_pair to the second column, or leave it out"
        )
    known = _names(model, task)
    foreign = [set(class_names(truth, task)) - known.keys() for truth in split.labels]
    unknown = Counter(name for names in foreign for name in names)
    if unknown:
        raise DataError(
            f"{sum(map(bool, foreign)):,} of {len(split):,} rows have a label that the {role} {model.path} does not "
            "know: "
            f"{listed(f'{label} ({number:,})' for label, number in unknown.most_common())}; it knows {listed(known)}. "
            "Name the right column (--set data.label=NAME), or the model's classes (id2label in its config.json)"
        )


def _check_behaviour(chosen: Gates, model: AnyModel, role: str, split: Split, task: Task) -> None:
    """Raises: UserError for behavioural tests that the model cannot answer."""
    if chosen.gate.behaviour is not None:
        chosen.behaviour.check_task(task, pairs=not isinstance(split.texts[0], str))
        chosen.behaviour.check_classes(list(_names(model, task)), role)


def _names(model: AnyModel, task: Task) -> dict[str, None]:
    """What its answers can name, in its order: classes, or types of entities."""
    labels = model.classifier.labels
    return dict.fromkeys(labels if task != "entities" else (tag[2:] for tag in labels if tag != OUTSIDE))


def _labels(models: Mapping[str, AnyModel], task: Task) -> tuple[str, ...]:
    """The outputs that the models have together."""
    names = dict.fromkeys(name for one in models.values() for name in _names(one, task))
    return tuple(entity_tags(sorted(names)) if task == "entities" else names)


def _answers(model: AnyModel, role: str, split: Split, labels: tuple[str, ...], target: Target) -> AnyPredictions:
    """Raises: UserError where they are no probabilities."""
    found = predict_task(model.classifier, split, labels, target, batch_size=model.batch_size)
    if isinstance(found, Predictions):
        check_probabilities(found, role)
    return found


def _behaviour(chosen: Gates, models: Mapping[str, AnyModel], split: Split) -> list[BehaviourResult]:
    """The behavioural tests on the rows, where there are limits."""
    if chosen.gate.behaviour is None:
        return []
    tried = {role: (one.classifier, one.batch_size) for role, one in models.items()}
    return try_rows(chosen.behaviour, split, tried["candidate"], tried.get("reference"), seed=SEED)


def _scores(models: dict[str, AnyModel], answers: dict[str, AnyPredictions], split: Split) -> dict[str, Scores]:
    """Timed in turns on the same sentences."""
    latency_ms = interleaved({role: one.classifier.predict for role, one in models.items()}, sample(split, SEED))
    return {
        role: score(
            replace(answers[role], latency_ms_N=np.array(latency_ms[role])),
            size_bytes=one.size_bytes,
            throughput_per_s=throughput(partial(one.classifier.predict, batch_size=32), split),
            seed=SEED,
        )
        for role, one in models.items()
    }
