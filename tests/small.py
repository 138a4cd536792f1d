"""Small real things to train on: a three-layer BERT with random weights, and sentences that name a colour."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

COLOURS = ("red", "green", "blue")
NOUNS = ("car", "house", "lamp", "door", "book", "chair", "wall", "ship", "coat", "cup", "tree", "road")


def write_colours(folder: Path) -> Path:
    """`train.csv` and `test.csv` of 36 rows each."""
    folder.mkdir()
    for name, sentence in (("train", "the {noun} over there is {colour}"), ("test", "a {colour} {noun} was seen")):
        rows = [f"{sentence.format(noun=noun, colour=colour)},{colour}" for colour in COLOURS for noun in NOUNS]
        (folder / f"{name}.csv").write_text("text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return folder


def write_bert(folder: Path) -> Path:
    """A torch folder with the packaged encoder's tokenizer and a classifier of the colours."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    from tasks.train import PACKAGED, find_model

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(find_model(PACKAGED))
    labels = sorted(COLOURS)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=32, id2label=dict(enumerate(labels)),
        label2id={label: at for at, label in enumerate(labels)}, initializer_range=0.2,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


LEARNS = {"epochs": 12, "batch_size": 4, "learning_rate": 3e-3, "patience": 12}
"""What the small encoder needs to learn the colours."""


def colours_build(folder: Path, **student: Any) -> dict[str, Any]:
    """A whole config on the colours; `student` are more settings of its two-layer student."""
    return {
        "name": "colours",
        "data": {"source": str(write_colours(folder / "rows")), "validation": 0.3},
        "teacher": {"model": str(write_bert(folder / "bert")), "max_tokens": 16, **LEARNS},
        "compress": [
            {"kind": "prune_vocabulary", "likely": 10},
            {"kind": "distil", "layers": [0, 2], **LEARNS, "transfer": None, **student},
            {"kind": "export"},
            {"kind": "quantize"},
        ],
    }


def write_torch(folder: Path, task: str, labels: Sequence[str]) -> Path:
    """A torch folder of a model of label sets, scores or entities with random weights, as its users save it."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, BertForTokenClassification

    from tasks.train import PACKAGED, find_model

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(find_model(PACKAGED))
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=32, id2label=dict(enumerate(labels)), initializer_range=0.5,
        label2id={label: at for at, label in enumerate(labels)},
        problem_type={"multi_label": "multi_label_classification", "score": "regression"}.get(task),
    )  # fmt: skip
    model = BertForTokenClassification if task == "entities" else BertForSequenceClassification
    model(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
