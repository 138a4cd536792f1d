"""The audit queue as a file: exported to be labelled in any tool, imported with the labels filled in."""

import json
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from bento.errors import DataError
from bento.records import DuplicateFeedbackError, add_feedback, audit_queue, read_request

MAX_EXPORT_ROWS = 100_000
FIELDS = ("request_id", "item", "text", "text_pair")


def export_queue(name: str, out: Path) -> int:
    """Write the queue as JSON Lines with an empty `label` and the model's `suggestion`; the number of rows."""
    rows = audit_queue(name, MAX_EXPORT_ROWS)
    temporary = out.with_name(f".{out.name}-{uuid4().hex[:8]}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        for row in rows:
            fields = {field: row[field] for field in FIELDS} | {"suggestion": row["label"], "label": ""}
            file.write(json.dumps(fields, ensure_ascii=False) + "\n")
    temporary.replace(out)
    return len(rows)


def import_labels(name: str, source: Path) -> tuple[int, int]:
    """Store the labels of `source`: how many were taken, and how many refused (unknown, or labelled otherwise).

    The whole file is checked before the first label is stored. Raises: DataError naming the line.
    """
    taken = refused = 0
    for entry in _read(source):
        if all(row["item"] != entry["item"] for row in read_request(name, entry["request_id"])):
            refused += 1
            continue
        try:
            add_feedback(name, entry["request_id"], entry["item"], entry["label"], time.time())
        except DuplicateFeedbackError:
            refused += 1
        else:
            taken += 1
    return taken, refused


def _read(source: Path) -> list[dict[str, Any]]:
    try:
        lines = source.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{source}: expected a UTF-8 JSON Lines file: {error}") from error
    entries = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            entry = _entry(f"{source}:{number}", line)
            if entry["label"]:
                entries.append(entry)
    return entries


def _entry(where: str, line: str) -> dict[str, Any]:
    expected = 'expected an object such as {"request_id": "...", "item": 0, "label": "..."}'
    try:
        value = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: {expected}, got {line[:80]!r}") from error
    if not isinstance(value, dict):
        raise DataError(f"{where}: {expected}, got {line[:80]!r}")
    entry = {"request_id": value.get("request_id"), "item": value.get("item", 0), "label": value.get("label", "")}
    if not (
        isinstance(entry["request_id"], str) and isinstance(entry["item"], int) and isinstance(entry["label"], str)
    ):
        raise DataError(f"{where}: {expected}, got {line[:80]!r}")
    return entry
