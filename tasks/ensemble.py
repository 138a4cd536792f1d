"""The answers of one teacher, or the mean of several."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.architecture import load_classifier, reads_every_token
from tasks.batches import tokenize
from tasks.task_types import TaskType
from tasks.training import predict_logits


def ensemble_logits(folders: Sequence[Path], texts: Sequence[Any], max_tokens: int, task: TaskType) -> Any:
    """float32 logits_NC of one torch model folder, or those of the mean probabilities of several.

    Teachers of different make see different sides of a text, and their mean is a better teacher than each
    (Hinton 2015, arXiv:1503.02531, section 1).
    """
    found = [torch_logits(folder, texts, max_tokens) for folder in folders]
    return found[0] if len(found) == 1 else task.mean_logits(found)


def torch_logits(folder: Path, texts: Sequence[Any], max_tokens: int) -> Any:
    """float32 logits_NC of a torch model folder, rows in order."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = load_classifier(folder)
    rows = tokenize(tokenizer, texts, max_tokens=max_tokens, words=reads_every_token(model))
    return predict_logits(model, rows, pad_id=tokenizer.pad_token_id)
