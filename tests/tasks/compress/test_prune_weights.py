from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from bento.errors import RetortError, UserError
from bento.manifest import folder_sha256
from tasks import training
from tasks.architecture import Architecture, load_classifier
from tasks.compress import prune_weights
from tasks.compress.context import Context
from tasks.compress.prune_weights import ZEROED, Masked, PruneWeights, linear_modules
from tasks.compress.train_quantized import TrainQuantized
from tasks.sparsity import Masks

QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 4, "every": 2, "rounds": 2, "weight_decay": 0.1}
SHAPE = Architecture(
    model_type="bert", num_layers=3, num_heads=2, head_size=16, hidden_size=32, intermediate_size=64,
    max_positions=32, tokenizer="WordPiece", known_parts=True, teacher_hidden_size=32,
)  # fmt: skip


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    """Matrices and word embeddings, as plain transformers reads them."""
    model = load_classifier(folder)
    found = {name: module.weight.detach() for name, module in linear_modules(model).items()}
    return found | {"embeddings": model.get_input_embeddings().weight.detach()}


def num_zero(weights: dict[str, torch.Tensor]) -> int:
    return sum(int((weight == 0).sum()) for weight in weights.values())


def num_weights(weights: dict[str, torch.Tensor]) -> int:
    return sum(weight.numel() for weight in weights.values())


def without_embeddings(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in weights.items() if name != "embeddings"}


@pytest.mark.parametrize("method", ["one_shot", "gradual", "lottery_ticket"])
def test_the_saved_model_has_exactly_the_zeros_that_were_asked_for(method: Any, context: Context) -> None:
    step = PruneWeights(method=method, **QUICK).run(context.teacher, context)
    weights = weights_of(step.artifact.path)
    matrices = without_embeddings(weights)
    assert num_zero(matrices) == round(0.9 * num_weights(matrices))
    assert num_zero({"table": weights["embeddings"]}) == round(0.9 * weights["embeddings"].numel())


def test_no_zero_is_negative_since_that_would_be_stored_as_a_value(context: Context) -> None:
    step = PruneWeights(method="one_shot", **QUICK).run(context.teacher, context)
    for weight in weights_of(step.artifact.path).values():
        assert not torch.signbit(weight[weight == 0]).any()


def test_biases_norms_classifier_and_unchosen_embeddings_stay_whole(context: Context) -> None:
    step = PruneWeights(sparsity=0.5, embeddings=False, method="one_shot", **QUICK).run(context.teacher, context)
    model = load_classifier(step.artifact.path)
    pruned = {f"{name}.weight" for name in linear_modules(model)}
    others = {name: weight for name, weight in model.base_model.named_parameters() if name not in pruned}
    others["classifier"] = model.classifier.weight
    for name, weight in others.items():
        share = float((weight == 0).float().mean())
        assert share < 0.01, name  # two epochs move each bias away from the 0 it began at


def test_the_folder_is_that_of_a_plain_model(context: Context) -> None:
    step = PruneWeights(method="one_shot", **QUICK).run(context.teacher, context)
    expected = set(load_classifier(context.teacher.path).state_dict())
    from safetensors import safe_open

    with safe_open(step.artifact.path / "model.safetensors", "pt") as file:
        assert set(file.keys()) == expected


@pytest.mark.parametrize("method", ["one_shot", "gradual", "lottery_ticket"])
def test_a_pattern_holds_in_every_group_of_the_saved_matrices(method: Any, context: Context) -> None:
    step = PruneWeights(pattern="2:4", method=method, **QUICK).run(context.teacher, context)
    weights = weights_of(step.artifact.path)
    for name, weight in weights.items():
        num_kept = (weight.reshape(-1, 4) != 0).sum(dim=1)
        assert num_kept.max() <= 2, name
    assert num_zero(without_embeddings(weights)) == num_weights(without_embeddings(weights)) // 2


def test_the_schedule_only_ever_adds_zeros_and_then_holds_them(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []
    zero = Masked.zero

    def watched(self: Masked) -> None:
        zero(self)
        seen.append(self.sparsity)

    monkeypatch.setattr(Masked, "zero", watched)
    PruneWeights(method="gradual", ramp=0.5, **(QUICK | {"epochs": 4})).run(context.teacher, replace(context, seed=101))
    assert seen[0] < 0.01
    assert all(after >= before for before, after in pairwise(seen))
    assert len({round(share, 3) for share in seen}) > 4
    assert len(set(seen[-len(seen) // 3 :])) == 1


def test_an_optimiser_with_momentum_cannot_revive_a_masked_weight(context: Context) -> None:
    pruned = Masked(load_classifier(context.teacher.path), embeddings=False)
    optimizer = torch.optim.AdamW(pruned.model.parameters(), lr=0.1, weight_decay=0.5)

    def step() -> None:
        logits_BC = pruned.model(torch.tensor([[5, 6, 7]]), labels=torch.tensor([1])).loss
        logits_BC.backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    settings = PruneWeights(embeddings=False)
    pruned.set_masks(settings.choose(pruned, 0.9))
    step()
    moved = num_zero(pruned.matrices)
    pruned.zero()
    assert moved < num_zero(pruned.matrices) == round(0.9 * num_weights(pruned.matrices))


def test_masked_weights_get_no_gradient_and_the_others_all_of_theirs(context: Context) -> None:
    inputs = {"input_ids": torch.tensor([[5, 6, 7]]), "labels": torch.tensor([1])}
    pruned = Masked(load_classifier(context.teacher.path), embeddings=False)
    pruned.set_masks(PruneWeights(embeddings=False).choose(pruned, 0.5))
    pruned.model(**inputs).loss.backward()
    plain = load_classifier(context.teacher.path)
    with torch.no_grad():
        for name, module in linear_modules(plain).items():
            module.weight.copy_(pruned.matrices[f"{name}.weight"])
    plain.zero_grad()
    plain(**inputs).loss.backward()
    for name, module in linear_modules(plain).items():
        masked = pruned.modules[f"{name}.weight"]
        kept = ~getattr(masked, ZEROED)
        assert (masked.weight.grad[~kept] == 0).all()
        assert torch.equal(masked.weight.grad[kept], module.weight.grad[kept])


def record_starts(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    """Weights at the start of each training."""
    starts: list[dict[str, torch.Tensor]] = []
    distil_into = prune_weights.distil_into

    def recorded(model: Any, *args: Any, **kwargs: Any) -> Any:
        starts.append({name: weight.detach().clone() for name, weight in model.named_parameters()})
        return distil_into(model, *args, **kwargs)

    monkeypatch.setattr(prune_weights, "distil_into", recorded)
    return starts


def test_a_lottery_ticket_begins_each_round_from_the_first_weights(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = record_starts(monkeypatch)
    settings = PruneWeights(method="lottery_ticket", **QUICK)
    settings.run(context.teacher, replace(context, seed=102))
    first = dict(load_classifier(context.teacher.path).named_parameters())
    shares = []
    for start in starts:
        kept = {name: weight != 0 for name, weight in start.items()}
        assert all(torch.equal(start[name][kept[name]], first[name][kept[name]]) for name in start)
        shares.append(float((~kept["bert.encoder.layer.0.output.dense.weight"]).float().mean()))
    assert len(starts) == settings.rounds + 1
    assert shares[0] < 0.01 < shares[1] < shares[2]


def test_each_round_of_a_lottery_cuts_the_same_share_of_what_is_left(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    choose = PruneWeights.choose

    def recorded(self: PruneWeights, pruned: Masked, sparsity: float) -> Masks:
        asked.append(sparsity)
        return choose(self, pruned, sparsity)

    monkeypatch.setattr(PruneWeights, "choose", recorded)
    PruneWeights(method="lottery_ticket", **(QUICK | {"epochs": 1, "rounds": 3})).run(
        context.teacher, replace(context, seed=103)
    )
    left = [1.0, *(1 - sparsity for sparsity in asked)]
    shares = [after / before for before, after in pairwise(left)]
    assert left[-1] == pytest.approx(0.1)
    assert shares == pytest.approx([shares[0]] * 3)


def kill_at(monkeypatch: pytest.MonkeyPatch, epoch: int) -> Callable[[], None]:
    """Raise KeyboardInterrupt when that many epochs were saved; returns what ends this."""
    save, calls = training._State.save, []

    def killed(self: Any, *args: Any) -> None:
        save(self, *args)
        calls.append(1)
        if len(calls) == epoch:
            raise KeyboardInterrupt

    monkeypatch.setattr(training._State, "save", killed)
    return lambda: monkeypatch.setattr(training._State, "save", save)


@pytest.mark.parametrize(
    ("method", "killed_at"),
    [("one_shot", 1), ("gradual", 1), ("gradual", 3), ("lottery_ticket", 1), ("lottery_ticket", 4)],
)
def test_a_killed_run_goes_on_to_the_same_model(
    method: Any, killed_at: int, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = PruneWeights(method=method, ramp=0.6, **(QUICK | {"epochs": 3 if method != "gradual" else 4}))
    whole = settings.run(context.teacher, context).artifact
    monkeypatch.setenv("RETORT_HOME", str(tmp_path / "home"))
    go_on = kill_at(monkeypatch, killed_at)
    with pytest.raises(KeyboardInterrupt):
        settings.run(context.teacher, context)
    go_on()
    again = settings.run(context.teacher, context)
    assert not again.cached
    assert again.artifact.sha256 == whole.sha256


def test_another_order_of_techniques_starts_from_what_it_is_given(context: Context) -> None:
    before = folder_sha256(context.teacher.path)
    step = PruneWeights(method="one_shot", **QUICK).run(context.teacher, context)
    assert folder_sha256(context.teacher.path) == before
    assert context.teacher.sha256 in step.artifact.parents
    again = PruneWeights(method="one_shot", **(QUICK | {"epochs": 1})).run(step.artifact, context)
    assert num_zero(weights_of(again.artifact.path)) == num_zero(weights_of(step.artifact.path))


@pytest.mark.parametrize("fields", [{"pattern": "2:4", "sparsity": 0.5}, {"pattern": "4:2"}, {"sparsity": 1.0}])
def test_settings_that_cannot_be_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"got both|expected N:M|less than or equal to 0.99"):
        PruneWeights(**fields)


def test_a_pattern_that_does_not_divide_the_matrices_is_refused_before_any_training() -> None:
    assert PruneWeights(pattern="2:4").check(SHAPE) == SHAPE
    with pytest.raises(UserError, match=r"divide the sizes 32, 64 .* got 3:7; take groups of 32 or a divisor"):
        PruneWeights(pattern="3:7").check(SHAPE)


def test_a_pattern_has_to_divide_what_pruned_heads_left() -> None:
    with pytest.raises(UserError, match=r"divide the sizes 32, 24, 64 .* got 2:16; take groups of 8"):
        PruneWeights(pattern="2:16").check(replace(SHAPE, num_heads=3, head_size=8))
    searched = replace(SHAPE, num_heads=4, head_size=8, searched=frozenset({"heads", "neurons"}))
    with pytest.raises(UserError, match=r"divide the sizes 32, 8, 16 .* got 2:16"):
        PruneWeights(pattern="2:16").check(searched)
    assert PruneWeights(pattern="2:8").check(searched) == searched


@pytest.mark.parametrize("technique", [PruneWeights, TrainQuantized])
@pytest.mark.parametrize(
    ("settings", "shape", "expected"),
    [
        ({"relations": 1.0, "relation_heads": 7}, {}, r"relation_heads: expected a divisor of the sizes 32 and 32"),
        ({"relations": 1.0}, {"searched": frozenset({"heads"})}, r"relations: expected 0 behind"),
        ({"relations": 1.0}, {"model_type": "linformer"}, r"relations: expected 0, .* are slots"),
        ({"hidden": 1.0}, {"model_type": "albert", "known_parts": False}, r"with hidden or relations: .* got 'albert'"),
    ],
)
def test_what_cannot_be_learnt_of_the_teacher_is_refused_before_any_training(
    technique: Any, settings: dict[str, Any], shape: dict[str, Any], expected: str
) -> None:
    with pytest.raises(UserError, match=expected):
        technique(**settings).check(replace(SHAPE, **shape))


def test_too_few_zeros_in_the_end_are_an_error(context: Context) -> None:
    pruned = Masked(load_classifier(context.teacher.path), embeddings=True)
    with pytest.raises(RetortError, match=r"sparsity of 0.9000 .* got 0.0"):
        PruneWeights()._check_zeros(pruned)
