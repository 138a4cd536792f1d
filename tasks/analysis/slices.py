"""Slices on which a model errs more than elsewhere, found by search on one half of the rows and judged on the other.

A slice is one or two conditions: a word, a length, and what the truth names: a class, the labels or types of entities
that a row has, a range of scores. Rows may have several labels, so two of them can make a slice; conditions that never
meet, such as two lengths, make none. The score is SliceLine's (Sagadeeva and Boehm 2021,
SIGMOD, equation 1): high for a high error rate and for many rows. Two conditions at most keep the search exact, since
one matrix product counts all pairs, and a slice that people can act on.

Shapes: N rows, F conditions, S slices.
"""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom

from tasks.stats.budget import holm
from tasks.tables import Rows, shown

COLUMNS = (
    "slice", "rows", "errors", "error_rate", "error_rate_elsewhere", "score", "p_value", "p_holm", "confirmed",
)  # fmt: skip
ALPHA = 0.95
"""Weight of the error rate against the size in the score; SliceLine's default. It is more where most answers are wrong,
as sets of labels often are: the rate of a slice is then at most a little above the whole, and no size would do."""
MIN_SHARE = 0.01
MIN_ROWS = 8
MOST_WORDS = 400
LEVEL = 0.05
_WORD = re.compile(r"\w+")

Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Which rows meet which conditions."""

    names: tuple[str, ...]
    met_NF: Bools


def describe(texts: Sequence[Any], truths: Sequence[Collection[str]]) -> Conditions:
    """The conditions of rows: frequent words, quarters of the length in words, and all that the truth of a row names,
    such as `class refund`."""
    words = [set(_WORD.findall(shown(text).casefold())) for text in texts]
    counts = Counter(word for found in words for word in found)
    lengths_N = np.array([len(_WORD.findall(shown(text))) for text in texts])
    edges = quarters(lengths_N).astype(int)
    bins_N = np.searchsorted(edges, lengths_N)
    columns: list[tuple[str, Any]] = [
        (f"word {word!r}", np.array([word in found for found in words]))
        for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MOST_WORDS]
    ]
    columns += [(_length_name(edges, at), bins_N == at) for at in range(len(edges) + 1)]
    columns += [(name, np.array([name in truth for truth in truths])) for name in sorted(set().union(*truths))]
    return Conditions(names=tuple(name for name, _ in columns), met_NF=np.stack([met for _, met in columns], axis=1))


def quarters(values_N: Any) -> Any:
    """The different ones of the three values at or below which a quarter, half and three quarters of the rows are."""
    return np.unique(np.quantile(values_N, (0.25, 0.5, 0.75), method="inverted_cdf")) if len(values_N) else np.zeros(0)


def _length_name(edges: Any, at: int) -> str:
    low = 0 if at == 0 else int(edges[at - 1]) + 1
    return f"{low} words and more" if at == len(edges) else f"{low} to {int(edges[at])} words"


def find_slices(conditions: Conditions, wrong_N: Bools, rng: np.random.Generator, *, most: int) -> Rows:
    """Slices found on a random half of the rows; all counts and p-values are of the other half, corrected by Holm."""
    order = rng.permutation(len(wrong_N))
    found_on, judged_on = order[: len(order) // 2], order[len(order) // 2 :]
    found = search(conditions.met_NF[found_on], wrong_N[found_on], most=most)
    rows = []
    for score, members in found:
        met_N = conditions.met_NF[judged_on][:, list(members)].all(axis=1)
        rows.append(_judge([conditions.names[at] for at in members], score, np.asarray(met_N), wrong_N[judged_on]))
    adjusted = holm({str(row["slice"]): row["p_value"] for row in rows})
    for row in rows:
        row |= {"p_holm": adjusted[row["slice"]], "confirmed": adjusted[row["slice"]] <= LEVEL}
    return sorted(rows, key=lambda row: (row["p_holm"], -row["score"], row["slice"]))


def search(met_NF: Bools, wrong_N: Bools, *, most: int) -> list[tuple[float, tuple[int, ...]]]:
    """The best slices as (score, conditions), best first; of several with the same rows only the simplest stays.

    A pair has to score higher than each of its conditions alone.
    """
    num_rows, num_wrong = len(wrong_N), int(wrong_N.sum())
    min_rows = max(MIN_ROWS, int(np.ceil(MIN_SHARE * num_rows)))
    if num_rows < 2 * min_rows or num_wrong == 0:
        return []
    columns = np.flatnonzero(met_NF.sum(axis=0) >= min_rows)
    met_NF = met_NF[:, columns].astype(np.float64)
    rows_FF, errors_FF = met_NF.T @ met_NF, met_NF.T @ (met_NF * wrong_N[:, None])
    score_FF = np.full(rows_FF.shape, -np.inf)
    large_FF = (rows_FF >= min_rows) & (rows_FF < num_rows)
    rate_FF = np.divide(errors_FF, rows_FF, out=np.zeros_like(rows_FF), where=rows_FF > 0)
    base = num_wrong / num_rows
    alpha = _weight(base, num_rows / min_rows)
    score_FF[large_FF] = (alpha * (rate_FF / base - 1))[large_FF] - (1 - alpha) * (num_rows / rows_FF[large_FF] - 1)
    alone_F = np.diag(score_FF)
    better_FF = score_FF > np.maximum(alone_F[:, None], alone_F[None, :])
    np.fill_diagonal(better_FF, True)
    first, second = np.nonzero(np.triu(better_FF & (score_FF > 0)))
    best = sorted(zip(-score_FF[first, second], first != second, first, second, strict=True))
    slices: list[tuple[float, tuple[int, ...]]] = []
    seen: set[bytes] = set()
    for negative, _, one, other in best:
        rows = (met_NF[:, one] * met_NF[:, other]).tobytes()
        if rows in seen:
            continue
        seen.add(rows)
        slices.append((float(-negative), tuple(sorted({int(columns[one]), int(columns[other])}))))
        if len(slices) == most:
            break
    return slices


def _weight(base: float, most_times: float) -> float:
    """The weight with which a slice that is all wrong can score, but for the smallest, of which all rows are
    `most_times` as many."""
    return max(ALPHA, (most_times - 1) / (most_times - 1 + 1 / base - 1))


def _judge(names: Sequence[str], score: float, met_N: Bools, wrong_N: Bools) -> dict[str, Any]:
    """Fisher's exact test, one-sided, of "the slice errs no more than the other rows"."""
    num_rows, num_wrong = int(met_N.sum()), int((met_N & wrong_N).sum())
    elsewhere = int(wrong_N.sum()) - num_wrong
    p_value = float(hypergeom.sf(num_wrong - 1, len(wrong_N), int(wrong_N.sum()), num_rows))
    return {
        "slice": " and ".join(names),
        "rows": num_rows,
        "errors": num_wrong,
        "error_rate": num_wrong / max(num_rows, 1),
        "error_rate_elsewhere": elsewhere / max(len(wrong_N) - num_rows, 1),
        "score": score,
        "p_value": min(p_value, 1.0),
    }
