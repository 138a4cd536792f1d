"""The audit queue: which rows are put before people, and their labels in and out as files."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from bento.audit_records import Item, add_targets, audit_queue, find_items, open_rows, shadow_disagreements
from bento.records import DuplicateFeedbackError, add_feedback
from tasks.monitor.audit_files import Format, read_entries, written
from tasks.outputs import require_output

MAX_EXPORT_ROWS = 100_000
NUM_READ = 5_000
"""Newest rows among which odd ones are looked for."""
EACH = 50
"""Rows that one call targets for each reason."""


def target(name: str, items: Iterable[Item], reason: str, *, most: int = EACH) -> int:
    """Put up to `most` rows (request id, item) before people because they look odd; how many were put.

    They go to a stream of their own, which no estimate of accuracy reads, and in which a bounded number waits.
    """
    return add_targets(name, items, reason, most=most)


def target_odd(name: str, model_sha256: str, *, drifted: Iterable[Item] = (), each: int = EACH) -> dict[str, int]:
    """Target what one model may have got wrong: `drifted` rows, those that a shadow answered otherwise, and those that
    it was least sure of; at most `each` of a kind. Returns the number of rows put by reason."""
    recent = open_rows(name, model_sha256, NUM_READ)
    known = {(row["request_id"], row["item"]) for row in recent}
    unsure = sorted(recent, key=lambda row: max(row["probabilities"]))
    picks: dict[str, Iterable[Item]] = {
        "drifted": drifted,
        "disagreement": [item for item in shadow_disagreements(name, NUM_READ) if item in known],
        "low_confidence": [(row["request_id"], row["item"]) for row in unsure],
    }
    return {reason: target(name, items, reason, most=each) for reason, items in picks.items()}


def export_queue(name: str, out: Path, form: Format = "jsonl") -> int:
    """Write the queue for a labelling tool, the model's answer and a proposal as suggestions; the number of rows.

    Raises: DataError where `out` cannot be written.
    """
    require_output(out)
    rows = audit_queue(name, MAX_EXPORT_ROWS)
    temporary = out.with_name(f".{out.name}-{uuid4().hex[:8]}.tmp")
    temporary.write_text(written(rows, form), encoding="utf-8", newline="")
    temporary.replace(out)
    return len(rows)


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What became of the labels of a file."""

    taken: int = 0
    known: int = 0
    """Had this very label before."""
    replaced: int = 0
    """Had another one, which is kept as history."""
    unlabelled: int = 0
    unknown: int = 0
    """Refused: no such request."""
    other_model: int = 0
    """Refused: a request to a model of another name."""
    contradicting: int = 0
    """Refused: another label was there before."""
    disagreeing: int = 0
    """Refused: the file itself has several labels for the item."""
    new_labels: tuple[str, ...] = ()
    """Taken, though the champion cannot answer them."""

    @property
    def refused(self) -> int:
        """All that was not stored though it has a label."""
        return self.unknown + self.other_model + self.contradicting + self.disagreeing


def import_labels(
    name: str,
    source: Path,
    *,
    form: Format | None = None,
    replace: bool = False,
    known_labels: Sequence[str] | None = None,
) -> Imported:
    """Store the labels of `source`. The whole file is checked before the first is stored, and again changes nothing.

    `replace` lets them correct labels that are there. `known_labels` are the champion's, to name those that are new.
    Raises: DataError naming the place in the file.
    """
    entries = read_entries(source, form)
    by_item: dict[Item, set[str]] = {}
    for entry in entries:
        if entry.label:
            by_item.setdefault((entry.request_id, entry.item), set()).add(entry.label)
    found = find_items([request_id for request_id, _ in by_item])
    counts: dict[str, int] = {"unlabelled": sum(not entry.label for entry in entries)}
    taken_labels = set()
    for item, labels in by_item.items():
        kind = _store(name, item, labels, found.get(item, {}), replace)
        counts[kind] = counts.get(kind, 0) + 1
        if kind in ("taken", "replaced"):
            taken_labels |= labels
    new = () if known_labels is None else tuple(sorted(taken_labels - set(known_labels)))
    return Imported(**counts, new_labels=new)


def _store(name: str, item: Item, labels: set[str], models: Mapping[str, str | None], replace: bool) -> str:
    """What became of one item's labels, as `Imported` names it."""
    if not models:
        return "unknown"
    if name not in models:
        return "other_model"
    if len(labels) > 1:
        return "disagreeing"
    (label,) = labels
    if models[name] == label:
        return "known"
    try:
        return add_feedback(name, *item, label, time.time(), source="import", replace=replace)
    except DuplicateFeedbackError:
        return "contradicting"
