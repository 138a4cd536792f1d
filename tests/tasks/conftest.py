"""A small real chain: a three-layer BERT with random weights on a few dozen sentences."""

from pathlib import Path

import numpy as np
import pytest

from tasks.compress.context import Context
from tasks.data import DataConfig, fingerprint, prepare
from tasks.ensemble import ensemble_logits
from tasks.store import run_step
from tasks.train import PACKAGED, find_model
from tasks.types import Artifact

COLOURS = ("red", "green", "blue")
NOUNS = ("car", "house", "lamp", "door", "book", "chair", "wall", "ship", "coat", "cup", "tree", "road")


def write_rows(folder: Path) -> Path:
    folder.mkdir()
    rows = [f"the {noun} over there is {colour},{colour}" for colour in COLOURS for noun in NOUNS]
    (folder / "train.csv").write_text("text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    rows = [f"a {colour} {noun} was seen,{colour}" for colour in COLOURS for noun in NOUNS]
    (folder / "test.csv").write_text("text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    monkeypatch = pytest.MonkeyPatch()
    root = tmp_path_factory.mktemp("compress")
    monkeypatch.setenv("RETORT_HOME", str(root / "home"))
    config = DataConfig(source=str(write_rows(root / "rows")), validation=0.3)
    data = run_step(
        "data", kind="data", inputs=fingerprint(config, None), config={}, code="tasks.types",
        make=lambda out, work: prepare(config, out),
    ).artifact  # fmt: skip
    teacher = run_step("teacher", kind="torch", inputs=[], config={}, code="tasks.types", make=_tiny_bert).artifact
    logits = run_step(
        "logits", kind="logits", inputs=[teacher], config={}, code="tasks.types",
        make=lambda out, work: _logits(teacher, data, out),
    ).artifact  # fmt: skip
    yield Context(name="tiny", data=data, teacher=teacher, teacher_logits=logits, max_tokens=16, seed=0)
    monkeypatch.undo()


def _tiny_bert(out: Path, work: Path) -> None:
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(find_model(PACKAGED))
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=32, id2label=dict(enumerate(sorted(COLOURS))),
        label2id={label: at for at, label in enumerate(sorted(COLOURS))}, initializer_range=0.2,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(out)
    tokenizer.save_pretrained(out)


def _logits(teacher: Artifact, data: Artifact, out: Path) -> None:
    from tasks.data import read_split

    for name in ("train", "validation"):
        np.save(out / f"{name}.npy", ensemble_logits([teacher.path], read_split(data.path, name).texts, 16))


@pytest.fixture(scope="session")
def exported(context: Context) -> Artifact:
    from tasks.compress.export import Export

    return Export().run(context.teacher, context).artifact
