"""Planted bad models at the gate that stands before a promotion: the champion of a stream with faults put in."""

from typing import Any

import numpy as np

from flows.bench_drift.corpus import Corpus
from flows.bench_drift.lab import Lab, seeded
from flows.bench_drift.streams import in_scope
from flows.bench_drift.student import calibrated, train_student
from flows.bench_gate import DISAGREEMENT, accuracy_rows, class_row
from tasks.types import Predictions

Row = dict[str, Any]


def planted_rows(lab: Lab) -> list[Row]:
    """Worse by the margin, by twice the margin, and with one class broken; and how often equal models are refused."""
    name = max(lab.corpora, key=lambda one: len(lab.corpora[one]))  # it sees right and wrong only: one set is enough
    champion = held_out_answers(lab.corpora[name])
    rng = seeded("planted", name)
    found = [*accuracy_rows(champion, DISAGREEMENT, rng), class_row(champion, rng)]
    return [one | {"metric": f"gate, {name}: {one['metric']}"} for one in found]


def held_out_answers(corpus: Corpus) -> Predictions:
    """The linear head of half of the rows, on the other half."""
    rows = np.random.default_rng(0).permutation(in_scope(corpus))
    train_R, held_R = rows[::2], rows[1::2]
    embeddings, labels = corpus.embeddings_ND, corpus.labels_N
    student = calibrated(
        train_student(embeddings[train_R], labels[train_R]), embeddings[held_R], labels[held_R]
    )  # fmt: skip
    known_R = held_R[np.isin(labels[held_R], student.classes)]
    return Predictions(
        ids=tuple(map(str, known_R)),
        probabilities_NC=student.probabilities(embeddings[known_R]),
        labels_N=np.searchsorted(student.classes, labels[known_R]),
        latency_ms_N=np.empty(0),
    )
