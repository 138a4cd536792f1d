"""Rows that the reference has nothing like stand out, whatever else is in the window."""

import numpy as np

from tasks.monitor.reference import fit_reference
from tasks.monitor.window import Window
from tasks.monitor.witness import witness

NUM_NEW = 20


def test_the_rows_of_a_new_topic_come_first() -> None:
    rng = np.random.default_rng(0)
    usual, new = rng.normal(size=(400, 8)), np.zeros(8)
    new[3] = 8.0
    reference = fit_reference(
        usual, np.full((400, 2), 0.5), {}, labels_N=np.zeros(400, dtype=np.int64), class_names=("a", "b"),
        num_components=8, prior_C=np.array([0.5, 0.5]), rng=rng,
    )  # fmt: skip
    embeddings_ND = np.concatenate([rng.normal(size=(100, 8)), new + 0.3 * rng.normal(size=(NUM_NEW, 8))])
    window = Window(
        texts=[str(at) for at in range(len(embeddings_ND))], embeddings_ND=embeddings_ND,
        probabilities_NC=np.full((len(embeddings_ND), 2), 0.5), descriptors={},
    )  # fmt: skip
    first = np.argsort(-witness(reference, window))[:NUM_NEW]
    assert set(first.tolist()) == set(range(100, 100 + NUM_NEW))
