"""The training examples that a text is most like, in its words: where an error may have been learnt.

Shapes: Q queries, N training rows, K neighbours.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.floor import make_vectorizer
from tasks.tables import shown

CHUNK_ROWS = 256
NUM_NEIGHBOURS = 3


def neighbour_columns(truth: str) -> tuple[str, ...]:
    """What `neighbour_cells` gives; `truth` is what the table calls the truth of a row."""
    numbers = range(1, NUM_NEIGHBOURS + 1)
    return tuple(f"{what}_{number}" for number in numbers for what in ("nearest", f"nearest_{truth}", "cosine"))


def neighbour_cells(
    texts: Sequence[Any], training: Sequence[Any], truths: Sequence[str], truth: str
) -> Iterator[dict[str, Any]]:
    """Of each text the nearest training texts with their truths and cosines; "" where training has fewer."""
    rows_QK, cosines_QK = nearest(
        [shown(text) for text in texts], [shown(text) for text in training], most=NUM_NEIGHBOURS
    )
    for rows_K, cosines_K in zip(rows_QK.tolist(), cosines_QK.tolist(), strict=True):
        cells: dict[str, Any] = dict.fromkeys(neighbour_columns(truth), "")
        for number, (row, cosine) in enumerate(zip(rows_K, cosines_K, strict=True), start=1):
            cells |= {f"nearest_{number}": shown(training[row]), f"nearest_{truth}_{number}": truths[row]}
            cells[f"cosine_{number}"] = cosine
        yield cells


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
