"""Which mistakes a model of label sets or entities makes, label by label: what confusions are to one class a text.

A true entity is right, of the wrong type where an answer has its very span, of the wrong boundary where an answer of
its type overlaps it, or missed; an answer that is none of these is invented. An answer accounts for one true entity at
most. These are the errors of MUC-5 (Chinchor and Sundheim 1993, "MUC-5 evaluation metrics": missing, spurious, and
incorrect or partial, told apart by what is wrong).

Shapes: N rows, C labels.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.data.truths import read_entities
from tasks.stats.budget import holm
from tasks.stats.entities import Entity
from tasks.stats.paired import PairedCounts, mcnemar_p
from tasks.tables import Rows
from tasks.types import EntityPredictions, SigmoidPredictions

Ints = NDArray[np.int64]
Partial = SigmoidPredictions | EntityPredictions
"""Answers that can be right in part."""
KINDS = {
    "multi_label": ("missed", "invented"),
    "entities": ("missed", "invented", "wrong_boundary", "wrong_type"),
}
"""An invented entity counts under the type that was answered, every other mistake under the true one."""


LEVEL = 0.05
"""Below this p, corrected by Holm over all labels and kinds, the candidate makes more of a kind and not by chance."""


def mistake_columns(task: str) -> tuple[str, ...]:
    """`true` is how often a label is there; `lost` how many more mistakes than its teacher the candidate makes, of the
    kinds of which it makes more; `worse` names those that it makes more of and not by chance, at the smallest
    `p_holm`."""
    counts = (f"{model}_{kind}" for kind in KINDS[task] for model in ("candidate", "teacher"))
    return ("label", "true", *counts, "lost", "worse", "p_holm")


def mistakes(teacher: Partial, candidate: Partial, labels: Sequence[str]) -> Rows:
    """The mistakes of both models with each label or type, first where the candidate lost most."""
    before, after = _count(teacher, labels), _count(candidate, labels)
    p_holm = _p_worse(before, after, labels)
    true = _num_true(candidate, labels)
    rows: Rows = []
    for at, label in enumerate(labels):
        counts: dict[str, int] = {}
        p_values = {kind: p_holm[f"{kind} {label}"] for kind in after}
        lost = 0
        for kind in after:
            now, was = (int(found[kind][:, at].sum()) for found in (after, before))
            counts |= {f"candidate_{kind}": now, f"teacher_{kind}": was}
            lost += max(0, now - was)
        worse = ", ".join(kind.replace("_", " ") for kind, p_value in p_values.items() if p_value <= LEVEL)
        row = {"label": label, "true": int(true[at])} | counts
        rows.append(row | {"lost": lost, "worse": worse, "p_holm": min(p_values.values())})
    of_candidate = [f"candidate_{kind}" for kind in after]
    return sorted(rows, key=lambda row: (-row["lost"], -sum(row[name] for name in of_candidate), row["label"]))


def all_mistakes(rows: Rows) -> dict[str, Any]:
    """All labels together, `worse` as a list."""
    counts = [name for name, value in rows[0].items() if isinstance(value, int)]
    worse = [f"{row['label']} ({row['worse']})" for row in rows if row["worse"]]
    return {"label": "together"} | {name: sum(row[name] for row in rows) for name in counts} | {"worse": worse}


def _p_worse(before: Mapping[str, Ints], after: Mapping[str, Ints], labels: Sequence[str]) -> dict[str, float]:
    """Of each kind and label the p of "as many rows have fewer of it with the candidate as have more", exact McNemar,
    one-sided, corrected by Holm."""
    p_values = {}
    for kind in after:
        more_NC = after[kind] - before[kind]
        for at, label in enumerate(labels):
            counts = PairedCounts(b=int((more_NC[:, at] > 0).sum()), c=int((more_NC[:, at] < 0).sum()), n=len(more_NC))
            p_values[f"{kind} {label}"] = mcnemar_p(counts)
    return holm(p_values)


def _count(found: Partial, labels: Sequence[str]) -> dict[str, Ints]:
    """How often each row has each kind of mistake with each label, counts_NC."""
    if isinstance(found, SigmoidPredictions):
        truth_NC = found.truth_NC > 0
        wrong = {"missed": truth_NC & ~found.chosen_NC, "invented": ~truth_NC & found.chosen_NC}
        return {kind: wrong_NC.astype(np.int64) for kind, wrong_NC in wrong.items()}
    counts = {kind: np.zeros((len(found.truth), len(labels)), dtype=np.int64) for kind in KINDS[found.task]}
    for row, (mine, true) in enumerate(zip(found.answers, found.truth, strict=True)):
        for kind, name in entity_mistakes(read_entities(mine), read_entities(true)):
            counts[kind][row, labels.index(name)] += 1
    return counts


def _num_true(found: Partial, labels: Sequence[str]) -> Sequence[float]:
    """How often each label is true."""
    if isinstance(found, SigmoidPredictions):
        return list((found.truth_NC > 0).sum(axis=0))
    counts = Counter(name for row in found.truth for _, _, name in read_entities(row))
    return [counts[label] for label in labels]


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
