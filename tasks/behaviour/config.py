"""Behavioural tests as a config gives them."""

import itertools
import re
from collections.abc import Iterator
from typing import Literal, Self

from pydantic import Field, model_validator

from bento.errors import UserError
from tasks.behaviour.perturb import PERTURBATIONS, Perturbation
from tasks.data.rows import listed
from tasks.types import Section

_SLOT = re.compile(r"\{(\w+)\}")


class Directional(Section):
    """A change of the text that must move a class's probability one way, or not the other."""

    name: str = Field(pattern=r"^[\w -]{1,60}$")
    replace: dict[str, str] = Field(default={})
    """Words and what stands in their place; only test rows that have one of them are cases."""
    append: str = ""
    """Text put behind."""
    label: str
    """The class whose probability is watched."""
    moves: Literal["up", "down"]
    """Where it should go."""
    tolerance: float = Field(default=0.1, ge=0, lt=1)
    """How far it may go the other way."""

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        """Raises: ValueError."""
        if not self.replace and not self.append:
            raise ValueError(f"behaviour.directional: {self.name!r} changes nothing; give replace or append")
        return self

    def alter(self, text: str) -> str:
        """The changed text; the same one where it has none of the words."""
        if self.replace:
            words = "|".join(re.escape(word) for word in self.replace)
            altered = re.sub(rf"(?<!\w)({words})(?!\w)", lambda found: self.replace[found.group()], text)
            if altered == text:
                return text
            text = altered
        return f"{text} {self.append}".rstrip()


class Minimum(Section):
    """Texts so plain that the answer must be right: a minimum functionality test."""

    name: str = Field(pattern=r"^[\w -]{1,60}$")
    texts: list[str] = Field(min_length=1)
    """Texts, in which {slots} are filled with every combination of the words."""
    words: dict[str, list[str]] = Field(default={})
    """Slot -> what may stand there."""
    label: str
    """The right answer."""

    @model_validator(mode="after")
    def _slots_have_words(self) -> Self:
        """Raises: ValueError naming the slot."""
        missing = {slot for text in self.texts for slot in _SLOT.findall(text)} - {
            slot for slot, words in self.words.items() if words
        }
        if missing:
            raise ValueError(
                f"behaviour.minimum_functionality: {self.name!r} expects words for {', '.join(sorted(missing))}"
            )
        return self

    def cases(self) -> Iterator[str]:
        """Every text with every filling of its slots."""
        for text in self.texts:
            slots = sorted(set(_SLOT.findall(text)))
            for filling in itertools.product(*(self.words[slot] for slot in slots)):
                chosen = dict(zip(slots, filling, strict=True))
                yield _SLOT.sub(lambda found, chosen=chosen: chosen[found.group(1)], text)  # type: ignore[misc]


class BehaviourConfig(Section):
    """What teacher and candidate are tried on beside the test split (CheckList, Ribeiro 2020)."""

    invariance: list[Perturbation] = Field(default=list(PERTURBATIONS))
    """Changes that must not change the answer."""
    max_rows: int = Field(default=200, ge=1)
    """Test rows that each invariance and directional test changes."""
    directional: list[Directional] = Field(default=[])
    """Changes whose effect on a class is known."""
    minimum_functionality: list[Minimum] = Field(default=[])
    """Texts whose right answer is beyond doubt."""

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        """Raises: ValueError naming what is given twice."""
        names = [*self.invariance, *(test.name for test in self.planned)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"behaviour: expected every test to have a name of its own, got twice: {', '.join(twice)}")
        return self

    @property
    def planned(self) -> list[Directional | Minimum]:
        """The tests that name a class."""
        return [*self.directional, *self.minimum_functionality]

    def check_classes(self, labels: tuple[str, ...]) -> None:
        """Raises: UserError naming a test whose class the data does not have."""
        for test in self.planned:
            if test.label not in labels:
                raise UserError(
                    f"behaviour: {test.name!r} expects the class {test.label!r}, which the data does not have; "
                    f"it has {listed(labels)}"
                )


class BehaviourGate(Section):
    """Largest share of the cases of each behavioural test of a kind that the candidate may fail; null is not asked."""

    invariance: float | None = Field(default=None, ge=0, lt=1)
    """Answers that may change with a text whose meaning stays."""
    directional: float | None = Field(default=None, ge=0, lt=1)
    """Probabilities that may move the wrong way."""
    minimum_functionality: float | None = Field(default=None, ge=0, lt=1)
    """Plain texts that may be answered wrongly."""
