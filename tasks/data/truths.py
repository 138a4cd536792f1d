"""The truth of a row as one text, whatever the task: a class name, a JSON list of class names, or a number."""

import json
import math
from collections.abc import Sequence
from typing import Any

from bento.task_types import Task

EXPECTED: dict[Task, str] = {
    "single_label": "a class name",
    "multi_label": 'a list of class names, in CSV as JSON such as ["joy", "love"]',
    "score": "a finite number",
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


def text_of(value: Any) -> str:
    """A plain value as text; what is missing is empty."""
    if value is None or value != value:  # NaN is how some writers say "missing"
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def class_names(truth: str, task: Task) -> tuple[str, ...]:
    """The classes that a truth names: one, several or none, and never any in a score."""
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
