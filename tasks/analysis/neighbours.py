"""The training examples that a text is most like, in its words: where an error may have been learnt.

Shapes: Q queries, N training rows.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.floor import make_vectorizer

CHUNK_ROWS = 256


def nearest(
    queries: Sequence[str], training: Sequence[str], *, most: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """rows_QK and cosines_QK of the `most` nearest training texts by TF-IDF, nearest first."""
    most = min(most, len(training))
    vectorizer = make_vectorizer()
    training_NF = vectorizer.fit_transform(training)
    rows_QK, cosines_QK = np.zeros((len(queries), most), dtype=np.int64), np.zeros((len(queries), most))
    for start in range(0, len(queries), CHUNK_ROWS):
        chunk = slice(start, start + CHUNK_ROWS)
        cosines_QN = (vectorizer.transform(queries[chunk]) @ training_NF.T).toarray()
        order = np.argsort(-cosines_QN, axis=1, kind="stable")[:, :most]
        rows_QK[chunk], cosines_QK[chunk] = order, np.take_along_axis(cosines_QN, order, axis=1)
    return rows_QK, cosines_QK
