from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tasks import training
from tasks.batches import Rows, collate
from tasks.task_types import SingleLabel
from tasks.training import Recipe, fit

RECIPE = Recipe(
    epochs=4, learning_rate=0.05, batch_size=8, warmup=0.1, weight_decay=0.0, patience=4, seed=0
)  # fmt: skip


class Bag(torch.nn.Module):
    """Mean of embeddings, with dropout so that resuming has randomness to repeat."""

    config = SimpleNamespace(model_type="bag")

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.drop, self.head = torch.nn.Embedding(20, 8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 2)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        mask = attention_mask.unsqueeze(-1)
        mean = (self.embed(input_ids) * mask).sum(1) / mask.sum(1)
        return SimpleNamespace(logits=self.head(self.drop(mean)))

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.embed

    def set_input_embeddings(self, table: torch.nn.Embedding) -> None:
        self.embed = table


def rows(num_rows: int, seed: int) -> Rows:
    """Label 1 where token 7 occurs."""
    rng = np.random.default_rng(seed)
    ids = [rng.integers(1, 20, size=rng.integers(2, 9)).tolist() for _ in range(num_rows)]
    return Rows(token_ids=ids, type_ids=None, targets={"label": np.array([int(7 in row) for row in ids])})


def cross_entropy(logits_BC: torch.Tensor, batch: Any) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(logits_BC, batch["label"])


def train(model: Bag, work: Path, **changes: Any) -> list[training.Epoch]:
    work.mkdir(exist_ok=True)
    recipe = Recipe(**(RECIPE.__dict__ | changes))
    return fit(
        model,
        rows(200, 1),
        rows(50, 2),
        task=SingleLabel(),
        recipe=recipe,
        pad_id=0,
        loss=cross_entropy,
        work=work,
        name="bag",
    )


def weights(model: Bag) -> np.ndarray:
    return torch.cat([weight.flatten() for weight in model.parameters()]).detach().numpy()


def test_training_learns_and_keeps_the_best_epoch(tmp_path: Path) -> None:
    model = Bag()
    history = train(model, tmp_path, epochs=8, patience=8)
    assert history[-1].train_loss < history[0].train_loss
    best = max(epoch.validation_score for epoch in history)
    validation = rows(50, 2)
    found = training.predict_logits(model, validation, pad_id=0).argmax(axis=1)
    assert (found == validation.targets["label"]).mean() == pytest.approx(best)


def test_attention_that_is_planned_for_each_shape_of_a_batch_is_left_out(tmp_path: Path) -> None:
    torch.backends.cuda.enable_cudnn_sdp(enabled=True)
    train(Bag(), tmp_path, epochs=1)
    assert not torch.backends.cuda.cudnn_sdp_enabled()


@pytest.mark.parametrize("dropout", [True, False])
def test_dropout_is_that_of_the_model_or_none(tmp_path: Path, *, dropout: bool) -> None:
    model, seen = Bag(), []

    def loss(logits_BC: torch.Tensor, batch: Any) -> torch.Tensor:
        seen.append(model.training)
        return cross_entropy(logits_BC, batch)

    recipe = Recipe(**(RECIPE.__dict__ | {"epochs": 2}))
    fit(
        model, rows(64, 1), rows(9, 2), task=SingleLabel(), recipe=recipe, pad_id=0, loss=loss, work=tmp_path,
        name="bag", dropout=dropout,
    )  # fmt: skip
    assert set(seen) == {dropout}


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, cut = Bag(), Bag()
    train(whole, tmp_path / "whole")
    save, calls = training._State.save, []

    def killed_after_two(self: Any, *args: Any) -> None:
        save(self, *args)
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(training._State, "save", killed_after_two)
    with pytest.raises(KeyboardInterrupt):
        train(cut, tmp_path / "cut")
    monkeypatch.setattr(training._State, "save", save)
    resumed = Bag()
    history = train(resumed, tmp_path / "cut")
    assert [epoch.epoch for epoch in history] == [1, 2, 3, 4]
    assert np.array_equal(weights(resumed), weights(whole))


def test_an_altered_checkpoint_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(Bag(), tmp_path / "a", epochs=1)
    checkpoint = tmp_path / "a" / training.CHECKPOINT
    checkpoint.write_bytes(checkpoint.read_bytes()[:-10])
    history = train(Bag(), tmp_path / "a", epochs=1)
    assert "altered" in caplog.text
    assert len(history) == 1


def test_training_stops_when_validation_stalls(tmp_path: Path) -> None:
    history = train(Bag(), tmp_path, epochs=30, patience=2, learning_rate=1e-9)
    assert len(history) == 3


def test_a_loss_that_is_no_number_stops_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        fit(
            Bag(), rows(20, 1), rows(10, 2), task=SingleLabel(), recipe=RECIPE, pad_id=0, work=tmp_path, name="bag",
            loss=lambda logits_BC, batch: cross_entropy(logits_BC, batch) * float("nan"),
        )  # fmt: skip


def test_a_model_without_token_types_is_not_given_them() -> None:
    batch = collate(rows(4, 1), [0, 1, 2, 3], pad_id=0)
    plain_BC = training.forward(Bag().eval(), batch)
    with_types_BC = training.forward(Bag().eval(), batch | {"token_type_ids": torch.zeros_like(batch["input_ids"])})
    assert torch.equal(plain_BC, with_types_BC)
