"""Changes of a text that leave its meaning, so that the answer should stay (CheckList's invariance tests).

Each takes a text and a generator and gives the changed text, or the same one where there is nothing to change.
Source: Ribeiro 2020 (arXiv:2005.04118), section 2 and its `checklist.perturb`.
"""

import re
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from tasks.augment import typo

Perturbation = Literal["typos", "case", "punctuation", "names", "numbers", "whitespace"]

NAMES = (
    "Aisha", "Ana", "Anna", "Carlos", "Chen", "David", "Elena", "Emma", "Fatima", "Hans", "Ivan", "James", "John",
    "Julia", "Kenji", "Laura", "Lucas", "Maria", "Mary", "Michael", "Mohammed", "Nina", "Olga", "Omar", "Paul", "Peter",
    "Pierre", "Priya", "Robert", "Sarah", "Sofia", "Susan", "Thomas", "Tom", "Wei", "Yuki",
)  # fmt: skip
"""First names that are no other word, written with a capital letter."""
MIN_LETTERS = 4
BETWEEN = "\x1f"
"""Stands between the halves of a pair; no text has it."""
_NAME = re.compile(rf"\b({'|'.join(NAMES)})\b")
_NUMBER = re.compile(r"\d+")
_WORD = re.compile(rf"[^\W\d_]{{{MIN_LETTERS},}}")


def typos(text: str, rng: np.random.Generator) -> str:
    """One typing error in one word of four letters or more."""
    words = list(_WORD.finditer(text))
    if not words:
        return text
    chosen = words[int(rng.integers(len(words)))]
    return text[: chosen.start()] + typo(chosen.group(), rng) + text[chosen.end() :]


def case(text: str, rng: np.random.Generator) -> str:
    """All in capitals, or all in small letters where it was in capitals."""
    return text.lower() if text == text.upper() else text.upper()


def punctuation(text: str, rng: np.random.Generator) -> str:
    """The signs at the end gone, or a full stop where there was none."""
    bare = text.rstrip().rstrip(".!?,;:")
    return bare if bare != text.rstrip() else f"{bare}."


def names(text: str, rng: np.random.Generator) -> str:
    """Every first name replaced by another, the same one each time."""
    others = {name: NAMES[int(rng.integers(len(NAMES)))] for name in sorted(set(_NAME.findall(text)))}
    return _NAME.sub(lambda found: others[found.group()], text)


def numbers(text: str, rng: np.random.Generator) -> str:
    """Every number replaced by another of as many digits."""
    return _NUMBER.sub(lambda found: _digits(len(found.group()), rng), text)


def whitespace(text: str, rng: np.random.Generator) -> str:
    """Spaces before and after, and twice as many between the words."""
    return f"  {text.replace(' ', '  ')} "


def _digits(length: int, rng: np.random.Generator) -> str:
    first, rest = str(rng.integers(1, 10)), rng.integers(0, 10, size=length - 1)
    return first + "".join(map(str, rest))


PERTURBATIONS: dict[Perturbation, Callable[[str, np.random.Generator], str]] = {
    "typos": typos,
    "case": case,
    "punctuation": punctuation,
    "names": names,
    "numbers": numbers,
    "whitespace": whitespace,
}


def perturb(text: Any, how: Perturbation, rng: np.random.Generator) -> Any:
    """The changed text; of a pair each half is changed.

    What both halves name stays the same in both: another name, or number, in each would change how they compare.
    """
    change = PERTURBATIONS[how]
    if isinstance(text, str):
        return change(text, rng)
    if how == "names":
        return tuple(names(BETWEEN.join(text), rng).split(BETWEEN))
    if how == "numbers":
        others = {one: _digits(len(one), rng) for one in sorted(set(_NUMBER.findall(BETWEEN.join(text))))}
        return tuple(_NUMBER.sub(lambda found: others[found.group()], half) for half in text)
    return tuple(change(half, rng) for half in text)
