"""What a student learns from: each loss against its formula written out in numpy."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from tasks import distillation
from tasks.architecture import load_classifier
from tasks.batches import collate, tokenize
from tasks.compress.context import Context
from tasks.compress.distil import Distil
from tasks.distillation import _Knowledge, distil_into, distillation_loss, hidden_loss, relation_loss, spread
from tasks.task_types import UNLABELLED, SingleLabel
from tasks.training import forward
from tasks.vocabulary import cut_vocabulary
from tests.small import write_bert


def reference_loss(
    student_BC: np.ndarray, teacher_BC: np.ndarray, labels_B: np.ndarray, temperature: float, soft: float
) -> float:
    """Hinton's loss written out in numpy."""

    def softmax(x: np.ndarray) -> np.ndarray:
        e = np.exp(x - x.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    p, q = softmax(teacher_BC / temperature), softmax(student_BC / temperature)
    divergence = (p * (np.log(p) - np.log(q))).sum(axis=1).mean() * temperature**2
    entropy = -np.log(softmax(student_BC)[np.arange(len(labels_B)), labels_B]).mean()
    return float(soft * divergence + (1 - soft) * entropy)


def test_the_loss_is_hintons() -> None:
    rng = np.random.default_rng(0)
    student, teacher, labels = rng.normal(size=(5, 4)), rng.normal(size=(5, 4)), rng.integers(4, size=5)
    found = distillation_loss(
        torch.tensor(student),
        torch.tensor(teacher),
        torch.tensor(labels),
        task=SingleLabel(),
        temperature=3.0,
        soft=0.7,
    )
    assert float(found) == pytest.approx(reference_loss(student, teacher, labels, 3.0, 0.7))


def test_the_loss_is_zero_for_the_teachers_own_answers_without_labels() -> None:
    logits = torch.randn(3, 4)
    assert float(
        distillation_loss(
            logits, logits, torch.zeros(3, dtype=torch.long), task=SingleLabel(), temperature=2.0, soft=1.0
        )
    ) == pytest.approx(0, abs=1e-6)


def test_rows_without_a_label_count_only_in_the_soft_part() -> None:
    rng = np.random.default_rng(1)
    student, teacher = torch.tensor(rng.normal(size=(4, 3))), torch.tensor(rng.normal(size=(4, 3)))
    labels = torch.tensor([0, UNLABELLED, 2, UNLABELLED])
    found = distillation_loss(student, teacher, labels, task=SingleLabel(), temperature=1.0, soft=0.0)
    expected = torch.nn.functional.cross_entropy(student[[0, 2]], labels[[0, 2]])
    assert float(found) == pytest.approx(float(expected))
    none = distillation_loss(
        student, teacher, torch.full((4,), UNLABELLED), task=SingleLabel(), temperature=1.0, soft=0.0
    )
    assert float(none) == 0


def test_the_relation_loss_is_that_of_minilmv2_over_real_tokens() -> None:
    rng = np.random.default_rng(2)
    student_BTH, teacher_BTH = rng.normal(size=(2, 4, 6)), rng.normal(size=(2, 4, 8))
    lengths = (4, 2)
    expected, count = 0.0, 0
    for row, length in enumerate(lengths):
        for head in range(2):
            mine = softmax_relations(student_BTH[row, :length, head * 3 : head * 3 + 3])
            its = softmax_relations(teacher_BTH[row, :length, head * 4 : head * 4 + 4])
            expected += float((its * np.log(its / mine)).sum())
            count += length
    mask = torch.tensor([[1.0, 1, 1, 1], [1, 1, 0, 0]])
    found = relation_loss(torch.tensor(student_BTH), torch.tensor(teacher_BTH), mask, 2)
    assert float(found) == pytest.approx(expected / count, rel=1e-5)


def softmax_relations(states: np.ndarray) -> np.ndarray:
    scores = states @ states.T / np.sqrt(states.shape[1])
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def test_the_hidden_loss_leaves_padding_out() -> None:
    student, teacher = torch.zeros(1, 3, 2), torch.ones(1, 3, 2)
    teacher[0, 2] = 100
    assert float(hidden_loss(student, teacher, torch.tensor([[1.0, 1.0, 0.0]]))) == pytest.approx(1.0)


def test_a_teacher_beside_its_student_reads_the_same_tokens_under_its_own_numbers(tmp_path: Path) -> None:
    """A student that is its teacher, but for a cut vocabulary, has nothing to learn from the hidden states."""
    teacher = write_bert(tmp_path / "teacher")
    texts = ["the lamp over there is green", "a red ship"]
    student = load_classifier(teacher)
    cut_vocabulary(student, teacher, texts, held_out=texts, keep=1.0, likely=0, out=tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert len(tokenizer) < len(AutoTokenizer.from_pretrained(teacher))
    context = SimpleNamespace(teacher=SimpleNamespace(path=teacher))
    settings = Distil(hidden=1.0, relation_heads=2)
    knowledge = _Knowledge(student, tokenizer, settings, context, [0, 1, 2], SingleLabel())  # type: ignore[arg-type]
    rows = tokenize(tokenizer, texts, max_tokens=16)
    batch = collate(rows, [0, 1], tokenizer.pad_token_id)
    forward(student, batch)
    knowledge._ask_teacher(batch)
    assert float(knowledge._hidden(batch["attention_mask"].float()).detach()) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(("transfer", "dropout"), [(None, True), ({"copies": 1}, False)])
def test_dropout_stands_in_for_transfer_text(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transfer: Any, *, dropout: bool
) -> None:
    seen: list[bool] = []
    monkeypatch.setattr(distillation, "fit", lambda *_, dropout, **__: seen.append(dropout))
    student = load_classifier(context.teacher.path)
    tokenizer = AutoTokenizer.from_pretrained(context.teacher.path)
    distil_into(student, tokenizer, Distil(transfer=transfer), context, work=tmp_path, name="distil")
    assert seen == [dropout]


def test_layers_are_spread_from_the_first_to_the_last() -> None:
    assert spread(3, 6) == [0, 2, 5]
    assert spread(6, 12) == [0, 2, 4, 7, 9, 11]
    assert spread(1, 6) == [5]
    assert spread(6, 6) == list(range(6))
