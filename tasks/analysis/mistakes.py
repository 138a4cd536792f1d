"""Which mistakes a model of label sets or entities makes, label by label: what confusions are to one class a text.

A true entity is right, of the wrong type where an answer has its very span, of the wrong boundary where an answer of
its type overlaps it, or missed; an answer that is none of these is invented. An answer accounts for one true entity at
most. These are the errors of MUC-5 (Chinchor and Sundheim 1993, "MUC-5 evaluation metrics": missing, spurious, and
incorrect or partial, told apart by what is wrong).

Shapes: N rows, C labels.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tasks.data.truths import read_entities
from tasks.stats.entities import Entity
from tasks.tables import Rows
from tasks.types import EntityPredictions, SigmoidPredictions

Partial = SigmoidPredictions | EntityPredictions
"""Answers that can be right in part."""
KINDS = {
    "multi_label": ("missed", "invented"),
    "entities": ("missed", "invented", "wrong_boundary", "wrong_type"),
}
"""An invented entity counts under the type that was answered, every other mistake under the true one."""


def mistake_columns(task: str) -> tuple[str, ...]:
    """`true` is how often a label is there; `lost` how many more mistakes than its teacher the candidate makes, of the
    kinds of which it makes more."""
    return ("label", "true", *(f"{model}_{kind}" for kind in KINDS[task] for model in ("candidate", "teacher")), "lost")


def mistakes(teacher: Partial, candidate: Partial, labels: Sequence[str]) -> Rows:
    """The mistakes of both models with each label or type, first where the candidate lost most."""
    true, before = _count(teacher, labels)
    _, after = _count(candidate, labels)
    rows: Rows = []
    for label in labels:
        changes = [after[kind][label] - before[kind][label] for kind in after]
        counts = {
            f"{model}_{kind}": found[kind][label]
            for kind in after
            for model, found in (("candidate", after), ("teacher", before))
        }
        rows.append({"label": label, "true": true[label]} | counts | {"lost": sum(max(0, more) for more in changes)})
    of_candidate = [f"candidate_{kind}" for kind in after]
    return sorted(rows, key=lambda row: (-row["lost"], -sum(row[name] for name in of_candidate), row["label"]))


def all_mistakes(rows: Rows) -> dict[str, Any]:
    """All labels together."""
    return {"label": "together"} | {name: sum(row[name] for row in rows) for name in rows[0] if name != "label"}


def _count(found: Partial, labels: Sequence[str]) -> tuple[Counter[str], dict[str, Counter[str]]]:
    """How often each label is true, and how often each kind of mistake is made with it."""
    counts = {kind: Counter[str]() for kind in KINDS[found.task]}
    if isinstance(found, EntityPredictions):
        for mine, true in zip(found.answers, found.truth, strict=True):
            for kind, name in entity_mistakes(read_entities(mine), read_entities(true)):
                counts[kind][name] += 1
        return Counter(name for row in found.truth for _, _, name in read_entities(row)), counts
    truth_NC = found.truth_NC > 0
    for kind, wrong_NC in (("missed", truth_NC & ~found.chosen_NC), ("invented", ~truth_NC & found.chosen_NC)):
        counts[kind].update(_by_label(wrong_NC, labels))
    return Counter(_by_label(truth_NC, labels)), counts


def _by_label(hit_NC: np.ndarray, labels: Sequence[str]) -> dict[str, int]:
    return dict(zip(labels, hit_NC.sum(axis=0).tolist(), strict=True))


def entity_mistakes(answered: Sequence[Entity], true: Sequence[Entity]) -> Iterator[tuple[str, str]]:
    """The kind and the type of each mistake in one text."""
    open_answers, open_truths = sorted(set(answered) - set(true)), sorted(set(true) - set(answered))
    for kind, accounts_for in (("wrong_type", _same_span), ("wrong_boundary", _overlaps)):
        for entity in list(open_truths):
            answer = next((answer for answer in open_answers if accounts_for(answer, entity)), None)
            if answer is not None:
                open_answers.remove(answer)
                open_truths.remove(entity)
                yield kind, entity[2]
    yield from (("missed", name) for _, _, name in open_truths)
    yield from (("invented", name) for _, _, name in open_answers)


def _same_span(answer: Entity, entity: Entity) -> bool:
    return answer[:2] == entity[:2]


def _overlaps(answer: Entity, entity: Entity) -> bool:
    """Of entities of one type."""
    return answer[2] == entity[2] and answer[0] < entity[1] and entity[0] < answer[1]
