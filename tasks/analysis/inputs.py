"""Inputs that a model reads only in part: unknown tokens, words that training never showed, texts cut at the limit.

Shapes: N rows.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento.predictor import Predictor
from tasks.stats.proportion import wilson
from tasks.tables import Rows, shown
from tasks.vocabulary import unknown_id

READING_COLUMNS = ("unknown_token", "new_words", "cut")
_WORD = re.compile(r"\w+")

Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What of each text is read, and how."""

    num_tokens_N: NDArray[np.int64]
    """After the cut."""
    unknown_N: Bools
    """Whether the tokenizer has no piece for something in it."""
    cut_N: Bools
    """Whether it is longer than the model reads."""
    new_words: list[list[str]]
    """Words of the text that no training text has."""


def read_inputs(predictor: Predictor, texts: Sequence[Any], training: Iterable[Any]) -> Reading:
    """How `predictor` reads the texts."""
    encodings = predictor.tokenizer.encode_batch(list(texts))
    unknown = unknown_id(predictor.tokenizer)
    known = {word for text in training for word in words_of(text)}
    return Reading(
        num_tokens_N=np.array([len(encoding.ids) for encoding in encodings], dtype=np.int64),
        unknown_N=np.array([unknown in encoding.ids for encoding in encodings], dtype=np.bool_),
        cut_N=np.array([bool(encoding.overflowing) for encoding in encodings], dtype=np.bool_),
        new_words=[[word for word in words_of(text) if word not in known] for text in texts],
    )


def words_of(text: Any) -> list[str]:
    """The different words of a text in small letters, in their order."""
    return list(dict.fromkeys(_WORD.findall(shown(text).casefold())))


def reading_cells(reading: Reading, at: int) -> dict[str, Any]:
    """How one text was read."""
    cells = (bool(reading.unknown_N[at]), " ".join(reading.new_words[at]), bool(reading.cut_N[at]))
    return dict(zip(READING_COLUMNS, cells, strict=True))


def by_reading(reading: Reading, candidate_N: Bools, teacher_N: Bools, measure: str = "accuracy") -> Rows:
    """Share of right answers of both models in each group of inputs, beside the rows that are in none of them."""
    new_N = np.array([bool(words) for words in reading.new_words], dtype=np.bool_)
    groups = {
        "has an unknown token": reading.unknown_N,
        "has a word that training never shows": new_N,
        "cut at the length limit": reading.cut_N,
        "none of these": ~(reading.unknown_N | new_N | reading.cut_N),
    }
    return [{"group": name} | rates(candidate_N[members_N], teacher_N[members_N], measure)
            for name, members_N in groups.items()]  # fmt: skip


def rate_columns(measure: str) -> tuple[str, ...]:
    """What `rates` gives."""
    return ("rows", *(f"{model}_{what}" for model in ("candidate", "teacher") for what in (measure, "low", "high")))


def rates(candidate_N: Bools, teacher_N: Bools, measure: str) -> dict[str, Any]:
    """Rows and how often both are right, which goes by the name of `measure`, with 95 % intervals; None where there are
    no rows."""
    row: dict[str, Any] = {"rows": len(candidate_N)}
    for name, correct_N in (("candidate", candidate_N), ("teacher", teacher_N)):
        found = wilson(int(correct_N.sum()), len(correct_N)) if len(correct_N) else None
        row[f"{name}_{measure}"] = found.value if found else None
        row[f"{name}_low"], row[f"{name}_high"] = (found.low, found.high) if found else (None, None)
    return row
