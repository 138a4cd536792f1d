"""Batch invariance: whether a sentence has one answer, to the last bit, whatever its batch.

Shapes: N rows, B batch, C classes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bento.errors import RetortError
from bento.predictor import Predictor, Text

Answer = Callable[[Sequence[Text]], Any]
"""Texts of one batch -> logits_BC or probabilities_BC."""

NUM_BATCHES = 16
MAX_BATCH = 16


def in_one_batch(predict: Callable[..., Any]) -> Answer:
    """A predictor's method with its `batch_size` as large as the batch."""
    return lambda texts: predict(texts, batch_size=len(texts))


def largest_shift(answer: Answer, texts: Sequence[Text], rng: np.random.Generator) -> float:
    """Largest difference in an answer between a text alone and the same text in a random batch of other lengths."""
    alone_NC = np.concatenate([answer([text]) for text in texts])
    shift = 0.0
    for _ in range(NUM_BATCHES):
        rows = rng.integers(len(texts), size=rng.integers(2, MAX_BATCH + 1))
        together_BC = answer([texts[row] for row in rows])
        neither_BC = np.isnan(together_BC) & np.isnan(alone_NC[rows])  # behind a text's last word
        shift = max(shift, float(np.abs(together_BC - alone_NC[rows])[~neither_BC].max()))
    return shift


def check_batch_invariance(predictor: Predictor, texts: Sequence[Text], rng: np.random.Generator) -> None:
    """Raises: RetortError when a text's logits differ in any bit between alone and in a batch."""
    shift = largest_shift(in_one_batch(predictor.predict_logits), texts, rng)
    if shift != 0:
        raise RetortError(
            f"quantize: expected a text's logits to be the same in every batch, got a difference of {shift:.2g}; "
            "this processor's kernels sum in an order that depends on the batch: set quantize.batch_invariant to false"
        )
