"""Batch invariance: whether a sentence has one answer, to the last bit, whatever its batch.

Shapes: N rows, C classes.
"""

from collections.abc import Sequence

import numpy as np

from bento.errors import RetortError
from bento.predictor import Predictor, Text

NUM_BATCHES = 16
MAX_BATCH = 16


def largest_shift(predictor: Predictor, texts: Sequence[Text], rng: np.random.Generator) -> float:
    """Largest difference of a logit between a text alone and the same text in a random batch of other lengths."""
    encodings = predictor.tokenize(texts)
    alone_NC = np.concatenate([predictor.logits([encoding]) for encoding in encodings])
    shift = 0.0
    for _ in range(NUM_BATCHES):
        rows = rng.integers(len(texts), size=rng.integers(2, MAX_BATCH + 1))
        together = predictor.logits([encodings[row] for row in rows])
        shift = max(shift, float(np.abs(together - alone_NC[rows]).max()))
    return shift


def check_batch_invariance(predictor: Predictor, texts: Sequence[Text], rng: np.random.Generator) -> None:
    """Raises: RetortError when a text's logits differ in any bit between alone and in a batch."""
    shift = largest_shift(predictor, texts, rng)
    if shift != 0:
        raise RetortError(
            f"quantize: expected a text's logits to be the same in every batch, got a difference of {shift:.2g}; "
            "this processor's kernels sum in an order that depends on the batch: set quantize.batch_invariant to false"
        )
