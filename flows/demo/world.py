"""The world that the demo's service stands in: people who write messages, and one who knows what is right."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tasks.data.synthetic import generate, intents
from tasks.data.words import CLOSERS

MIX_CLASSES = 4
"""Classes that most messages belong to when only the mix moves."""
HELD_OUT = {"validation": 1 / 6, "test": 5 / 6}
"""The shares of the splits that a look compares with: each has phrasings of its own."""
RARER = 0.8
"""Of the messages of all other classes are not written then."""


@dataclass(frozen=True)
class Message:
    """What somebody writes, and the label that is right at that time."""

    text: str
    label: str


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch of time in which the messages come from one distribution."""

    name: str
    period: int = 0
    mixed: bool = False
    """Some classes are far more frequent than they were; each class looks as before."""
    signed: bool = False
    """Everybody signs, as in training only some do: the texts are others, and mean what they meant."""


QUIET = Phase(name="as in training")
SIGNED = Phase(name="everybody signs", signed=True)
MIXED = Phase(name="another mix", mixed=True)
MOVED = Phase(name="new products, moved topics", period=1)


class People:
    """Endless different messages of a phase."""

    def __init__(self, seed: int = 0) -> None:
        """The same messages come for the same seed."""
        self.rng = np.random.default_rng([seed, 77])
        self._written: set[str] = set()

    def write(self, phase: Phase, number: int) -> list[Message]:
        """The next ones, none of which was written before."""
        found: list[Message] = []
        while len(found) < number:
            found += list(self._new(phase, 2 * number))
        return found[:number]

    def _new(self, phase: Phase, number: int) -> Iterator[Message]:
        frequent = intents(phase.period)[:MIX_CLASSES]
        for text, label in self._as_held_out(phase.period, number):
            if text in self._written:
                continue
            if phase.mixed and label not in frequent and self.rng.random() < RARER:
                continue
            self._written.add(text)
            yield Message(self._signed(text) if phase.signed else text, label)

    def _as_held_out(self, period: int, number: int) -> list[tuple[str, str]]:
        """In the phrasings of the held-out rows, as many of each as there."""
        rows = [
            row
            for split, share in HELD_OUT.items()
            for row in generate(round(share * number), split=split, period=period, rng=self.rng)
        ]
        return [rows[at] for at in self.rng.permutation(len(rows))]

    def _signed(self, text: str) -> str:
        closers = CLOSERS["test"]
        return text if " - " in text else f"{text} - {closers[int(self.rng.integers(len(closers)))]}"
