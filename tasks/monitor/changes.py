"""What is different about a window, shown to people: words, properties of the text, and texts at both ends.

None of it is a verdict: it is read after one, to see what the traffic is about. Shapes: N window rows, M reference
rows, X examples, K principal components.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from tasks.monitor.reference import Reference
from tasks.monitor.window import Window
from tasks.monitor.witness import witness
from tasks.monitor.words import WordChange, changed_words

NUM_EXAMPLES = 5
"""Texts shown of either end."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """One text of the window beside the reference text nearest to it."""

    text: Any
    label: str
    """What the champion thinks most likely, without a correction of the prior."""
    probability: float
    nearest: Any
    nearest_label: str
    """The true one."""


@dataclass(frozen=True, kw_only=True)
class Property:
    """Means of one descriptor."""

    name: str
    window: float
    reference: float


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Window against reference."""

    words: tuple[WordChange, ...]
    """Those that differ, by falling |z|."""
    properties: tuple[Property, ...]
    unlike: tuple[Example, ...]
    """What the window has and the reference has least like, the farthest first."""
    alike: tuple[Example, ...]
    """What the reference has most like, and the window least."""


def explore(reference: Reference, window: Window, reference_texts_M: Sequence[Any]) -> Changes:
    """Words, properties and examples of a window with rows; nothing of an empty one."""
    if not len(window):
        return Changes(words=(), properties=(), unlike=(), alike=())
    order = np.argsort(-witness(reference, window), kind="stable")
    return Changes(
        words=changed_words(window.texts, reference_texts_M),
        properties=tuple(
            Property(name=name, window=float(values.mean()), reference=float(reference.descriptors[name].mean()))
            for name, values in window.descriptors.items()
        ),
        unlike=_examples(order[:NUM_EXAMPLES], reference, window, reference_texts_M),
        alike=_examples(order[: -NUM_EXAMPLES - 1 : -1], reference, window, reference_texts_M),
    )


def _examples(
    rows: NDArray[np.intp], reference: Reference, window: Window, reference_texts_M: Sequence[Any]
) -> tuple[Example, ...]:
    points_XK = reference.project(window.embeddings_ND[rows])
    nearest_X = cdist(points_XK, reference.projected_MK).argmin(axis=1)
    best_X = window.probabilities_NC[rows].argmax(axis=1)
    return tuple(
        Example(
            text=window.texts[row],
            label=reference.class_names[best],
            probability=float(window.probabilities_NC[row, best]),
            nearest=reference_texts_M[near],
            nearest_label=reference.class_names[reference.labels_M[near]],
        )
        for row, best, near in zip(rows, best_X, nearest_X, strict=True)
    )
