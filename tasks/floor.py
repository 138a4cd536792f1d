"""The floor: TF-IDF and logistic regression, the cheap model that a transformer has to beat to be worth its cost.

Shapes: N rows, C classes.
"""

import pickle
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.types import Predictions, Split

NUM_LATENCY_ROWS = 200
WORD_OR_SIGN = r"\w+|[^\w\s]"
"""Signs count as words, so that a text of emoji or one-letter words is not empty."""


def fit_floor(train: Split, test: Split, labels: Sequence[str]) -> tuple[Predictions, int]:
    """Fit on `train`, answer `test`: its predictions, and the bytes of the fitted model.

    Word 1- and 2-grams with sublinear counts; a pair of texts is joined. Latencies are of single texts. Deterministic.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from threadpoolctl import threadpool_limits

    index = {label: at for at, label in enumerate(labels)}
    model = make_pipeline(make_vectorizer(), LogisticRegression(C=10.0, max_iter=1000))
    with threadpool_limits(1):  # the matrices are sparse: more threads only wait for one another
        model.fit(_joined(train), [index[label] for label in train.labels])
    texts = _joined(test)
    probabilities_NC = np.zeros((len(test), len(labels)), dtype=np.float32)
    probabilities_NC[:, model.classes_] = model.predict_proba(texts)
    predictions = Predictions(
        ids=test.ids,
        probabilities_NC=probabilities_NC,
        labels_N=np.array([index[label] for label in test.labels], dtype=np.int64),
        latency_ms_N=_latency_ms(model, texts[:NUM_LATENCY_ROWS]),
    )
    return predictions, len(pickle.dumps(model))


def make_vectorizer() -> Any:
    """TF-IDF of word 1- and 2-grams with sublinear counts, rows of unit length."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=WORD_OR_SIGN, dtype=np.float32)


def _joined(split: Split) -> list[str]:
    return [text if isinstance(text, str) else " ".join(text) for text in split.texts]


def _latency_ms(model: Any, texts: Sequence[str]) -> NDArray[np.float64]:
    latency_ms = []
    for text in texts:
        start = time.perf_counter()
        model.predict_proba([text])
        latency_ms.append((time.perf_counter() - start) * 1000)
    return np.array(latency_ms, dtype=np.float64)
