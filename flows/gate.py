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

from bento.errors import DataError, UserError
from flows.config import Gates
from flows.summary import score_row, verdict_rows
from tasks.any_model import AnyModel, open_model
from tasks.data.labelled import read_labelled
from tasks.data.rows import listed
from tasks.evaluate import interleaved, predict, sample, score, throughput
from tasks.gate import Evidence, GateConfig, check_gates, judge_evidence, judge_slice_values, probe, slice_columns
from tasks.gate.verdicts import check_probabilities
from tasks.holdout import holdout_sha256, note_use
from tasks.types import Predictions, Scores, Split

log = logging.getLogger("retort.gate")

SEED = 0
OUTCOMES = {"pass": "passed", "fail": "blocked", "inconclusive": "inconclusive"}


def gate_folder(model: Path, data: Path, against: Path | None, chosen: Gates) -> dict[str, Any]:
    """JSON-able: `outcome`, `scores`, `verdicts` and, where asked for, each part of the `slices`.

    Raises: UserError for what cannot be opened, read or compared.
    """
    _check_asked(chosen.gate, against)
    split, further, findings = read_labelled(data, chosen.data)
    for finding in findings:
        log.warning("%s: %s", data, finding.message)
    columns = slice_columns(chosen.gate.slices, split, further)
    with tempfile.TemporaryDirectory(prefix="retort-gate-") as work:
        models = {"candidate": open_model(model, Path(work) / "candidate")}
        if against is not None:
            models["reference"] = open_model(against, Path(work) / "reference")
        for role, one in models.items():
            _check_fits(one, role, split)
        labels = list(dict.fromkeys(label for one in models.values() for label in one.classifier.labels))
        answers = {role: _answers(one, role, split, labels) for role, one in models.items()}
        scores = _scores(models, answers, split)
        candidate = models["candidate"]
        found = Evidence(
            predictions=answers["candidate"],
            scores=scores["candidate"],
            probes=probe(candidate.classifier, candidate.tokenizer, split.texts, chosen.gate),
            num_judged=note_use(split, model_sha256=candidate.sha256, name=model),
            columns=columns,
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
        "scores": {role: score_row(one) for role, one in scores.items()},
        "verdicts": verdict_rows(report.verdicts),
        "slices": slice_rows(answers["candidate"], columns, references, chosen.gate),
    }


def slice_rows(
    candidate: Predictions, columns: Mapping[str, Sequence[str]], references: dict[str, Predictions], config: GateConfig
) -> list[dict[str, Any]]:
    """One row for each part of each slice and reference."""
    return [
        row
        for name, reference in references.items()
        for rule in config.slices
        for row in verdict_rows(judge_slice_values(candidate, reference, columns[rule.by], name, rule))
    ]


def _check_asked(config: GateConfig, against: Path | None) -> None:
    """Raises: UserError where nothing can be judged, or something only against a reference that is not there."""
    check_gates(config, "single_label")
    if config.behaviour is not None:
        raise UserError("gate.behaviour needs the tests of a whole build, which `retort run` makes; leave it out here")
    if against is not None:
        return
    if config.relative:
        raise UserError(
            f"gate.{config.relative[0]} compares with a reference, and there is none: name one with --against MODEL"
        )
    alone = ("min_accuracy", "calibration_error", "unknown_words", "batch_shift", "latency_p50_ms", "latency_p95_ms",
             "size_mb")  # fmt: skip
    if not any(getattr(config, name) is not None for name in alone):
        raise UserError(
            "there is nothing to judge: name a reference with --against MODEL, or set one of the gates that need none, "
            f"as in --set gate.min_accuracy=0.9 ({', '.join(alone)})"
        )


def _check_fits(model: AnyModel, role: str, split: Split) -> None:
    """Raises: DataError for rows that the model cannot answer or whose label it does not know."""
    pairs = not isinstance(split.texts[0], str)
    if model.pairs is not None and model.pairs is not pairs:
        raise DataError(
            f"the {role} {model.path} reads {'pairs of texts' if model.pairs else 'single texts'}, the data has "
            f"{'pairs' if pairs else 'single texts'}; set data.text_pair to the second column, or leave it out"
        )
    known = model.classifier.labels
    unknown = Counter(label for label in split.labels if label not in known)
    if unknown:
        raise DataError(
            f"{unknown.total():,} of {len(split):,} rows have a label that the {role} {model.path} does not know: "
            f"{listed(f'{label} ({number:,})' for label, number in unknown.most_common())}; it knows {listed(known)}. "
            "Name the right column (--set data.label=NAME), or the model's classes (id2label in its config.json)"
        )


def _answers(model: AnyModel, role: str, split: Split, labels: Sequence[str]) -> Predictions:
    """Raises: UserError where they are no probabilities."""
    found = predict(model.classifier, split, labels, batch_size=model.batch_size)
    check_probabilities(found, role)
    return found


def _scores(models: dict[str, AnyModel], answers: dict[str, Predictions], split: Split) -> dict[str, Scores]:
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
