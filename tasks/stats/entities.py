"""Exact matches of entities: an answer is right where span and type are both those of the truth.

F1 over all entities is the measure of CoNLL's shared tasks (Tjong Kim Sang 2003, arXiv:cs/0306050) and of seqeval.
The terms are those of `tasks.stats.multi_label.f1_terms`, with types as classes, so the statistics are the same.

Shapes: N rows, C types.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Entity = tuple[int, int, str]


def entity_terms(
    answers: Sequence[Sequence[Entity]], truth: Sequence[Sequence[Entity]], types: Sequence[str]
) -> NDArray[np.float64]:
    """terms_N2C: of each row and type the matches doubled, then its answered and true entities together."""
    column = {name: at for at, name in enumerate(types)}
    terms_NxC = np.zeros((len(truth), 2, len(types)))
    for row, (found, true) in enumerate(zip(answers, truth, strict=True)):
        for _, _, name in set(found) & set(true):
            terms_NxC[row, 0, column[name]] += 2
        for _, _, name in (*set(found), *set(true)):
            terms_NxC[row, 1, column[name]] += 1
    return terms_NxC.reshape(len(truth), -1)
