from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from bento.predictor import Predictor
from tasks.architecture import load_classifier
from tasks.compress.context import Context
from tasks.compress.export import Export
from tasks.compress.quantize import Quantize
from tasks.compress.train_quantized import TrainQuantized, _round_input, keep_rounded, round_values, round_weights

TEXTS = ["the car over there is red", "a blue lamp was seen", "green"]


def float_logits(folder: Path) -> np.ndarray:
    """In float32, without the 16-bit products of training."""
    inputs = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        return np.asarray(load_classifier(folder)(**inputs).logits)


def test_eight_bits_round_each_row_to_at_most_255_steps() -> None:
    weight = torch.randn(5, 40)
    found = round_values(weight, 8, half_scales=False)
    step = weight.abs().amax(dim=1, keepdim=True) / 127
    assert torch.allclose(found, (weight / step).round() * step)


def test_four_bits_round_each_block_to_15_steps() -> None:
    found = round_values(torch.randn(4, 96), 4, half_scales=True)
    assert all(len(block.unique()) <= 15 for block in found.reshape(-1, 32))
    assert len(found[0].unique()) > 15, "blocks of a row have scales of their own"


def test_rounding_twice_changes_nothing() -> None:
    for bits in (4, 8):
        once = round_values(torch.randn(6, 64), bits, half_scales=True)
        assert torch.allclose(round_values(once, bits, half_scales=True), once, atol=1e-7)


def test_the_gradient_passes_through_the_rounding() -> None:
    weight = torch.randn(2, 32, requires_grad=True)
    (round_values(weight, 4, half_scales=True) * torch.arange(32)).sum().backward()
    assert weight.grad is not None
    assert torch.equal(weight.grad, torch.arange(32).float().expand(2, 32))


def test_inputs_are_rounded_to_256_steps_that_hold_zero() -> None:
    (found,) = _round_input(None, (torch.linspace(-1, 3, 10_000),))
    assert len(found.unique()) <= 256
    assert (found == 0).any()
    assert float((found - torch.linspace(-1, 3, 10_000)).abs().max()) <= 4 / 255


def test_removing_the_rounding_leaves_the_same_answers(context: Context) -> None:
    model = load_classifier(context.teacher.path)
    rounded = round_weights(model, weight_bits=4, embedding_bits=4, half_scales=True)
    ids = torch.tensor([[101, 2482, 2003, 2417, 102]])
    before = model(ids).logits
    keep_rounded(rounded)
    assert torch.equal(model(ids).logits, before)
    assert not any("parametrizations" in name for name, _ in model.named_parameters())


@pytest.mark.parametrize("bits", [4, 8])
def test_what_was_trained_on_the_grid_is_stored_without_a_further_error(
    context: Context, bits: int, tmp_path: Path
) -> None:
    settings = TrainQuantized(weight_bits=bits, embedding_bits=bits, activations=False, epochs=1)
    trained = settings.run(context.teacher, context).artifact
    exported = Export(fuse=False).run(trained, context).artifact
    stored = Quantize(scheme="weight_only", weight_bits=bits, embedding_bits=bits).run(exported, context).artifact
    expected_NC = float_logits(trained.path)
    plain = Quantize(scheme="weight_only", weight_bits=bits, embedding_bits=bits).run(
        Export(fuse=False).run(context.teacher, context).artifact, context
    )
    error = np.abs(Predictor(stored.path).predict_logits(TEXTS) - expected_NC).max()
    untrained = np.abs(Predictor(plain.artifact.path).predict_logits(TEXTS) - float_logits(context.teacher.path)).max()
    assert error < 0.001 * untrained
