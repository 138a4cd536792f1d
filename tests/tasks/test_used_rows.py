from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.utils import parametrize

from tasks.architecture import load_classifier
from tasks.batches import Rows
from tasks.task_types import SingleLabel
from tasks.training import Recipe, fit, predict_logits
from tasks.used_rows import used_rows_only
from tests.small import write_bert

NUM_USED = 40


@pytest.fixture
def model(tmp_path: Path) -> Any:
    return load_classifier(write_bert(tmp_path / "bert"))


def rows(seed: int) -> Rows:
    rng = np.random.default_rng(seed)
    ids = [[101, *rng.integers(2_000, 2_000 + NUM_USED, size=6).tolist(), 102] for _ in range(48)]
    return Rows(token_ids=ids, type_ids=None, targets={"label": np.array([row[1] % 3 for row in ids])})


def train(model: Any, work: Path, **more: Any) -> None:
    work.mkdir()
    recipe = Recipe(epochs=2, learning_rate=1e-3, batch_size=8, warmup=0.1, weight_decay=0.0, patience=2, seed=0)
    fit(
        model, rows(0), rows(1), task=SingleLabel(), recipe=recipe, pad_id=0, work=work, name="used",
        loss=lambda logits_BC, batch: torch.nn.functional.cross_entropy(logits_BC, batch["label"]), **more,
    )  # fmt: skip


def test_only_the_rows_in_use_are_there_and_the_answers_are_the_same(model: Any) -> None:
    whole = predict_logits(model, rows(0), pad_id=0)
    with used_rows_only(model, [rows(0).token_ids], 0):
        assert len(model.get_input_embeddings().weight) == NUM_USED + 3
        assert np.array_equal(predict_logits(model, rows(0), pad_id=0), whole)
        with pytest.raises(IndexError):
            predict_logits(model, Rows(token_ids=[[101, 9_999, 102]], type_ids=None, targets={}), pad_id=0)
    assert np.array_equal(predict_logits(model, rows(0), pad_id=0), whole)


def test_training_without_the_other_rows_gives_the_same_model(tmp_path: Path) -> None:
    """`after_step` keeps the whole table in training; without weight decay nothing else may differ."""
    few, all_rows = (load_classifier(write_bert(tmp_path / name)) for name in ("few", "all"))
    before = few.get_input_embeddings().weight.detach().clone()
    train(few, tmp_path / "work-few")
    train(all_rows, tmp_path / "work-all", after_step=lambda _step, _num_steps: None)
    for name, weight in all_rows.named_parameters():
        torch.testing.assert_close(few.get_parameter(name), weight, rtol=1e-3, atol=1e-5)
    table = few.get_input_embeddings()
    assert type(table) is torch.nn.Embedding
    moved = (table.weight.detach() - before).abs().sum(dim=1) > 0
    assert moved[2_000 : 2_000 + NUM_USED].all()
    assert not moved[3_000:].any()


def test_a_table_that_is_rounded_in_training_stays_whole(model: Any) -> None:
    class Half(torch.nn.Module):
        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return weight / 2

    parametrize.register_parametrization(model.get_input_embeddings(), "weight", Half())
    table = model.get_input_embeddings()
    with used_rows_only(model, [rows(0).token_ids], 0):
        assert model.get_input_embeddings() is table
