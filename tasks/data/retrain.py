"""What a retrain adds to the source: labelled traffic, a fresh holdout of it, and its text without labels.

A text's id decides once and for all what it may be used for, across retrains: a text of the source stays in the split
that the source gave it; of all others the share `holdout` with the smallest hashes never trains, with or without a
label, and those of them that were drawn at random to be labelled are the fresh holdout. So no model, of any retrain,
has been trained on a text that a later one is judged by, and targeted or volunteered labels judge nothing.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import Field

from bento.errors import DataError
from tasks.data.parts import FRESH
from tasks.data.rows import Findings, Row, listed, row_id
from tasks.data.source import DataConfig
from tasks.data.split import split_of, unit_hash
from tasks.types import Section

LABELLED = "labelled.jsonl"
TEXTS = "texts.jsonl"
ASSEMBLED = "assembled.json"
USED = ("train", "validation", FRESH)
"""Splits that labelled traffic may go to; the test stays as it is."""


class TrafficConfig(Section):
    """Which of the labelled traffic is learnt from, and how much it counts."""

    weight: int = Field(default=3, ge=1, le=100)
    """How often a newly labelled row is seen where a row of the source is seen once."""
    holdout: float = Field(default=0.3, ge=0.05, le=0.9)
    """Share of all texts outside the source, by their id, that is never trained on; those of them that were drawn at
    random for audit, and labelled, are the fresh holdout."""
    min_new_class_rows: int = Field(default=20, ge=1)
    """Training rows that a class which the source does not have needs before it is learnt."""


@dataclass(frozen=True, kw_only=True)
class Added:
    """The rows with what a retrain adds, and what was made of it."""

    rows: list[Row]
    texts: list[Any]
    """Without labels; pairs as lists of two."""
    report: dict[str, Any]


def add_traffic(
    kept: Sequence[Row],
    source: Sequence[Row],
    assembled: Path,
    config: DataConfig,
    retrain: TrafficConfig,
    findings: Findings,
) -> Added:
    """Add the assembled labelled rows and texts of the request log to the rows of the source that are `kept`.

    `source` has every row of the source. The test split stays as it is; a newer label of a row that trains or validates
    replaces the older one. Raises: DataError where no row is left to learn from.
    """
    if config.task != "single_label":
        raise DataError(f"retrain: labelled traffic has one class a text, but data.task is {config.task}")
    split_of_id, known = {row.id: row.split for row in source}, {row.label for row in source}
    placed, unused = _place(_read_lines(assembled / LABELLED), split_of_id, config, retrain)
    placed, few, new = _without_rare_classes(placed, known, retrain.min_new_class_rows)
    if not any(row.split == "train" for row in placed):
        reasons = ", ".join(f"{reason} {number:,}" for reason, number in unused.items())
        raise DataError(
            "retrain: expected newly labelled rows to learn from, but of the labelled texts none may train "
            f"({reasons}); label more of the audit queue"
        )
    _tell_new_classes(few, new, retrain.min_new_class_rows, findings)
    texts = _texts(assembled, config, retrain, taken={*split_of_id, *(row.id for row in placed)})
    rows = _merge(kept, placed)
    report = {
        "num_source": sum(row.origin == "source" for row in rows),
        "num_labelled": sum(row.origin == "feedback" and row.split == "train" for row in rows),
        "num_validation": sum(row.origin == "feedback" and row.split == "validation" for row in rows),
        "num_fresh": sum(row.split == FRESH for row in rows),
        "num_texts": len(texts),
        "weight": retrain.weight,
        "new_classes": new,
        "left_out_classes": few,
        "unused": unused,
    }
    log = json.loads((assembled / ASSEMBLED).read_text(encoding="utf-8"))
    return Added(rows=rows, texts=texts, report=report | {"log": log})


def _place(
    labelled: Sequence[dict[str, Any]], split_of_id: dict[str, str], config: DataConfig, retrain: TrafficConfig
) -> tuple[list[Row], dict[str, int]]:
    """The labelled rows that are used, each in its split, and how many are not, by the reason."""
    placed, unused = [], Counter[str]()
    for number, values in enumerate(labelled, start=1):
        row = _row(values, number)
        split = _split(row, split_of_id, drawn=values["drawn"], retrain=retrain, validation=config.validation)
        if (row.text_pair is None) != (config.text_pair is None):
            unused["other_form"] += 1
        elif split in USED:
            placed.append(replace(row, split=split))
        else:
            unused[split] += 1
    return placed, dict(sorted(unused.items()))


def _row(values: dict[str, Any], number: int) -> Row:
    pair = values.get("text_pair")
    return Row(
        id=row_id(values["text"], pair),
        text=values["text"],
        text_pair=pair,
        label=values["label"],
        names=(values["label"],),
        split="train",
        file=LABELLED,
        line=number,
        origin="feedback",
    )


def _split(row: Row, split_of_id: dict[str, str], *, drawn: bool, retrain: TrafficConfig, validation: float) -> str:
    """The split of a labelled row, or why it is in none."""
    held = unit_hash(row.id) < retrain.holdout
    known = split_of_id.get(row.id)
    if known in ("train", "validation"):
        return known
    if held and drawn:
        return FRESH
    if known:
        return "in_the_frozen_test"
    return "held_out_but_not_drawn_at_random" if held else split_of(unit_hash(row.id), test=0.0, validation=validation)


def _without_rare_classes(
    rows: Sequence[Row], known: set[str], fewest: int
) -> tuple[list[Row], dict[str, int], dict[str, int]]:
    """The rows without those of new classes that have too few to train on; training rows of those and the others."""
    counts = Counter({row.label: 0 for row in rows if row.label not in known})
    counts.update(row.label for row in rows if row.split == "train" and row.label not in known)
    few = {label: number for label, number in sorted(counts.items()) if number < fewest}
    new = {label: number for label, number in sorted(counts.items()) if number >= fewest}
    return [row for row in rows if row.label not in few], few, new


def _tell_new_classes(few: dict[str, int], new: dict[str, int], fewest: int, findings: Findings) -> None:
    for kind, classes, action, words in (
        ("new_class", new, "noted", "classes that the source does not have are learnt from labelled traffic"),
        ("rare_new_class", few, "dropped", f"new classes have fewer than {fewest} training rows and are left out"),
    ):
        if classes:
            names = listed(f"{label} ({number:,})" for label, number in classes.items())
            findings.add(kind, action, f"{words}: {names}", count=len(classes))  # type: ignore[arg-type]


def _texts(assembled: Path, config: DataConfig, retrain: TrafficConfig, *, taken: set[str]) -> list[Any]:
    """Texts that may train without a label: in no split, and outside what is held out for ever."""
    found = {}
    for text in _read_lines(assembled / TEXTS):
        at = row_id(text) if isinstance(text, str) else row_id(*text)
        if isinstance(text, str) == (config.text_pair is None) and at not in taken:
            found[at] = text
    return [text for at, text in sorted(found.items()) if unit_hash(at) >= retrain.holdout]


def _merge(kept: Sequence[Row], placed: Iterable[Row]) -> list[Row]:
    """The kept rows with the newest labels, their other columns as they were, and the further rows behind them."""
    newest = {row.id: row for row in placed}
    merged = []
    for row in kept:
        newer = newest.pop(row.id, None) if row.split != "test" else None
        merged.append(row if newer is None else replace(row, label=newer.label, names=newer.names, origin="feedback"))
    return merged + list(newest.values())


def _read_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def retrain_words(retrain: Mapping[str, Any]) -> str:
    """What a retrain learnt from, in one line."""
    log = retrain["log"]
    words = (
        f"Retrained on {retrain['num_source']:,} rows of the source, {retrain['num_labelled']:,} newly labelled ones "
        f"that count {retrain['weight']} times and {retrain['num_texts']:,} recent texts without labels; judged on "
        f"{retrain['num_fresh']:,} fresh rows beside the frozen test"
    )
    for what, classes in (("new classes", retrain["new_classes"]), ("left out", retrain["left_out_classes"])):
        if classes:
            words += f"; {what}: " + ", ".join(f"{label} ({number:,} rows)" for label, number in classes.items())
    if log["num_unusable"]:
        words += f"; {log['num_unusable']:,} labelled requests have no usable text"
    if log["num_contradicted"]:
        words += f"; {log['num_contradicted']:,} texts have labels that contradict each other, the newest of which won"
    return words + "."
