"""Questions to the model itself that no table of answers tells: does its tokenizer know the text, and does an answer
depend on what else is in its batch?
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bento.predictor import Text
from tasks.evaluate import Classifier
from tasks.gate.config import GateConfig
from tasks.quantization.invariance import in_one_batch, largest_shift
from tasks.vocabulary import unknown_id

NUM_PROBED = 64


@dataclass(frozen=True, kw_only=True)
class Probes:
    """What was measured; only what the gate asks for."""

    num_texts: int
    num_unknown: int | None = None
    """Texts with a piece that the tokenizer does not know."""
    batch_shift: float = float("nan")
    """Largest change of a probability between a text alone and in a batch."""


def probe(
    classifier: Classifier, tokenizer: Any, texts: Sequence[Text], config: GateConfig, *, seed: int = 0
) -> Probes:
    """Ask what `config` wants to know; `tokenizer` is one of the `tokenizers` library."""
    rng = np.random.default_rng(seed)
    asked = [texts[row] for row in rng.permutation(len(texts))[:NUM_PROBED]]
    return Probes(
        num_texts=len(texts),
        num_unknown=None if config.unknown_words is None else num_unknown(tokenizer, texts),
        batch_shift=float("nan")
        if config.batch_shift is None
        else largest_shift(in_one_batch(classifier.predict), asked, rng),
    )


def num_unknown(tokenizer: Any, texts: Sequence[Text]) -> int:
    """Texts with a piece that the tokenizer does not know, wherever it truncates; 0 where it knows every byte."""
    unknown = unknown_id(tokenizer)
    if unknown is None:
        return 0
    return sum(unknown in encoding.ids for encoding in tokenizer.encode_batch(list(texts)))
