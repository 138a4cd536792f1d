"""Source -> validated, split and written data, with a report of everything that was found."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bento.entities import entity_tags, entity_types
from bento.errors import DataError
from bento.task_types import Target
from tasks.data.files import read_table
from tasks.data.parts import FRESH, write_parts
from tasks.data.retrain import TrafficConfig, add_traffic
from tasks.data.rows import Findings, Row
from tasks.data.source import DataConfig, read_tables
from tasks.data.split import assign_splits, cap_rows, split_of, unit_hash
from tasks.data.validate import check_labels, drop_repeated, rows_of
from tasks.types import SPLITS


def prepare(
    config: DataConfig,
    out: Path,
    *,
    extra: Path | None = None,
    more: Path | None = None,
    retrain: TrafficConfig | None = None,
) -> None:
    """Fill the folder `out` with the three splits, the label names and the report.

    `extra` is a CSV or JSON Lines file of rows labelled since the last build; `more` the folder that
    `tasks.monitor.retrain_data` assembled of the traffic, which goes in as `retrain` says. The bytes written depend on
    the config and the content of the files alone, so the artifact's digest is stable. Raises: DataError with all faults
    at once.
    """
    findings = Findings()
    subject = f"data.source {config.source}"
    tables = read_tables(config, findings)
    rows = rows_of(tables, config, findings)
    findings.raise_errors(subject)
    num_read = Counter(row.split for row in rows)
    rows = drop_repeated(rows, findings)
    findings.raise_errors(subject)
    rows = check_labels(assign_splits(rows, config, findings), config, findings)
    findings.raise_errors(subject)
    kept = cap_rows(rows, config.max_rows)
    if extra is not None:
        kept = add_feedback(kept, rows, extra, config, findings)
    added = add_traffic(kept, rows, more, config, retrain or TrafficConfig(), findings) if more is not None else None
    kept = added.rows if added is not None else kept
    labels = _labels(kept, config)
    _check_capped(kept, labels, config)
    report = _report(config, kept, num_read, labels, findings, made=_made(tables))
    if added is not None:
        report["retrain"] = added.report
    write_parts(out, kept, labels, _target(kept, config), report, texts=added.texts if added is not None else None)


def _labels(rows: Sequence[Row], config: DataConfig) -> list[str]:
    """The classes, sorted; of a score its column, which names the model's one output; of entities the tags."""
    if config.task == "score":
        return [config.label]
    names = sorted({name for row in rows if row.split == "train" for name in row.names})
    return entity_tags(names) if config.task == "entities" else names


def _target(rows: Sequence[Row], config: DataConfig) -> Target:
    """The task, and of a score the range that training has."""
    if config.task != "score":
        return Target(task=config.task)
    scores = [float(row.label) for row in rows if row.split == "train"]
    return Target(task="score", low=min(scores), high=max(scores))


def add_feedback(
    kept: Sequence[Row], source: Sequence[Row], extra: Path, config: DataConfig, findings: Findings
) -> list[Row]:
    """Add newly labelled rows; the newest label of a text wins, and a known text stays in its split.

    A new text trains, or joins the test as its recent part, by its id hash. `source` has every row of the source,
    those that `max_rows` leaves out too. Raises: DataError.
    """
    if config.task != "single_label":
        raise DataError(f"{extra}: newly labelled rows have one class each, but data.task is {config.task}")
    known = {row.label for row in source}
    rows = _read_feedback(extra, config, findings)
    rows = findings.drop(
        rows,
        lambda row: row.label not in known,
        kind="unknown_feedback_label",
        message=f"of {extra.name} have a label that the source never has",
        remedy="",
    )
    newest = {row.id: row for row in rows}
    if not newest:
        raise DataError(f"{extra}: no row has a text and a label of the source; expected some newly labelled rows")
    split_of_id = {row.id: row.split for row in source}
    agreed = {row.id for row in kept if row.id in newest and newest[row.id].label == row.label}
    fresh = [
        replace(
            row, split=split_of_id.get(row.id) or split_of(unit_hash(row.id), test=config.feedback_test, validation=0)
        )
        for row in newest.values()
        if row.id not in agreed
    ]
    stays = findings.drop(
        kept,
        lambda row: row.id in newest and row.id not in agreed,
        kind="relabelled",
        message=f"of the source have a newer label in {extra.name}, which replaces them",
        remedy="",
    )
    if len(fresh) < len(rows):
        message = f"{len(rows) - len(fresh):,} rows of {extra.name} repeat a newer row or agree with the source"
        findings.add("repeated_feedback", "dropped", message, count=len(rows) - len(fresh))
    return stays + fresh


def _read_feedback(extra: Path, config: DataConfig, findings: Findings) -> list[Row]:
    """The usable rows of the feedback file, whose columns are always called text, label and text_pair."""
    columns = DataConfig(source=str(extra), text_pair="text_pair" if config.text_pair else None)
    rows = rows_of({"train": [read_table(extra, columns.columns)]}, columns, findings)
    findings.raise_errors(f"the newly labelled rows {extra}")
    return [replace(row, origin="feedback") for row in rows]


def _check_capped(rows: Sequence[Row], labels: Sequence[str], config: DataConfig) -> None:
    """Raises: DataError where `max_rows` left a label without training, or a split without rows."""
    known = entity_types(labels) if config.task == "entities" else labels
    lost = {name for row in rows for name in row.names} - set(known)
    if lost:
        raise DataError(f"data.max_rows {config.max_rows} leaves {len(lost)} labels without a training row; raise it")
    empty = [split for split in SPLITS if not any(row.split == split for row in rows)]
    if empty:
        raise DataError(
            f"data.source {config.source}: no rows are left for {' and '.join(empty)}; "
            "add rows, or raise data.validation and data.test"
        )


def _made(tables: dict[str, Any]) -> list[str]:
    return [split for split in SPLITS if split not in tables]


def _report(
    config: DataConfig,
    rows: Sequence[Row],
    num_read: Counter[str],
    labels: Sequence[str],
    findings: Findings,
    *,
    made: Sequence[str],
) -> dict[str, Any]:
    splits = {}
    labels = entity_types(labels) if config.task == "entities" else labels
    for split in (*SPLITS, *([FRESH] if any(row.split == FRESH for row in rows) else [])):
        members = [row for row in rows if row.split == split]
        counts = Counter(name for row in members for name in row.names)
        splits[split] = {
            "num_rows": len(members),
            "num_feedback_rows": sum(row.origin == "feedback" for row in members),
            "num_read": num_read[split],
            "made_from_train": split in made,
            "labels": {label: counts[label] for label in labels} if counts else {},
        }
    dropped: Counter[str] = Counter()
    for finding in findings.found:
        dropped[finding.kind] += finding.count if finding.action == "dropped" else 0
    return {
        "source": config.source if config.kind in ("hub", "synthetic") else Path(config.source).name,
        "synthetic": config.kind == "synthetic",
        "num_labels": 0 if config.task == "score" else len(labels),
        "splits": splits,
        "dropped": {kind: number for kind, number in sorted(dropped.items()) if number},
        "findings": [asdict(finding) for finding in findings.found],
    }
