"""Altered copies of the training text, which the teacher labels: word dropout, typos, splices, random words.

A student of few layers copies its teacher better when it sees the teacher's answers on many inputs, sensible or not
(Tang 2019, arXiv:1903.12136, section 4.3; TinyBERT, Jiao 2020, arXiv:1909.10351, section 3.3). Splices of two texts
show it where the teacher is undecided, random words (Krishna 2020, arXiv:1910.12366) what it says of text that has
nothing to do with the training's.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Alteration:
    """How much of a copy differs."""

    drop: float
    """Share of the words that are left out."""
    typos: float
    """Share of the words that get a wrong letter."""
    mix: float
    """Share of the copies that splice two texts."""
    random: float = 0.0
    """Largest share of the words that become random ones; each copy draws its own."""
    vocabulary: Sequence[str] = ()
    """Where random words are drawn from."""


def drop_words(words: list[str], share: float, rng: np.random.Generator) -> list[str]:
    """Leave out about `share` of the words; at least one stays."""
    kept = [word for word in words if rng.random() >= share]
    return kept or [words[int(rng.integers(len(words)))]]


def add_typos(words: list[str], share: float, rng: np.random.Generator) -> list[str]:
    """Swap, drop, double or replace one letter in about `share` of the words of three letters and more."""
    return [typo(word, rng) if len(word) > 2 and rng.random() < share else word for word in words]


def put_random(words: list[str], share: float, vocabulary: Sequence[str], rng: np.random.Generator) -> list[str]:
    """Replace about `share` of the words by random ones of `vocabulary`."""
    return [vocabulary[int(rng.integers(len(vocabulary)))] if rng.random() < share else word for word in words]


def splice(words: list[str], other: list[str], rng: np.random.Generator) -> list[str]:
    """The beginning of one text and the end of another."""
    return words[: int(rng.integers(1, len(words) + 1))] + other[int(rng.integers(0, len(other))) :]


def altered_copies(
    texts: Sequence[Any], versions: Iterable[Sequence[Any]], how: Alteration, *, rng: np.random.Generator
) -> list[Any]:
    """An altered copy of each text (or pair, each half altered on its own) of each version of `texts`.

    Without repeats, and without `texts` themselves.
    """
    seen = set(texts)
    found = []
    for version in versions:
        for text in version:
            other = version[int(rng.integers(len(version)))] if rng.random() < how.mix else None
            copy = _alter(text, other, how, rng)
            if copy not in seen:
                seen.add(copy)
                found.append(copy)
    return found


def _alter(text: Any, other: Any, how: Alteration, rng: np.random.Generator) -> Any:
    if not isinstance(text, str):
        halves = other or (None, None)
        return tuple(_alter(half, more, how, rng) for half, more in zip(text, halves, strict=True))
    words = text.split()
    if not words:
        return text
    if other is not None and other.split():
        words = splice(words, other.split(), rng)
    if how.random > 0:
        words = put_random(words, how.random * rng.random(), how.vocabulary, rng)
    return " ".join(add_typos(drop_words(words, how.drop, rng), how.typos, rng))


def typo(word: str, rng: np.random.Generator) -> str:
    """Swap, drop, double or replace one letter of a word of two letters or more."""
    at, kind = int(rng.integers(len(word) - 1)), int(rng.integers(4))
    if kind == 0:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind == 1:
        return word[:at] + word[at + 1 :]
    if kind == 2:
        return word[:at] + word[at] + word[at:]
    return word[:at] + chr(ord("a") + int(rng.integers(26))) + word[at + 1 :]
