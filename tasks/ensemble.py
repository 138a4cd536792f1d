"""The answers of one teacher, or the mean of several."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bento.predictor import softmax
from tasks.architecture import load_classifier
from tasks.training import predict_logits, tokenize


def ensemble_logits(folders: Sequence[Path], texts: Sequence[Any], max_tokens: int) -> Any:
    """float32 logits_NC of one torch model folder, or the logarithm of the mean probabilities of several.

    Teachers of different make see different sides of a text, and their mean is a better teacher than each
    (Hinton 2015, arXiv:1503.02531, section 1).
    """
    found = [torch_logits(folder, texts, max_tokens) for folder in folders]
    if len(found) == 1:
        return found[0]
    mean_NC = np.mean([softmax(logits_NC) for logits_NC in found], axis=0)
    return np.log(np.maximum(mean_NC, 1e-9)).astype(np.float32)


def torch_logits(folder: Path, texts: Sequence[Any], max_tokens: int) -> Any:
    """float32 logits_NC of a torch model folder, rows in order."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = tokenize(tokenizer, texts, max_tokens=max_tokens)
    return predict_logits(load_classifier(folder), rows, pad_id=tokenizer.pad_token_id)
