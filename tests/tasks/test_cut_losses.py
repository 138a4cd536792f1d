from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tasks.architecture import layer_list, load_classifier, part, set_layers
from tasks.batches import Rows
from tasks.compress.context import Context
from tasks.cut_losses import cut_losses, divergence, first_rows, layer_losses, strongest
from tasks.importance import Importance, importance
from tasks.structure import Kept, LayerSize, cut, input_moments, refit
from tasks.training import predict_logits


@pytest.fixture
def model(context: Context) -> Any:
    return load_classifier(context.teacher.path)


@pytest.fixture
def rows() -> Rows:
    rng = np.random.default_rng(0)
    tokens = [[101, *rng.integers(1000, 2000, size=rng.integers(3, 9)).tolist(), 102] for _ in range(40)]
    return Rows(token_ids=tokens, type_ids=None, targets={"label": rng.integers(3, size=40)})


def answers(model: Any, rows: Rows) -> Any:
    return predict_logits(model, rows, pad_id=0)


def test_the_divergence_is_torchs(rows: Rows) -> None:
    before, after = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    p, q = (torch.log_softmax(torch.tensor(each) / 2, dim=-1) for each in (before, after))
    expected = torch.nn.functional.kl_div(q, p, reduction="batchmean", log_target=True) * 4
    assert divergence(before, after) == pytest.approx(float(expected), rel=1e-5)


def test_a_loss_is_that_of_the_model_cut_and_refitted_there(model: Any, rows: Rows) -> None:
    before = answers(model, rows)
    scores, moments = importance(model, rows, 0, "fisher"), input_moments(model, rows, 0)
    lost = cut_losses(model, scores, moments, rows, 0)
    assert np.array_equal(answers(model, rows), before), "the model is left as it was"
    kept = {1: strongest(scores, 1, LayerSize(num_heads=2, num_neurons=32))}
    refit(model, kept, moments)
    assert divergence(before, answers(model, rows)) == pytest.approx(lost.neurons[1][32], rel=1e-3)
    smaller = load_classifier(Path(model.config.name_or_path))
    set_layers(smaller, [0, 2])
    assert divergence(before, answers(smaller, rows)) == pytest.approx(lost.layers_L[1], rel=1e-3)


def test_losses_never_fall_with_more_cut_and_are_nothing_where_nothing_is(model: Any, rows: Rows) -> None:
    scores, moments = importance(model, rows, 0, "taylor"), input_moments(model, rows, 0)
    lost = cut_losses(model, scores, moments, rows, 0)
    assert [len(curve) for curve in lost.heads] == [3] * 3
    assert [len(curve) for curve in lost.neurons] == [65] * 3
    for curve in [*lost.heads, *lost.neurons]:
        assert curve[-1] == 0 < curve[0]
        assert (np.diff(curve) <= 0).all()


def test_what_gives_nothing_costs_nothing(model: Any, rows: Rows) -> None:
    with torch.no_grad():
        part(layer_list(model)[1][1], "attention_output").weight[:, :16] = 0
    scores, moments = importance(model, rows, 0, "fisher"), input_moments(model, rows, 0)
    lost = cut_losses(model, scores, moments, rows, 0)
    assert lost.heads[1][1] < 1e-6 < lost.heads[0][1]


def test_one_layer_alone_cannot_go(model: Any, rows: Rows) -> None:
    cut(model, {1: Kept(heads=[0, 1], neurons=list(range(64)))})
    assert np.isinf(layer_losses(model, rows, 0)).all()


def test_the_strongest_stay_in_their_order() -> None:
    scores = Importance(heads=[np.array([1.0, 3.0, 2.0])], neurons=[np.arange(5.0)])
    assert strongest(scores, 0, LayerSize(num_heads=2, num_neurons=3)) == Kept(heads=[1, 2], neurons=[2, 3, 4])


def test_the_first_rows_keep_their_targets(rows: Rows) -> None:
    few = first_rows(rows, 3)
    assert len(few) == 3
    assert few.targets["label"].tolist() == rows.targets["label"][:3].tolist()
