"""Stored weights against numpy, and that ONNX Runtime folds what widens them."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from tasks.quantization.graph import find_parts
from tasks.quantization.levels import FLOAT16, Level, Plan
from tasks.quantization.storage import BLOCK, block_size, quantize_blocks, store
from tests.tasks.quantization.graphs import make_graph, open_session, random_weights

FEEDS = {"input_ids": np.array([[2, 5, 7, 3]]), "attention_mask": np.array([[1, 1, 1, 1]])}


def stored(level: Level, weights: dict[str, Any]) -> tuple[onnx.ModelProto, Plan]:
    model = make_graph(weights)
    plan = {part.name: level for part in find_parts(model)}
    store(model, find_parts(model), plan)
    onnx.checker.check_model(model)
    return model, plan


def weight_bytes(model: onnx.ModelProto) -> int:
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer)


@pytest.mark.parametrize(("bits", "limit"), [(16, 2e-3), (8, 5e-2), (4, 0.3)])
def test_answers_stay_near_and_bytes_fall(bits: Any, limit: float) -> None:
    weights = random_weights()
    plain = make_graph(weights)
    model, _ = stored(Level(activations="float", bits=bits), weights)
    expected, found = (open_session(graph).run(None, FEEDS)[0] for graph in (plain, model))
    assert np.abs(found - expected).max() < limit * np.abs(expected).max()
    assert weight_bytes(model) < weight_bytes(plain) * (bits + 1.5) / 32


def test_eight_bits_are_off_by_half_a_step_at_most() -> None:
    weight = random_weights()["first"]
    integers, scales = quantize_blocks(weight, 8, 0, len(weight))
    assert integers.shape == (1, *weight.shape)
    assert np.abs(integers).max() == 127
    error = np.abs(integers[0] * scales[0].astype(np.float32) - weight)
    assert (error <= scales[0].astype(np.float32) * 0.51).all()


def test_four_bits_lose_less_than_with_the_whole_range() -> None:
    weight = random_weights()["first"]
    integers, scales = quantize_blocks(weight, 4, 0, BLOCK)
    blocks = weight.reshape(integers.shape)
    found = ((integers * scales.astype(np.float32) - blocks) ** 2).sum()
    whole = np.abs(blocks).max(axis=1, keepdims=True) / 7
    assert found < ((np.rint(blocks / whole) * whole - blocks) ** 2).sum()
    assert np.abs(integers).max() <= 7


def test_the_graph_computes_what_numpy_does_with_the_same_integers() -> None:
    weights = random_weights()
    integers, scales = quantize_blocks(weights["first"], 4, 0, BLOCK)
    rounded = (integers * scales.astype(np.float32)).reshape(weights["first"].shape)
    model = make_graph(weights)
    plan = {part.name: Level(activations="float", bits=4) for part in find_parts(model) if part.name == "first"}
    store(model, tuple(part for part in find_parts(model) if part.name == "first"), plan)
    by_hand = make_graph(weights | {"first": rounded})
    np.testing.assert_array_equal(*(open_session(graph).run(None, FEEDS)[0] for graph in (model, by_hand)))


@pytest.mark.parametrize("level", [FLOAT16, *(Level(activations="float", bits=bits) for bits in (8, 4))])
def test_loading_folds_the_widening_away(level: Level, tmp_path: Path) -> None:
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
    options.log_severity_level = 3
    model, _ = stored(level, random_weights())
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    left = [node.op_type for node in onnx.load(tmp_path / "loaded.onnx").graph.node]
    assert left.count("MatMul") == 3
    assert left.count("Cast") == 1  # of the mask
    assert "Reshape" not in left


def test_a_weight_beyond_float16_stays_in_float32() -> None:
    weights = random_weights()
    weights["first"][0, 0] = 1e6
    model, _ = stored(FLOAT16, weights)
    kept = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    np.testing.assert_array_equal(kept["first"], weights["first"])
    assert kept["second_float16"].dtype == np.float16


def test_a_column_of_zeros_stays_zero() -> None:
    weight = random_weights()["first"]
    weight[:, 3] = 0
    for bits in (4, 8):
        integers, scales = quantize_blocks(weight, bits, 0, BLOCK)  # type: ignore[arg-type]
        assert not (integers * scales)[:, :, 3].any()


def test_a_weight_that_two_nodes_share_gets_the_more_exact_of_their_precisions() -> None:
    model = make_graph(random_weights())
    (second,) = [node for node in model.graph.node if node.name == "second"]
    second.input[1] = "first"
    plan = {part.name: FLOAT16 for part in find_parts(model)} | {"second": Level(activations="float", bits=4)}
    store(model, find_parts(model), plan)
    names = {tensor.name for tensor in model.graph.initializer}
    assert "first_float16" in names
    assert "first_int4" not in names


@pytest.mark.parametrize(("length", "block"), [(384, 32), (312, 8), (48, 16), (77, 1)])
def test_blocks_divide_the_axis(length: int, block: int) -> None:
    assert block_size(length) == block


def test_an_axis_that_no_block_divides_is_stored_in_eight_bits() -> None:
    weights = random_weights()
    weights["embeddings"] = weights["embeddings"][:, :63]
    weights["first"] = weights["first"][:63]
    model, _ = stored(Level(activations="float", bits=4), weights)
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert types["first_int8"] == onnx.TensorProto.INT8
    assert types["second_int4"] == onnx.TensorProto.INT4
    assert np.isfinite(open_session(model).run(None, FEEDS)[0]).all()
