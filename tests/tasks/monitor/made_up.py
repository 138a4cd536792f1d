"""Made-up traffic: classes are clouds of embeddings, the model's probabilities are their exact posteriors."""

import numpy as np

from tasks.monitor.reference import fit_reference
from tasks.monitor.window import Window

NUM_DIMENSIONS = 8
CLASSES = ("card", "loan", "pin")
CENTRES_CD = 3.0 * np.eye(NUM_DIMENSIONS)[: len(CLASSES)]


def rows(rng, n, *, shares=(1 / 3, 1 / 3, 1 / 3), shift=0.0):
    """Embeddings, posteriors, descriptors and true labels; `shift` moves every embedding the same way."""
    labels_N = rng.choice(len(CLASSES), size=n, p=shares)
    offset_D = shift * np.eye(NUM_DIMENSIONS)[-1]
    embeddings_ND = CENTRES_CD[labels_N] + offset_D + rng.normal(size=(n, NUM_DIMENSIONS))
    squared_NC = ((embeddings_ND[:, None] - CENTRES_CD[None]) ** 2).sum(axis=2)
    density_NC = np.exp(-(squared_NC - squared_NC.min(axis=1, keepdims=True)) / 2)
    length_N = rng.normal(3, 0.5, size=n) + 0.3 * (labels_N == 0)
    return embeddings_ND, density_NC / density_NC.sum(axis=1, keepdims=True), {"length": length_N}, labels_N


def make_reference(rng, n=800, **options):
    embeddings_ND, probabilities_NC, descriptors, labels_N = rows(rng, n, **options)
    return fit_reference(embeddings_ND, probabilities_NC, descriptors, labels_N=labels_N, class_names=CLASSES, rng=rng)


def make_window(rng, n=300, *, timestamps_s_N=None, name="text", **options):
    embeddings_ND, probabilities_NC, descriptors, _ = rows(rng, n, **options)
    return Window(
        texts=[f"{name} {row}" for row in range(n)],
        embeddings_ND=embeddings_ND,
        probabilities_NC=probabilities_NC,
        descriptors=descriptors,
        timestamps_s_N=timestamps_s_N,
    )
