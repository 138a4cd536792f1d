"""Behavioural tests as a config gives them."""

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from bento.entities import Entity
from bento.errors import UserError
from bento.task_types import Task
from tasks.behaviour.perturb import PERTURBATIONS, Perturbation
from tasks.data.rows import listed
from tasks.types import Section

_SLOT = re.compile(r"\{(\w+)\}")
EXPECTS: dict[str, tuple[Task, ...]] = {
    "label": ("single_label", "multi_label"), "labels": ("multi_label",), "score": ("score",),
    "entities": ("entities",),
}  # fmt: skip
"""How a minimum functionality test says what is right -> the tasks that have such answers."""


class Directional(Section):
    """A change of the text that must move a class's probability, or the score, one way, or not the other."""

    name: str = Field(pattern=r"^[\w -]{1,60}$")
    replace: dict[str, str] = Field(default={})
    """Words and what stands in their place; only test rows that have one of them are cases."""
    append: str = ""
    """Text put behind."""
    label: str | None = None
    """The class whose probability is watched; none where there is a score."""
    moves: Literal["up", "down"]
    """Where it should go."""
    tolerance: float = Field(default=0.1, ge=0, lt=1)
    """How far it may go the other way: in probability, or as a share of the scores' scale."""

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

    def watched(self, probabilities: dict[str, float]) -> float:
        """That of the class, or the one that a score has."""
        return probabilities[self.label] if self.label is not None else next(iter(probabilities.values()))


class Minimum(Section):
    """Texts so plain that the answer must be right: a minimum functionality test."""

    name: str = Field(pattern=r"^[\w -]{1,60}$")
    texts: list[str | Annotated[list[str], Field(min_length=2, max_length=2)]] = Field(min_length=1)
    """Texts, or pairs of them, in which {slots} are filled with every combination of the words."""
    words: dict[str, list[str]] = Field(default={})
    """Slot -> what may stand there."""
    label: str | None = None
    """The right class; of label sets, one that must be among the answers."""
    labels: list[str] | None = None
    """Of label sets: just the labels that are right, none where it is empty."""
    score: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    """Of scores: the lowest and the highest right one."""
    entities: dict[str, str] | None = None
    """Of entities: a slot, or a part of the text, -> its type; these and no others are right."""

    @model_validator(mode="after")
    def _slots_have_words(self) -> Self:
        """Raises: ValueError naming the slot."""
        missing = {slot for text in self.texts for slot in _SLOT.findall(_joined(text))} - {
            slot for slot, words in self.words.items() if words
        }
        if missing:
            raise ValueError(
                f"behaviour.minimum_functionality: {self.name!r} expects words for {', '.join(sorted(missing))}"
            )
        return self

    def cases(self) -> Iterator[Any]:
        """Every text with every filling of its slots; of pairs both halves, filled alike."""
        return (text for text, _ in self.filled())

    def filled(self) -> Iterator[tuple[Any, tuple[Entity, ...]]]:
        """Every case with the entities that are right."""
        for text in self.texts:
            slots = sorted(set(_SLOT.findall(_joined(text))))
            for filling in itertools.product(*(self.words[slot] for slot in slots)):
                chosen = dict(zip(slots, filling, strict=True))
                halves = [_fill(half, chosen) for half in ([text] if isinstance(text, str) else text)]
                yield (halves[0] if isinstance(text, str) else tuple(halves)), self._entities(halves[0], chosen)

    def _entities(self, text: str, chosen: dict[str, str]) -> tuple[Entity, ...]:
        named = {chosen.get(key, key): kind for key, kind in (self.entities or {}).items()}
        return tuple(
            (found.start(), found.end(), kind)
            for name, kind in named.items()
            for found in re.finditer(rf"(?<!\w){re.escape(name)}(?!\w)", text)
        )

    @property
    def expected(self) -> str:
        """The right answer in words."""
        if self.score is not None:
            return f"a score from {self.score[0]:g} to {self.score[1]:g}"
        if self.entities is not None:
            return ", ".join(f"{key} ({kind})" for key, kind in self.entities.items()) or "no entity"
        return (", ".join(sorted(self.labels)) or "no label") if self.labels is not None else str(self.label)

    @property
    def names(self) -> tuple[str, ...]:
        """The classes, or types, that the answer names."""
        one = () if self.label is None else (self.label,)
        return (*one, *(self.labels or ()), *(self.entities or {}).values())


def _fill(text: str, chosen: dict[str, str]) -> str:
    return _SLOT.sub(lambda found: chosen[found.group(1)], text)


def _joined(text: str | list[str]) -> str:
    return text if isinstance(text, str) else " ".join(text)


class BehaviourConfig(Section):
    """What teacher and candidate are tried on beside the test split (CheckList, Ribeiro 2020)."""

    invariance: list[Perturbation] = Field(default=list(PERTURBATIONS))
    """Changes that must not change the answer."""
    max_rows: int = Field(default=200, ge=1)
    """Test rows that each invariance and directional test changes."""
    score_tolerance: float = Field(default=0.1, ge=0, lt=1)
    """Of scores: how far, as a share of their scale, an answer may move with a text whose meaning stays."""
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
        """The tests that say what is right."""
        return [*self.directional, *self.minimum_functionality]

    def check_task(self, task: Task, *, pairs: bool) -> None:
        """Raises: UserError naming a test that expects what models of the task do not answer, or other texts."""
        if task == "entities" and self.directional:
            raise UserError(
                f"behaviour.directional: {self.directional[0].name!r} watches one probability of a text, but data.task "
                "is entities; say in behaviour.minimum_functionality which entities must be found"
            )
        for test in self.directional:
            if (test.label is None) is not (task == "score"):
                need = "no label, since the score is what moves" if task == "score" else "the label to watch"
                raise UserError(f"behaviour.directional: {test.name!r} with data.task {task} expects {need}")
        for plain in self.minimum_functionality:
            given = [name for name in EXPECTS if getattr(plain, name) is not None]
            if len(given) != 1 or task not in EXPECTS[given[0]]:
                fitting = " or ".join(name for name, tasks in EXPECTS.items() if task in tasks)
                raise UserError(
                    f"behaviour.minimum_functionality: {plain.name!r} with data.task {task} expects {fitting}, got "
                    f"{' and '.join(given) or 'none of them'}"
                )
            if any(isinstance(text, str) is pairs for text in plain.texts):
                form = "[first text, second text] each" if pairs else "single texts, as the data has"
                raise UserError(f"behaviour.minimum_functionality: {plain.name!r} expects {form} in texts")

    def check_limits(self, limits: "BehaviourGate | None") -> None:
        """Raises: ValueError for a limit on tests that are not there."""
        for kind in limits.model_dump(exclude_none=True) if limits else {}:
            if not getattr(self, kind):
                raise ValueError(f"gate.behaviour.{kind}: expected tests in behaviour.{kind}, got none; add some")

    def check_classes(self, labels: Sequence[str], whose: str = "data") -> None:
        """Raises: UserError naming a test whose class, or type of entities, the data, or model, does not have."""
        expected = [(test.name, test.label) for test in self.directional if test.label is not None]
        expected += [(test.name, name) for test in self.minimum_functionality for name in test.names]
        for test_name, label in expected:
            if label not in labels:
                raise UserError(
                    f"behaviour: {test_name!r} expects the class {label!r}, which the {whose} does not have; "
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
