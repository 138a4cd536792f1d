"""What the tasks differ in, against torch, scipy and scikit-learn."""

import numpy as np
import pytest
import torch
from scipy.special import expit
from scipy.stats import entropy, spearmanr
from sklearn.metrics import f1_score

from bento.task_types import Target
from tasks.task_types import UNLABELLED, Entities, MultiLabel, Score, SingleLabel, known_words, task_type
from tasks.types import Split

RNG = np.random.default_rng(0)


def split(*labels: str) -> Split:
    return Split(name="train", ids=tuple(map(str, range(len(labels)))), texts=("a",) * len(labels), labels=labels)


def test_targets_are_indices_sets_and_shares_of_the_scale() -> None:
    assert SingleLabel().targets(split("b", "a"), ("a", "b")).tolist() == [1, 0]
    assert MultiLabel().targets(split('["a", "b"]', "[]", '["b"]'), ("a", "b")).tolist() == [[1, 1], [0, 0], [0, 1]]
    scale = Score(Target(task="score", low=1, high=5))
    assert scale.targets(split("1.0", "3.0", "5.0", "7.0"), ("score",)).tolist() == [[0], [0.5], [1], [1]]


def test_the_loss_of_sets_is_binary_cross_entropy_without_the_rows_that_have_no_truth() -> None:
    logits = torch.tensor(RNG.normal(size=(3, 4)))
    truth = torch.tensor([[1.0, 0, 0, 1], [0, 0, 0, 0], [UNLABELLED] * 4])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits[:2], truth[:2])
    assert float(MultiLabel().loss(logits, truth)) == pytest.approx(float(expected))
    assert float(MultiLabel().loss(logits, torch.full((3, 4), float(UNLABELLED)))) == 0


def test_the_soft_loss_of_sets_is_the_divergence_of_each_labels_chance() -> None:
    student, teacher = RNG.normal(size=(3, 4)), RNG.normal(size=(3, 4))
    found = MultiLabel().soft_loss(torch.tensor(student), torch.tensor(teacher), 2.0)
    p, q = expit(teacher / 2), expit(student / 2)
    expected = entropy(np.stack([p, 1 - p]), np.stack([q, 1 - q]), axis=0).mean()
    assert float(found) == pytest.approx(expected)
    assert float(MultiLabel().soft_loss(torch.tensor(teacher), torch.tensor(teacher), 2.0)) == pytest.approx(
        0, abs=1e-9
    )


@pytest.mark.parametrize("task", [SingleLabel(), MultiLabel()])
def test_divergence_is_zero_for_the_same_answers_and_grows(task: SingleLabel | MultiLabel) -> None:
    logits_NC = RNG.normal(size=(9, 4)).astype(np.float32)
    assert task.divergence(logits_NC, logits_NC) == pytest.approx(0, abs=1e-6)
    assert 0 < task.divergence(logits_NC, logits_NC * 1.1) < task.divergence(logits_NC, logits_NC * 2)


@pytest.mark.parametrize("task", [SingleLabel(), MultiLabel()])
def test_the_mean_of_one_model_answers_as_it_does(task: SingleLabel | MultiLabel) -> None:
    logits_NC = RNG.normal(size=(9, 4)).astype(np.float32)
    assert task.divergence(logits_NC, task.mean_logits([logits_NC, logits_NC])) == pytest.approx(0, abs=1e-6)


def test_quality_is_the_tasks_metric() -> None:
    logits_NC = RNG.normal(size=(50, 3)).astype(np.float32)
    truth_NC = (logits_NC + RNG.normal(size=(50, 3)) > 0.5).astype(np.float32)
    best = max(f1_score(truth_NC, logits_NC >= at, average="micro") for at in logits_NC.ravel())
    assert MultiLabel().quality(logits_NC, truth_NC) == pytest.approx(best)
    score = task_type(Target(task="score"))
    assert score.quality(logits_NC[:, :1], truth_NC[:, :1]) == pytest.approx(
        spearmanr(logits_NC[:, 0], truth_NC[:, 0]).statistic
    )


def test_a_new_head_starts_from_how_frequent_each_label_is() -> None:
    truth_NC = np.array([[1, 0], [0, 0], [0, 0], [0, 1]], dtype=np.float32)
    assert expit(MultiLabel().prior_logits(truth_NC, 2)) == pytest.approx([0.25, 0.25])
    assert np.isfinite(MultiLabel().prior_logits(np.zeros((3, 2), dtype=np.float32), 2)).all()
    assert SingleLabel().prior_logits(np.array([0, 1]), 2) is None


TAGS = ("O", "B-a", "I-a", "B-b", "I-b")


def tagged(*rows: tuple[str, str]) -> Split:
    texts, labels = zip(*rows, strict=True)
    return Split(name="train", ids=tuple(map(str, range(len(rows)))), texts=texts, labels=labels)


def test_the_targets_of_entities_are_the_tags_of_all_words() -> None:
    rows = tagged(("go to New York!", '[[6, 14, "b"]]'), ("hi", "[]"))
    assert Entities().targets(rows, TAGS).tolist() == [[0, 0, 3, 4, 0], [0, -1, -1, -1, -1]]


def test_words_that_were_cut_off_neither_cost_nor_teach() -> None:
    logits_BWK = torch.randn(2, 6, 5, requires_grad=True)
    truth_BW = torch.tensor([[0, 1, 2, UNLABELLED], [3, UNLABELLED, UNLABELLED, UNLABELLED]])
    cut_BWK = logits_BWK.masked_fill(
        torch.tensor([[0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1]]).bool()[..., None], torch.nan
    )
    found = Entities().loss(cut_BWK, truth_BW)
    chosen = torch.stack([logits_BWK[0, 0], logits_BWK[0, 1], logits_BWK[1, 0]])
    assert found.item() == pytest.approx(torch.nn.functional.cross_entropy(chosen, torch.tensor([0, 1, 3])).item())
    soft = Entities().soft_loss(cut_BWK, torch.randn(2, 3, 5), 2.0)
    (found + soft).backward()
    assert torch.isfinite(logits_BWK.grad).all()
    assert logits_BWK.grad[:, 2:].abs().sum() == 0
    logits_MK, truth_M = known_words(cut_BWK.detach().numpy(), truth_BW.numpy())
    assert (logits_MK.shape, truth_M.tolist()) == ((3, 5), [0, 1, 3])


def test_the_quality_of_entities_is_their_f1_and_half_an_entity_counts_nothing() -> None:
    truth_NW = np.array([[1, 2, 0, 3], [0, 0, UNLABELLED, UNLABELLED]])
    right_NWK = np.eye(5)[[[1, 2, 0, 3], [0, 0, 0, 0]]] * 9
    assert Entities().quality(right_NWK, truth_NW) == 1
    half_NWK = right_NWK.copy()
    half_NWK[0, 1] = np.eye(5)[0] * 9
    assert Entities().quality(half_NWK, truth_NW) == pytest.approx(0.5)
    cut_NWK = right_NWK.copy()
    cut_NWK[0, 3] = np.nan
    assert Entities().quality(cut_NWK, truth_NW) == pytest.approx(2 / 3)


def test_tags_start_from_their_shares_and_one_that_never_occurs_is_finite() -> None:
    found_K = Entities().prior_logits(np.array([[0, 0, 0, 1], [0, 0, UNLABELLED, UNLABELLED]]), 5)
    assert np.exp(found_K[:2]) == pytest.approx([5 / 6, 1 / 6])
    assert np.isfinite(found_K).all()
