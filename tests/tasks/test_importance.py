import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tasks.architecture import layer_list, load_classifier, part
from tasks.batches import Rows, collate
from tasks.compress.context import Context
from tasks.importance import importance
from tasks.training import forward

STEP = 1e-3


@pytest.fixture
def model(context: Context) -> Any:
    return load_classifier(context.teacher.path).double()


@pytest.fixture
def rows() -> Rows:
    """Sentences of several lengths, so that some are padded."""
    rng = np.random.default_rng(0)
    tokens = [[101, *rng.integers(1000, 2000, size=length).tolist(), 102] for length in (3, 7, 5)]
    return Rows(token_ids=tokens, type_ids=None, targets={"label": np.array([0, 2, 1])})


def row_losses(model: Any, rows: Rows) -> Any:
    batch = collate(rows, range(len(rows)), pad_id=0)
    with torch.no_grad():
        return torch.nn.functional.cross_entropy(forward(model, batch), batch["label"], reduction="none").numpy()


def difference(model: Any, rows: Rows, scale: Callable[[Any, float], None]) -> Any:
    """Each row's derivative of the loss in the factor that `scale` puts on a part of a copy of the model."""
    ends = []
    for factor in (1 + STEP, 1 - STEP):
        changed = copy.deepcopy(model)
        scale(changed, factor)
        ends.append(row_losses(changed, rows))
    return (ends[0] - ends[1]) / (2 * STEP)


def scale_columns(layer: int, role: Any, columns: slice) -> Callable[[Any, float], None]:
    def scale(model: Any, factor: float) -> None:
        with torch.no_grad():
            part(layer_list(model)[1][layer], role).weight[:, columns] *= factor

    return scale


def test_scores_are_those_of_finite_differences(model: Any, rows: Rows) -> None:
    fisher, taylor = (importance(model, rows, 0, method) for method in ("fisher", "taylor"))
    for layer in range(3):
        for head in range(2):
            g = difference(model, rows, scale_columns(layer, "attention_output", slice(16 * head, 16 * head + 16)))
            assert fisher.heads[layer][head] == pytest.approx((g**2).mean(), rel=1e-4)
            assert taylor.heads[layer][head] == pytest.approx(abs(g).mean(), rel=1e-4)
        for neuron in (0, 31, 63):
            g = difference(model, rows, scale_columns(layer, "feed_forward_out", slice(neuron, neuron + 1)))
            assert fisher.neurons[layer][neuron] == pytest.approx((g**2).mean(), rel=1e-4, abs=1e-12)
            assert taylor.neurons[layer][neuron] == pytest.approx(abs(g).mean(), rel=1e-4, abs=1e-9)


def test_a_head_and_a_neuron_that_give_nothing_score_nothing(model: Any, rows: Rows) -> None:
    scale_columns(1, "attention_output", slice(16, 32))(model, 0.0)
    scale_columns(2, "feed_forward_out", slice(7, 8))(model, 0.0)
    found = importance(model, rows, 0, "fisher")
    assert found.heads[1][1] == 0 < found.heads[1][0]
    assert np.flatnonzero(found.neurons[2] == 0).tolist() == [7]


def test_the_model_is_left_as_it_was(model: Any, rows: Rows) -> None:
    before = row_losses(model, rows)
    importance(model, rows, 0, "fisher")
    assert np.array_equal(row_losses(model, rows), before)
    assert all(weight.grad is None for weight in model.parameters())
