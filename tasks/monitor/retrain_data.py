"""What the request log has for a retrain: each labelled text once, by its newest label, and recent texts without one.

Only the log is read here; what of it may train, validate or judge is decided beside the source, in
`tasks/data/retrain.py`. The result is an artifact named by its content: the same labels and texts give the same digest.
"""

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from bento.database import engine, metadata
from bento.errors import UserError
from bento.records import labelled_rows, read_window
from bento.redaction import is_readable
from tasks.data.retrain import ASSEMBLED, LABELLED, TEXTS
from tasks.data.rows import EXAMPLE_CHARS, NUM_EXAMPLES, row_id
from tasks.data.validate import MAX_TEXT_CHARS
from tasks.monitor.looks import looks
from tasks.monitor.retrain_config import RetrainConfig
from tasks.monitor.traffic import OVERSAMPLE
from tasks.store import Step, load_artifact, run_step
from tasks.types import Artifact

STEP = "retrain_data"
COMPLETE = 0.9
"""From this share of labelled requests on, nobody selected which ones are, so they are as good as drawn at random."""
NUM_RECENT = 1_000
"""Newest logged rows that are read at least, to see whether nearly all traffic is labelled."""

pins = sa.Table(
    "retrains",
    metadata,
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("cause", sa.String(128), primary_key=True),  # the look, or the run, that asked for it
    sa.Column("data_sha256", sa.String(64), nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)


def check_look(name: str, look: int) -> None:
    """Raises: UserError where there is no such look, whose rows a later one of that number would get."""
    wanted = sa.select(looks.c.id).where(looks.c.name == name, looks.c.id == look)
    with engine().connect() as connection:
        if connection.execute(wanted).first() is None:
            raise UserError(
                f"retrain: expected a look at {name}, got {look}, which there is not; `retort status {name}` lists "
                "them, or leave --look out"
            )


def assemble_once(name: str, cause: str, config: RetrainConfig) -> Artifact:
    """What `cause` (a look, or a run) retrains on: assembled at its first call, and the same rows ever after.

    The log grows while a retrain is killed, suspended or asked for twice; what it learns from does not.
    Raises: UserError without any usable label.
    """
    pins.create(engine(), checkfirst=True)
    pinned = _read_pin(name, cause)
    known = load_artifact(pinned, kind="data", made_by=STEP) if pinned else None
    if known is not None:
        return known
    artifact = assemble(name, config).artifact
    _write_pin(name, cause, artifact.sha256, replaces=pinned)
    now = _read_pin(name, cause)
    other = load_artifact(now, kind="data", made_by=STEP) if now and now != artifact.sha256 else None
    return other or artifact


def assemble(name: str, config: RetrainConfig) -> Step:
    """The labelled texts and the recent ones without a label, as an artifact. Raises: UserError without any label."""
    recent = read_window(name, 0.0, time.time() + 1, max(NUM_RECENT, OVERSAMPLE * config.transfer))
    labelled, report = _newest_labels(labelled_rows(name, 0.0), _complete(recent), config.max_labelled)
    if not labelled:
        raise UserError(_no_rows(name, report))
    texts = _recent_texts(recent, config.transfer, known={row["id"] for row in labelled})
    report |= {"num_logged": len(recent), "num_texts": len(texts)}
    files = {
        LABELLED: _lines({key: row[key] for key in row if key != "id"} for row in labelled),
        TEXTS: _lines(texts),
        ASSEMBLED: json.dumps(report, ensure_ascii=False, indent=1) + "\n",
    }
    return run_step(
        STEP,
        kind="data",
        inputs=[hashlib.sha256(text.encode()).hexdigest() for text in files.values()],
        config={},
        code="tasks.monitor.retrain_data",
        make=lambda out, work: _write(files, out),
    )


def _write(files: dict[str, str], out: Path) -> None:
    for name, text in files.items():
        (out / name).write_text(text, encoding="utf-8")


def _complete(recent: Sequence[dict[str, Any]]) -> set[tuple[str, int]]:
    """Requests among the recent ones where nearly all are labelled, so that nobody selected which; else none."""
    labelled = {(row["request_id"], row["item"]) for row in recent if row["true_label"] is not None}
    return labelled if recent and len(labelled) >= COMPLETE * len(recent) else set()


def _newest_labels(
    rows: Sequence[dict[str, Any]], complete: set[tuple[str, int]], limit: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Each usable text once, ordered by its id, and how it came to that.

    Labels of one text that contradict each other: the newest wins, for meanings move; how many did is told.
    """
    usable = [row for row in rows if _is_usable(row)]
    by_text: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in sorted(usable, key=lambda row: (row["labelled_at"], row["request_id"], row["item"])):
        by_text[row_id(row["text"], row["text_pair"])].append(row)
    newest = sorted(by_text.items(), key=lambda item: (-item[1][-1]["labelled_at"], item[0]))[:limit]
    found = [_labelled(at, same, complete) for at, same in sorted(newest)]
    torn = [same for _, same in sorted(newest) if len({row["true_label"] for row in same}) > 1]
    report = {
        "num_labels": len(rows),
        "num_unusable": len(rows) - len(usable),
        "num_labelled_texts": len(found),
        "num_beyond_limit": len(by_text) - len(found),
        "num_drawn": sum(row["drawn"] for row in found),
        "num_contradicted": len(torn),
        "contradicted": [_torn_in_words(same) for same in torn[:NUM_EXAMPLES]],
    }
    return found, report


def _is_usable(row: dict[str, Any]) -> bool:
    """Whether there is a text to learn from: neither hashed nor dropped by the log, nor beyond what the data takes."""
    text, pair = row["text"], row["text_pair"]
    readable = is_readable(text) and bool(text.strip()) and (pair is None or is_readable(pair))
    return readable and bool(row["true_label"]) and len(text) + len(pair or "") <= MAX_TEXT_CHARS


def _labelled(at: str, same: Sequence[dict[str, Any]], complete: set[tuple[str, int]]) -> dict[str, Any]:
    last = same[-1]
    pair = {"text_pair": last["text_pair"]} if last["text_pair"] else {}
    drawn = any(row["audit"] or (row["request_id"], row["item"]) in complete for row in same)
    return {"id": at, "text": last["text"], **pair, "label": last["true_label"], "drawn": drawn}


def _torn_in_words(same: Sequence[dict[str, Any]]) -> str:
    labels = list(dict.fromkeys(str(row["true_label"]) for row in same[::-1]))
    return f"{same[-1]['text'][:EXAMPLE_CHARS]!r}: now {labels[0]}, before {', '.join(labels[1:])}"


def _recent_texts(rows: Sequence[dict[str, Any]], limit: int, *, known: set[str]) -> list[Any]:
    """The newest distinct readable texts that have no label, ordered by their id."""
    found: dict[str, Any] = {}
    for row in reversed(rows):
        if len(found) == limit:
            break
        pair = row["text_pair"]
        if _is_usable(row | {"true_label": "any"}):
            at = row_id(row["text"], pair)
            if at not in known:
                found.setdefault(at, [row["text"], pair] if pair else row["text"])
    return [text for _, text in sorted(found.items())]


def _lines(values: Iterable[Any]) -> str:
    return "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)


def _no_rows(name: str, report: dict[str, Any]) -> str:
    if not report["num_labels"]:
        return (
            f"retrain: expected labelled requests of {name}, but the request log has none; label its audit queue "
            "(`retort audit`), or send POST /feedback"
        )
    return (
        f"retrain: expected texts to retrain {name} on, but those of all {report['num_labels']:,} labelled requests "
        "were hashed or dropped (RETORT_LOG_TEXT), or are too long; set it to keep or redact, or build with newly "
        "labelled data: `retort run --extra FILE`"
    )


def _read_pin(name: str, cause: str) -> str | None:
    wanted = sa.select(pins.c.data_sha256).where(pins.c.name == name, pins.c.cause == cause)
    with engine().connect() as connection:
        return connection.execute(wanted).scalar_one_or_none()


def _write_pin(name: str, cause: str, sha256: str, *, replaces: str | None) -> None:
    """Note it unless somebody else did meanwhile; `replaces` is a note whose artifact is gone from the store."""
    row = {"name": name, "cause": cause, "data_sha256": sha256, "at": time.time()}
    same = (pins.c.name == name) & (pins.c.cause == cause)
    with engine().begin() as connection:
        if replaces is not None:
            connection.execute(pins.update().where(same, pins.c.data_sha256 == replaces).values(**row))
            return
    try:
        with engine().begin() as connection:
            connection.execute(pins.insert().values(**row))
    except IntegrityError:
        if _read_pin(name, cause) is None:
            raise
