"""Which split a row belongs to: decided by its id, so that it never moves when rows are added.

A random stratified split is redrawn whenever a row is added, and then yesterday's training rows are in today's test.
Here a row's id, a hash, is read as a number u in [0, 1): below `test` it is tested, above 1 - `validation` it
validates, else it trains. Every label is hit at about the same rate, so the split is approximately stratified. For
rare labels that is not enough, and only there is the rule bent: a label with fewer than 5 rows trains with all of
them, and a label without a validation (or training) row gets the one nearest to it. Such a row can move between
training and validation, or from training into the test when its label's fifth row arrives; no row ever leaves the test.
Rows that a retrain adds are decided after the source's own, so they move nothing at all.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from tasks.data.rows import Findings, Row, listed
from tasks.data.source import DataConfig

MIN_LABEL_ROWS = 5


def unit_hash(row_id: str) -> float:
    """The row id as a number in [0, 1)."""
    return int(row_id[:12], 16) / 16**12


def assign_splits(rows: Sequence[Row], config: DataConfig, findings: Findings) -> list[Row]:
    """Make the validation and test splits that the source lacks, out of its training rows."""
    given = {row.split for row in rows}
    test = 0.0 if "test" in given else config.test
    validation = 0.0 if "validation" in given else config.validation
    by_label: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.split == "train":
            by_label[row.stratum].append(row)
    chosen: dict[str, str] = {}
    for members in by_label.values():
        chosen |= _split_label(members, test=test, validation=validation)
    _note_rare(by_label, findings, test + validation > 0)
    return [replace(row, split=chosen[row.id]) if row.split == "train" else row for row in rows]


def _split_label(members: Sequence[Row], *, test: float, validation: float) -> dict[str, str]:
    """Row id -> split, for all training rows of one label."""
    if len(members) < MIN_LABEL_ROWS:
        return {row.id: "train" for row in members}
    ids = sorted((row.id for row in members), key=unit_hash)
    chosen = {row_id: split_of(unit_hash(row_id), test=test, validation=validation) for row_id in ids}
    if validation > 0 and "validation" not in chosen.values():
        chosen[ids[-1]] = "validation"
    if "train" not in chosen.values():
        chosen[max(ids[:-1], key=lambda row_id: (chosen[row_id] != "test", unit_hash(row_id)))] = "train"
    return chosen


def split_of(unit: float, *, test: float, validation: float) -> str:
    """The split of one unit hash. Both ends are fixed apart, so that neither share changes the other's rows."""
    if unit < test:
        return "test"
    return "validation" if unit >= 1 - validation else "train"


def _note_rare(by_label: dict[str, list[Row]], findings: Findings, made: bool) -> None:
    rare = {label: len(members) for label, members in by_label.items() if len(members) < MIN_LABEL_ROWS}
    if rare and made:
        names = listed(f"{label} ({number})" for label, number in sorted(rare.items()))
        message = f"labels with fewer than {MIN_LABEL_ROWS} training rows, which all stay in training: {names}"
        findings.add("rare_label", "noted", message, count=len(rare))


def cap_rows(rows: Sequence[Row], max_rows: int | None) -> list[Row]:
    """At most `max_rows` rows a split: of each label its share, at least one while there is room, by id hash."""
    if max_rows is None:
        return list(rows)
    kept: list[Row] = []
    for split in dict.fromkeys(row.split for row in rows):
        members = sorted((row for row in rows if row.split == split), key=lambda row: row.id[12:])
        num_rows = Counter(row.stratum for row in members)
        seen: Counter[str] = Counter()
        ranked = []
        for row in members:
            at = row.stratum
            ranked.append((seen[at] > 0, (seen[at] + 0.5) / num_rows[at], row.id, row))
            seen[at] += 1
        kept += [row for *_, row in sorted(ranked, key=lambda entry: entry[:3])[:max_rows]]
    return kept
