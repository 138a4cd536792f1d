"""Which words a window of traffic has more or fewer of than the reference: for people to look at, never a verdict."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import false_discovery_control

from tasks.monitor.window import WORD
from tasks.stats.log_odds import log_odds_z, two_sided_p

LEAST_TEXTS = 5
"""Texts of both sets together that a word must be in; rarer ones can tell nothing and would only cost the others."""
LEVEL = 0.05
"""Expected share of words shown that do not differ."""


@dataclass(frozen=True, kw_only=True)
class WordChange:
    """One word whose share of texts differs."""

    word: str
    window: float
    """Share of the window's texts that have it."""
    reference: float
    z: float
    """Above 0 where the window has more of it."""
    q: float
    """p-value after correction for all words, however they depend on each other."""


def changed_words(window: Sequence[Any], reference: Sequence[Any]) -> tuple[WordChange, ...]:
    """Words whose share differs at a false discovery rate of `LEVEL`, the largest |z| first.

    A word counts once a text, so that one that repeats it cannot make a word stand out. Both are texts, or pairs.
    Source of the correction: Benjamini and Yekutieli 2001, Annals of Statistics 29:1165.
    """
    counts, others = _texts_with(window), _texts_with(reference)
    words = sorted(word for word in {*counts, *others} if counts[word] + others[word] >= LEAST_TEXTS)
    if len(words) < 2 or not window or not reference:
        return ()
    z_V = log_odds_z(np.array([counts[word] for word in words]), np.array([others[word] for word in words]))
    q_V = false_discovery_control(two_sided_p(z_V), method="by")
    return tuple(
        WordChange(
            word=words[at],
            window=counts[words[at]] / len(window),
            reference=others[words[at]] / len(reference),
            z=float(z_V[at]),
            q=float(q_V[at]),
        )
        for at in np.argsort(-np.abs(z_V), kind="stable")
        if q_V[at] <= LEVEL
    )


def _texts_with(texts: Sequence[Any]) -> Counter[str]:
    """In how many texts each word is."""
    return Counter(word for text in texts for word in _words(text))


def _words(text: Any) -> Iterable[str]:
    joined = text if isinstance(text, str) else " ".join(text)
    return set(WORD.findall(joined.lower()))
