"""Slices: parts of the rows, by class, length or any column, each with a margin of its own.

All parts must pass, which needs no correction for their number: the chance that a candidate passes which is worse by
the margin in one of them is at most `alpha` (intersection-union test, Berger 1982, Technometrics 24:295).
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bento.errors import DataError
from tasks.data.rows import listed
from tasks.gate.config import SliceGate
from tasks.gate.verdicts import non_inferior, too_few, unjudged
from tasks.types import Predictions, Split, Verdict

MAX_PARTS = 1_000
BUILT_IN = {"class": "the truth of each row", "length": "the number of words of each row"}
"""What rows have parts by, whatever their columns."""
WORST_FIRST = ("fail", "inconclusive", "pass")


def slice_columns(
    rules: Sequence[SliceGate],
    split: Split,
    further: Mapping[str, Sequence[object]],
    names: Sequence[str] | None = None,
) -> dict[str, tuple[str, ...]]:
    """Each row's part by the `by` of each rule; `further` are the other columns of the data.

    Where a row has other than one class, `names` are the labels in the order of the outputs, or the types of entities:
    they are the parts by `class`.
    Raises: DataError for a column or a named value that the rows do not have, one with too many values, or one that is
    called as what the rows have parts by anyway.
    """
    shadowed = [rule.by for rule in rules if rule.by in BUILT_IN and rule.by in further]
    if shadowed:
        raise DataError(
            f"gate.slices: the data has a column {shadowed[0]!r}, and {shadowed[0]!r} is also "
            f"{BUILT_IN[shadowed[0]]}, so the slice could be either; give the column another name"
        )
    columns = {
        rule.by: tuple(names) if rule.by == "class" and names is not None else _parts(rule, split, further)
        for rule in rules
    }
    for rule in rules:
        present = sorted(set(columns[rule.by]))
        absent = [value for value in rule.only if value not in present]
        if absent:
            raise DataError(f"gate.slices: {rule.by} is never {listed(absent)}; it is {listed(present)}")
        if len(present) > MAX_PARTS:
            raise DataError(
                f"gate.slices: {rule.by} has {len(present):,} different values in {len(split):,} rows, so it makes no "
                f"parts; name a column with at most {MAX_PARTS:,}"
            )
    return columns


def _parts(rule: SliceGate, split: Split, further: Mapping[str, Sequence[object]]) -> tuple[str, ...]:
    if rule.by == "class":
        return split.labels
    if rule.by == "length":
        words_N = [len(" ".join([text] if isinstance(text, str) else text).split()) for text in split.texts]
        names = _length_names(rule.edges)
        return tuple(names[at] for at in np.searchsorted(rule.edges, words_N, side="right"))
    if rule.by not in further:
        known = [*BUILT_IN, *further]
        close = difflib.get_close_matches(rule.by, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {listed(known)}"
        raise DataError(f"gate.slices: the data has no column {rule.by!r}; {hint}")
    return tuple("(missing)" if value is None or not str(value).strip() else str(value) for value in further[rule.by])


def _length_names(edges: Sequence[int]) -> list[str]:
    """`1-5 words`, `6-11 words`, `12+ words`."""
    starts = [1, *edges]
    closed = [f"{start}-{end - 1} words" for start, end in zip(starts, edges, strict=False)]
    return [*closed, f"{edges[-1]}+ words"]


def read_columns(path: Path) -> dict[str, list[object]]:
    """All columns of a split's Parquet file."""
    import pyarrow.parquet as pq

    found: dict[str, list[object]] = pq.read_table(path).to_pydict()
    return found


def judge_slice_values(
    candidate: Predictions, reference: Predictions, parts_N: Sequence[str], reference_name: str, rule: SliceGate
) -> list[Verdict]:
    """One verdict a part, named `accuracy_vs_REFERENCE[BY=PART]`, in the order of the names."""
    gate = f"accuracy_vs_{reference_name}"
    found = unjudged(gate, -rule.margin, 1, candidate, reference)
    if found is not None:
        return [found]
    names_N = np.array(parts_N, dtype=object)
    return [
        _judge_part(f"{gate}[{rule.by}={part}]", candidate, reference, names_N == part, rule)
        for part in rule.only or sorted(set(parts_N))
    ]


def _judge_part(
    gate: str, candidate: Predictions, reference: Predictions, inside_N: np.ndarray, rule: SliceGate
) -> Verdict:
    n = int(inside_N.sum())
    if n < rule.min_rows:
        return too_few(gate, -rule.margin, n, rule.min_rows)
    right = (candidate.correct_N[inside_N], reference.correct_N[inside_N])
    return non_inferior(gate, *right, margin=rule.margin, alpha=rule.alpha)


def judge_slice(
    candidate: Predictions, reference: Predictions, parts_N: Sequence[str], reference_name: str, rule: SliceGate
) -> Verdict:
    """The parts of one rule as one verdict: that of the worst part, whose figures it tells."""
    parts = judge_slice_values(candidate, reference, parts_N, reference_name, rule)
    return worst_of(parts, f"accuracy_vs_{reference_name}_by_{rule.by}")


def worst_of(parts: Sequence[Verdict], gate: str) -> Verdict:
    """One verdict on all parts: that of the worst, whose figures it tells."""
    worst = min(parts, key=lambda one: (WORST_FIRST.index(one.outcome), np.nan_to_num(one.observed, nan=np.inf)))
    tally = {word: sum(one.outcome == word for one in parts) for word in WORST_FIRST[::-1]}
    needed = [one.needed_n for one in parts if one.outcome == "inconclusive" and one.needed_n is not None]
    name = worst.gate.partition("[")[2].removesuffix("]")
    counts = ", ".join(f"{number} {word}" for word, number in tally.items() if number)
    return replace(
        worst,
        gate=gate,
        n=worst.n,
        needed_n=max(needed, default=None) if worst.outcome == "inconclusive" else worst.needed_n,
        reason=f"{len(parts)} parts: {counts}; worst is {name}: {worst.reason}" if name else worst.reason,
    )
