"""The truth of a row as one text, whatever the task: a class name, a JSON list of class names, a number, or a JSON list
of entities, each `[start, end, type]` in characters.
"""

import itertools
import json
import math
import re
from collections.abc import Sequence
from typing import Any

from bento.entities import Entity, group_tags
from bento.task_types import Task

EXPECTED: dict[Task, str] = {
    "single_label": "a class name",
    "multi_label": 'a list of class names, in CSV as JSON such as ["joy", "love"]',
    "score": "a finite number",
    "entities": "a list of tags O, B-type or I-type, as many as the text column has words, in CSV both as JSON",
}


def read_truth(value: Any, task: Task) -> str | None:
    """The truth in `value`, written the same whatever the order of a list; "" where it is missing, None where it is
    none of this task."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return ""
    if task == "single_label":
        return text_of(value).strip() if isinstance(value, str | int | float) else None
    if task == "score":
        return _read_score(value)
    names = _read_list(value)
    return None if names is None else json.dumps(sorted(set(names)), ensure_ascii=False)


def read_tagged(words: Any, tags: Any) -> tuple[str, str] | None:
    """The text of these words, one space between them, and its truth; None where they are no words and tags."""
    names, marks = _read_list(words), _read_list(tags)
    if names is None or marks is None or len(names) != len(marks):
        return None
    if any(len(name.split()) != 1 for name in names) or not all(re.fullmatch("O|[BI]-.+", mark) for mark in marks):
        return None
    starts = list(itertools.accumulate((len(name) + 1 for name in names), initial=0))
    entities = [
        (starts[first], starts[last] + len(names[last]), found.type)
        for found in group_tags(marks)
        for first, last in [(found.words[0], found.words[-1])]
    ]
    return " ".join(names), write_entities(entities)


def write_entities(entities: Sequence[Entity]) -> str:
    """Entities as a truth."""
    return json.dumps([list(entity) for entity in entities], ensure_ascii=False)


def read_entities(truth: str) -> list[Entity]:
    """The entities of a truth."""
    return [(start, end, name) for start, end, name in json.loads(truth)]


def text_of(value: Any) -> str:
    """A plain value as text; what is missing is empty."""
    if value is None or value != value:  # NaN is how some writers say "missing"
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def class_names(truth: str, task: Task) -> tuple[str, ...]:
    """The classes that a truth names: one, several or none, and never any in a score; of entities their types."""
    if task == "entities":
        return tuple(name for _, _, name in read_entities(truth)) if truth else ()
    if task == "multi_label":
        return tuple(json.loads(truth)) if truth else ()
    return (truth,) if task == "single_label" and truth else ()


def _read_score(value: Any) -> str | None:
    try:
        score = float(value)
    except (TypeError, ValueError):
        return None
    return repr(score) if math.isfinite(score) and not isinstance(value, bool) else None


def _read_list(value: Any) -> Sequence[str] | None:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    if not isinstance(value, list) or any(not isinstance(name, str | int) or isinstance(name, bool) for name in value):
        return None
    names = [str(name).strip() for name in value]
    return names if all(names) else None
