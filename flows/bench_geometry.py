"""`retort bench geometry`: how small and fast a BERT-base becomes, with random weights, since sizes decide both.

The vocabulary is cut to the config's training text, as a build would; nothing is trained.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bento.manifest import folder_size_bytes
from bento.predictor import Predictor
from flows.bench import row
from flows.chain import prepare_data
from flows.config import Config
from tasks.compress.context import Context
from tasks.compress.distil import Distil
from tasks.compress.export import Export
from tasks.compress.prune_vocabulary import PruneVocabulary
from tasks.compress.quantize import Quantize
from tasks.data import read_labels, read_split
from tasks.evaluate import Answer, Eager, interleaved, sample, throughput
from tasks.store import run_step
from tasks.train import PACKAGED, find_model, teacher_logits
from tasks.types import Artifact

BERT_BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
VOCABULARY = PruneVocabulary(keep=0.9999, likely=2000)
STUDENT = Distil(num_layers=4, intermediate_size=768)
PRECISION = Quantize(scheme="int8_dynamic", weight_bits=4, embedding_bits=4)
SIZE_MB, FASTER = 13.0, 12.0
NUM_ROUNDS = 3


def bench_geometry(chosen: Config) -> dict[str, Any]:
    """BERT-base as PyTorch runs it against a student of four layers of it, one sentence and batches of 32."""
    data = prepare_data(chosen, None).artifact
    labels = read_labels(data.path)
    teacher = run_step(
        "bert_base", kind="torch", inputs=(), config={"labels": list(labels)}, code="tasks.types",
        make=lambda out, work: _write_bert(labels, out),
    ).artifact  # fmt: skip
    student = _compressed(chosen, data, teacher)
    eager, predictor = Eager(teacher.path, chosen.teacher.max_tokens), Predictor(student.path)
    test = read_split(data.path, "test")
    latency_ms = interleaved({"teacher": eager.answer, "student": predictor.predict}, sample(test, 0))
    batched: dict[str, Answer] = {"teacher": eager.answer, "student": partial(predictor.predict, batch_size=32)}
    rounds = [{name: throughput(answer, test) for name, answer in batched.items()} for _ in range(NUM_ROUNDS)]
    teacher_ms, student_ms = (float(np.median(latency_ms[name])) for name in ("teacher", "student"))
    faster = float(np.median([round_["student"] / round_["teacher"] for round_ in rounds]))
    size_mb = folder_size_bytes(student.path) / 1e6
    return {
        "title": f"BERT-base geometry on the text of {chosen.name}",
        "rows": [
            row("model folder", size_mb, "MB", f"BERT-base: {eager.size_bytes / 1e6:.0f} MB",
                eager.size_bytes / 1e6 / size_mb, f"<= {SIZE_MB:g} MB", size_mb <= SIZE_MB),
            row("batches of 32", float(np.median([round_["student"] for round_ in rounds])), "sentences/s",
                "BERT-base in PyTorch eager", faster, f">= {FASTER:g} times", faster >= FASTER),
            row("one sentence, p50", student_ms, "ms", "BERT-base in PyTorch eager", teacher_ms / student_ms),
        ],
    }  # fmt: skip


def _compressed(chosen: Config, data: Artifact, teacher: Artifact) -> Artifact:
    logits = teacher_logits(chosen.teacher, [teacher], data).artifact
    context = Context(
        name="bert-base", data=data, teacher=teacher, teacher_logits=logits, max_tokens=chosen.teacher.max_tokens,
        seed=0, untrained=True,
    )  # fmt: skip
    cut = VOCABULARY.run(teacher, context).artifact
    exported = Export().run(STUDENT.sketch(cut, context).artifact, context).artifact
    return PRECISION.run(exported, context).artifact


def _write_bert(labels: tuple[str, ...], out: Path) -> None:
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(find_model(PACKAGED))
    names = {"id2label": dict(enumerate(labels)), "label2id": {label: at for at, label in enumerate(labels)}}
    BertForSequenceClassification(BertConfig(vocab_size=len(tokenizer), **BERT_BASE, **names)).save_pretrained(out)
    tokenizer.save_pretrained(out)
