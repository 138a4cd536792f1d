"""What is wrong with the rows: counted, quoted with file and line, and either repaired and said, or an error.

Repaired by dropping: exact duplicates; a training text that is also in validation or test; up to 5 % of empty texts,
missing labels, and texts that carry two labels. Everything else that would spoil a model or its test is an error.
"""

import difflib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any

from tasks.data.files import Table
from tasks.data.rows import Findings, Row, listed, row_id
from tasks.data.source import DataConfig
from tasks.data.truths import EXPECTED, class_names, read_tagged, read_truth, text_of

MAX_TEXT_CHARS = 100_000
MAX_REPAIRED_SHARE = 0.05
MAX_LEAKED_SHARE = 0.25
"""Of all rows: where more of them are in two splits, somebody copied a file rather than met the same short text."""
PRIORITY = {"test": 0, "validation": 1, "train": 2}
"""Which split keeps a text that several have: the test must not change, so training gives way."""


def rows_of(tables: Mapping[str, Sequence[Table]], config: DataConfig, findings: Findings) -> list[Row]:
    """All rows of the source with text and label, the faults of each file noted."""
    rows: list[Row] = []
    for split, parts in tables.items():
        for table in parts:
            if _has_columns(table, config, findings):
                rows += _checked_rows(table, split, config, findings)
    return rows


def drop_repeated(rows: Sequence[Row], findings: Findings) -> list[Row]:
    """Each text once: exact duplicates, contradictions and leakage between splits resolved."""
    kept: list[Row] = []
    for split in dict.fromkeys(row.split for row in rows):
        kept += _drop_repeated_within(split, [row for row in rows if row.split == split], findings)
    return _drop_leakage(kept, findings)


def check_labels(rows: Sequence[Row], config: DataConfig, findings: Findings) -> list[Row]:
    """At least two labels, or one type of entities, all of them in training; notes names that differ only in case.
    Scores have to differ."""
    if config.task == "score":
        _check_scores(rows, findings)
        return list(rows)
    known = {name for row in rows if row.split == "train" for name in row.names}
    if len(known) < 2 and not (known and config.task == "entities"):
        only = f"only the label {next(iter(known))!r}" if known else "no row"
        findings.add("single_label", "error", f"training has {only}; a classifier needs at least two labels", count=1)
    by_folded = defaultdict(list)
    for label in sorted(known):
        by_folded[label.casefold()].append(label)
    alike = [" and ".join(map(repr, names)) for names in by_folded.values() if len(names) > 1]
    if alike:
        findings.add("similar_labels", "noted", "labels that differ only in capitals are taken as different", alike)
    return _without_unseen(rows, known, config, findings) if known else list(rows)


def _check_scores(rows: Sequence[Row], findings: Findings) -> None:
    scores = {row.label for row in rows if row.split == "train"}
    if len(scores) < 2:
        message = f"training has {f'only the score {scores.pop()}' if scores else 'no row'}; there is nothing to learn"
        findings.add("single_label", "error", message, count=1)


def _without_unseen(rows: Sequence[Row], known: set[str], config: DataConfig, findings: Findings) -> list[Row]:
    unseen = Counter(name for row in rows for name in row.names if name not in known)
    drop = config.unseen_labels == "drop"
    return findings.drop(
        rows,
        lambda row: not known.issuperset(row.names),
        kind="unseen_label",
        message=f"have, in validation or test, a label that training never has: "
        f"{listed(f'{label} ({number:,})' for label, number in unseen.most_common())}",
        remedy="add training rows for them, or drop them knowingly with --set data.unseen_labels=drop",
        max_share=1.0 if drop else 0.0,
    )


def _has_columns(table: Table, config: DataConfig, findings: Findings) -> bool:
    missing = [(key, getattr(config, key)) for key in ("text", "label", "text_pair")]
    missing = [(key, name) for key, name in missing if name is not None and name not in table.columns]
    for key, name in missing:
        close = difflib.get_close_matches(name, table.columns, n=1, cutoff=0.5)
        message = (
            f"{table.file} has no column {name!r}; it has {listed(table.columns)}. Set data.{key} to the right one"
        )
        if close:
            lists = any(isinstance(values.get(close[0]), list) for _, values in table.records[:100])
            message += f", perhaps {close[0]}"
            message += ", and data.task to multi_label, since that holds lists" if lists and key == "label" else ""
        findings.add("missing_column", "error", message, count=1)
    return not missing


def _checked_rows(table: Table, split: str, config: DataConfig, findings: Findings) -> list[Row]:
    """The usable rows of one file."""
    if not _check_types(table, config, findings):
        return []
    rows = [_row(table, line, values, split, config) for line, values in table.records]
    for note in table.notes:
        findings.add("read_as", "noted", note, count=1)
    _note_nested(table, config, findings)
    _check_lengths(rows, table, findings)
    if config.task == "single_label":
        _check_continuous(rows, table, findings)
    rows = findings.drop(
        rows,
        lambda row: not row.text.strip() or (config.text_pair is not None and not (row.text_pair or "").strip()),
        kind="empty_text",
        message=f"of {table.file} have an empty text",
        remedy="check the column, or remove those rows",
        max_share=MAX_REPAIRED_SHARE,
    )
    return findings.drop(
        rows,
        lambda row: not row.label,
        kind="missing_label",
        message=f"of {table.file} have no label",
        remedy="label them, or remove those rows",
        max_share=MAX_REPAIRED_SHARE,
    )


def _check_types(table: Table, config: DataConfig, findings: Findings) -> bool:
    """Whether text columns hold plain values of encodable text, and the label column truths of the task."""
    good = _check_truths(table, config, findings)
    for column in config.columns:
        nested = (
            []
            if column == config.label or config.task == "entities"
            else [line for line, values in table.records if not _is_plain(values.get(column))]
        )
        broken = [line for line, values in table.records if _is_broken(values.get(column))]
        if nested:
            kind = type(next(values[column] for line, values in table.records if line == nested[0])).__name__
            message = (
                f"{table.file}: column {column!r} holds {kind} values in {len(nested):,} rows; expected plain text"
            )
            if kind == "list":
                message += ". Where they are words, with a tag each in another column, set data.task to entities"
            findings.add("not_plain", "error", message, _lines(table, nested), count=len(nested))
        if broken:
            message = (
                f"{table.file}: column {column!r} has half a surrogate pair (no valid Unicode) in {len(broken):,} rows"
            )
            findings.add("broken_unicode", "error", message, _lines(table, broken), count=len(broken))
        good = good and not nested and not broken
    return good


def _check_truths(table: Table, config: DataConfig, findings: Findings) -> bool:
    """Whether each value of the label column is missing or one of the task."""
    wrong = [line for line, values in table.records if _text_and_truth(values, config) is None]
    if wrong and config.task == "entities":
        values = next(values for line, values in table.records if line == wrong[0])
        message = (
            f"{table.file}: columns {config.text!r} and {config.label!r} hold {_told(values.get(config.text))} and "
            f"{_told(values.get(config.label))} in {len(wrong):,} rows such as the first below; data.task entities "
            f"expects a list of words without spaces, and {EXPECTED['entities']}"
        )
        findings.add("not_a_truth", "error", message, _lines(table, wrong), count=len(wrong))
    elif wrong:
        value = next(values[config.label] for line, values in table.records if line == wrong[0])
        message = (
            f"{table.file}: column {config.label!r} holds {type(value).__name__} values such as {str(value)[:40]!r} in "
            f"{len(wrong):,} rows; data.task {config.task} expects {EXPECTED[config.task]}"
        )
        if isinstance(value, list) and config.task == "single_label":
            message += ". Set data.task to multi_label, or keep one label a row"
        findings.add("not_a_truth", "error", message, _lines(table, wrong), count=len(wrong))
    return not wrong


def _text_and_truth(values: Mapping[str, Any], config: DataConfig) -> tuple[str, str] | None:
    """Text and truth of a row, "" for what is missing; None where they are none of the task."""
    if config.task == "entities":
        words, tags = values.get(config.text), values.get(config.label)
        return ("", "") if not words and not tags else read_tagged(words, tags)
    truth = read_truth(values.get(config.label), config.task)
    return None if truth is None else (text_of(values.get(config.text)), truth)


def _told(value: Any) -> str:
    """A value, for an error that may be about its length."""
    size = f"{len(value)} " if isinstance(value, list) else ""
    return f"{size}{type(value).__name__} values {str(value)[:60]!r}"


def _lines(table: Table, numbers: Iterable[int]) -> list[str]:
    return [f"{table.file}:{number}" for number in numbers]


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def _is_broken(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_is_broken, value))
    return isinstance(value, str) and not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value)


def _row(table: Table, line: int, values: Mapping[str, Any], split: str, config: DataConfig) -> Row:
    text, label = _text_and_truth(values, config) or ("", "")
    pair = None if config.text_pair is None else text_of(values.get(config.text_pair))
    further = {name: _simple(value) for name, value in values.items() if name not in config.columns}
    return Row(
        id=row_id(text, pair),
        text=text,
        text_pair=pair,
        label=label,
        names=class_names(label, config.task),
        split=split,
        file=table.file,
        line=line,
        further={name: value for name, value in further.items() if value is not None},
    )


def _simple(value: Any) -> Any:
    """A value that is kept beside the text, or None."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else str(value)
    return value.isoformat() if isinstance(value, datetime | date) else None


def _note_nested(table: Table, config: DataConfig, findings: Findings) -> None:
    nested = [
        name
        for name in table.columns
        if name not in config.columns
        and any(values.get(name) is not None and _simple(values[name]) is None for _, values in table.records)
    ]
    if nested:
        findings.add("nested_column", "noted", f"{table.file}: columns not kept, for they hold no plain values", nested)


def _check_lengths(rows: Sequence[Row], table: Table, findings: Findings) -> None:
    long = [row for row in rows if len(row.text) + len(row.text_pair or "") > MAX_TEXT_CHARS]
    if long:
        message = (
            f"{len(long):,} texts of {table.file} have more than {MAX_TEXT_CHARS:,} characters; cut or remove them"
        )
        findings.add("too_long", "error", message, [row.example for row in long])


def _check_continuous(rows: Sequence[Row], table: Table, findings: Findings) -> None:
    """Scores such as 2.4 are a regression, which a classifier would learn as thousands of classes."""
    fractions = [row for row in rows if re.fullmatch(r"[+-]?\d*\.\d*[1-9]\d*(e[+-]?\d+)?", row.label)]
    if len(fractions) > len(rows) / 2:
        message = f"{table.file}: the labels are fractions; expected class names. Set data.task to score to learn them"
        findings.add("continuous_label", "error", message, [row.example for row in fractions])


def _drop_repeated_within(split: str, rows: list[Row], findings: Findings) -> list[Row]:
    first: dict[tuple[str, str], Row] = {}
    for row in rows:
        first.setdefault((row.id, row.label), row)
    rows = findings.drop(
        rows,
        lambda row: first[row.id, row.label] is not row,
        kind="duplicate",
        message=f"of {split} repeat an earlier row (capitals and spaces ignored)",
        remedy="",
    )
    labels_of = Counter(row.id for row in rows)
    rows.sort(key=lambda row: (labels_of[row.id] > 1, row.id if labels_of[row.id] > 1 else ""))
    return findings.drop(
        rows,
        lambda row: labels_of[row.id] > 1,
        kind="conflicting_label",
        message=f"of {split} have the text of another row, but a different label",
        remedy="decide for one label each",
        max_share=MAX_REPAIRED_SHARE,
    )


def _drop_leakage(rows: Sequence[Row], findings: Findings) -> list[Row]:
    holder: dict[str, str] = {}
    for row in rows:
        best = holder.setdefault(row.id, row.split)
        holder[row.id] = min(best, row.split, key=PRIORITY.__getitem__)
    for split in ("train", "validation"):
        leaked = {row.id for row in rows if row.split == split and holder[row.id] != split}
        rows = findings.drop(
            rows,
            lambda row, split=split, leaked=leaked: row.split == split and row.id in leaked,  # type: ignore[misc]
            kind="leakage",
            message=f"repeat in {split} a text that is also in a later split, which keeps it",
            remedy="the splits are largely the same rows: give a test that training does not show",
            max_share=MAX_LEAKED_SHARE,
        )
    return list(rows)
