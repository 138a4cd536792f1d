"""What a model says of a text, by task, and whether that is what a test expects.

| task | the answer must stay | a change must not move | a plain text must have |
|---|---|---|---|
| single_label | the class | the class's probability | the class |
| multi_label | the set of labels | the label's probability | just these labels, or this one among them |
| score | the score, within a tolerance | the score | a score within two ends |
| entities | the types, in their order | - | just these entities |

Entities are compared by their types in the order of the text, not by what they are called: a change may write a name
otherwise, or put another in its place, and what was a person still is one.

Shapes: N texts, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bento.predictor import Predictor
from bento.task_types import Floats
from tasks.behaviour.config import Directional, Minimum


@dataclass(frozen=True, kw_only=True)
class Said:
    """One model's answer to one text."""

    value: Any
    """A class, a set of them, a score, or the entities."""
    words: str
    """As a report shows it."""
    probabilities: dict[str, float]
    """Of each class; of a score, its share of the scale under its one name; nothing of entities."""


def read_answers(predictor: Predictor, texts: Sequence[Any], probabilities_NC: Floats) -> list[Said]:
    """The answers behind these probabilities."""
    task, labels = predictor.manifest.target.task, predictor.labels
    if task == "single_label":
        values = [labels[at] for at in probabilities_NC.argmax(axis=1)]
    else:
        (values, *_) = predictor.answers(texts, probabilities_NC).values()
    if task == "multi_label":
        values = [frozenset(names) for names in values]
    if task == "entities":
        return [
            Said(value=_entities(row), words=_told(text, _entities(row)), probabilities={})
            for text, row in zip(texts, values, strict=True)
        ]
    return [
        Said(value=value, words=_words(value), probabilities=dict(zip(labels, map(float, row_C), strict=True)))
        for value, row_C in zip(values, probabilities_NC, strict=True)
    ]


def fails(
    rule: Directional | Minimum | None, before: Said, after: Said, expected: Any, *, score_tolerance: float
) -> bool:
    """Whether the answer after the change is not what must hold; `score_tolerance` is in the score's own unit."""
    if isinstance(rule, Directional):
        moved = rule.watched(after.probabilities) - rule.watched(before.probabilities)
        return (-moved if rule.moves == "up" else moved) > rule.tolerance
    if isinstance(rule, Minimum):
        return not _meets(rule, after.value, expected)
    if isinstance(after.value, float):
        return bool(abs(after.value - before.value) > score_tolerance)
    return bool(_kinds(after.value) != _kinds(before.value))


def _meets(rule: Minimum, value: Any, expected: Any) -> bool:
    if rule.score is not None:
        low, high = rule.score
        return bool(low <= value <= high)
    if rule.entities is not None:
        return set(value) == set(expected)
    if rule.labels is not None:
        return bool(value == frozenset(rule.labels))
    return bool(rule.label in value if isinstance(value, frozenset) else value == rule.label)


def _kinds(value: Any) -> Any:
    """Of entities their types in order; else the answer as it is."""
    return [name for _, _, name in value] if isinstance(value, tuple) else value


def _entities(row: Sequence[dict[str, Any]]) -> tuple[tuple[int, int, str], ...]:
    return tuple((one["start"], one["end"], one["label"]) for one in row)


def _told(text: str, entities: Sequence[tuple[int, int, str]]) -> str:
    return ", ".join(f"{text[start:end]} ({name})" for start, end, name in entities) or "no entity"


def _words(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return value if isinstance(value, str) else ", ".join(sorted(value)) or "no label"
