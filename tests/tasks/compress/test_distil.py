import numpy as np
import pytest
import torch

from bento.errors import UserError
from tasks.compress.context import Context
from tasks.compress.distil import distillation_loss, take_layers


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
        torch.tensor(student), torch.tensor(teacher), torch.tensor(labels), temperature=3.0, soft=0.7
    )
    assert float(found) == pytest.approx(reference_loss(student, teacher, labels, 3.0, 0.7))


def test_the_loss_is_zero_for_the_teachers_own_answers_without_labels() -> None:
    logits = torch.randn(3, 4)
    assert float(
        distillation_loss(logits, logits, torch.zeros(3, dtype=torch.long), temperature=2.0, soft=1.0)
    ) == pytest.approx(0, abs=1e-6)


def test_layers_are_copied_in_order(context: Context) -> None:
    from transformers import AutoModelForSequenceClassification

    teacher = AutoModelForSequenceClassification.from_pretrained(context.teacher.path)
    student = take_layers(context.teacher.path, [0, 2])
    assert student.config.num_hidden_layers == 2
    for at, source in enumerate((0, 2)):
        ours = student.bert.encoder.layer[at].output.dense.weight
        assert torch.equal(ours, teacher.bert.encoder.layer[source].output.dense.weight)


@pytest.mark.parametrize("layers", [[0, 3], [2, 0], [1, 1], [-1, 0]])
def test_layers_that_cannot_be_are_refused_with_the_range(context: Context, layers: list[int]) -> None:
    with pytest.raises(UserError, match="from 0 to 2"):
        take_layers(context.teacher.path, layers)
