"""Integer graphs: the static one against the dynamic one, and 4-bit weights against what they unpack to."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from tasks.quantization.graph import find_parts
from tasks.quantization.integer import (
    drop_zero_points,
    narrow_blocks,
    quantize_dynamic,
    scale_and_zero_point,
    to_integer,
)
from tasks.quantization.levels import Level
from tests.tasks.quantization.graphs import make_graph, open_session, random_weights

FEEDS = {"input_ids": np.array([[2, 5, 7, 3]]), "attention_mask": np.array([[1, 1, 1, 1]])}
RANGES = {"sum_BW": (-3.0, 3.0), "relu_BW": (0.0, 3.0), "tanh_BW": (-1.0, 1.0)}
STATIC, DYNAMIC = (Level(activations=activations, bits=8) for activations in ("static", "dynamic"))  # type: ignore[arg-type]


def integer(levels: Any, weights: dict[str, Any] | None = None) -> onnx.ModelProto:
    model = make_graph(weights or random_weights())
    parts = find_parts(model)
    plan = {part.name: levels if isinstance(levels, Level) else levels[part.name] for part in parts}
    nodes = tuple(part for part in parts if part.kind == "node")
    return to_integer(model, nodes, plan, RANGES, per_channel=True)


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("level", [STATIC, DYNAMIC], ids=["static", "dynamic"])
def test_integer_answers_are_near_the_float_ones(level: Level) -> None:
    expected = open_session(make_graph(random_weights())).run(None, FEEDS)[0]
    found = open_session(integer(level)).run(None, FEEDS)[0]
    assert 0 < np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


def test_a_static_graph_measures_nothing() -> None:
    assert operators(integer(DYNAMIC)).count("DynamicQuantizeLinear") == 3
    assert "DynamicQuantizeLinear" not in operators(integer(STATIC))
    assert operators(integer(STATIC)).count("QuantizeLinear") == 3


@pytest.mark.parametrize("level", [STATIC, DYNAMIC], ids=["static", "dynamic"])
def test_no_product_corrects_for_a_zero_point_that_is_0(level: Level) -> None:
    model = integer(level)
    places = {"MatMulInteger": 3, "MatMulIntegerToFloat": 5}
    products = [node for node in model.graph.node if node.op_type in places]
    assert len(products) == 3
    assert not any(name for node in products for name in node.input[places[node.op_type] :][:1])
    read = {name for node in model.graph.node for name in node.input}
    assert {tensor.name for tensor in model.graph.initializer} <= read


def test_a_zero_point_that_is_not_0_stays() -> None:
    model = quantize_dynamic(make_graph(random_weights()), ["first"], per_channel=True)
    (product,) = [node for node in model.graph.node if node.op_type == "MatMulInteger"]
    (point,) = [tensor for tensor in model.graph.initializer if tensor.name == product.input[3]]
    point.CopyFrom(numpy_helper.from_array(np.ones_like(numpy_helper.to_array(point)), point.name))
    drop_zero_points(model)
    assert product.input[3] == point.name


def test_a_relu_in_front_of_a_static_product_takes_no_node_of_its_own(tmp_path: Path) -> None:
    """ONNX Runtime leaves it out when it loads the graph, since the range begins at 0."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
    model = integer(STATIC)
    assert "Relu" in operators(model)
    ort.InferenceSession(model.SerializeToString(), options)
    assert "Relu" not in operators(onnx.load(tmp_path / "loaded.onnx"))


def test_parts_can_differ() -> None:
    plan = {"first": STATIC, "second": DYNAMIC, "classifier": Level(activations="float", bits=16)}
    found = operators(integer(plan | {"embeddings": STATIC}))
    assert [found.count(name) for name in ("QuantizeLinear", "DynamicQuantizeLinear", "MatMul")] == [1, 1, 1]


def test_an_activation_that_a_dynamic_product_reads_too_stays_dynamic() -> None:
    model = make_graph(random_weights())
    (second,) = [node for node in model.graph.node if node.name == "second"]
    second.input[0] = "sum_BW"
    plan = {"first": STATIC, "second": DYNAMIC, "classifier": STATIC}
    parts = tuple(part for part in find_parts(model) if part.kind == "node")
    found = operators(to_integer(model, parts, plan, RANGES, per_channel=True))
    assert [found.count(name) for name in ("QuantizeLinear", "DynamicQuantizeLinear")] == [1, 1]


@pytest.mark.parametrize("limits", [(-1.5, 3.0), (0.5, 2.0), (-4.0, -1.0), (0.0, 0.0)])
def test_a_range_holds_zero_exactly_and_its_ends_to_half_a_step(limits: tuple[float, float]) -> None:
    scale, zero_point = scale_and_zero_point(*limits)
    for value in (0.0, *limits):
        step = np.clip(np.rint(value / scale) + int(zero_point), 0, 255)
        assert (step - int(zero_point)) * scale == pytest.approx(value, abs=0 if value == 0 else float(scale) * 0.51)


def test_four_bit_blocks_unpack_to_eight_bit_integers() -> None:
    weight_KN = np.random.default_rng(0).integers(-127, 128, size=(64, 8)).astype(np.int8)
    integers, multipliers = narrow_blocks(weight_KN)
    unpacked = integers * multipliers.astype(np.int32)
    assert np.abs(integers).max() <= 7
    assert np.abs(unpacked).max() <= 127
    error = np.abs(unpacked.reshape(64, 8) - weight_KN)
    assert error.mean() < 5  # steps of up to 18 have a mean error of 4.5


def test_multiples_of_a_whole_number_are_kept_exactly() -> None:
    weight_KN = (np.random.default_rng(0).integers(-7, 8, size=(32, 8)) * 5).astype(np.int8)
    integers, multipliers = narrow_blocks(weight_KN)
    np.testing.assert_array_equal((integers * multipliers).reshape(32, 8), weight_KN)


def test_a_four_bit_graph_answers_as_the_integers_it_unpacks_to(tmp_path: Path) -> None:
    narrow = integer(Level(activations="dynamic", bits=4))
    wide = integer(DYNAMIC)
    for tensor in wide.graph.initializer:
        if tensor.name.endswith("_quantized"):
            weight_KN = numpy_helper.to_array(tensor)
            integers, multipliers = narrow_blocks(weight_KN)
            unpacked = (integers * multipliers).reshape(weight_KN.shape).astype(np.int8)
            tensor.CopyFrom(numpy_helper.from_array(unpacked, tensor.name))
    np.testing.assert_array_equal(*(open_session(graph).run(None, FEEDS)[0] for graph in (narrow, wide)))
    options = ort.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "loaded.onnx"), 3
    ort.InferenceSession(narrow.SerializeToString(), options, providers=["CPUExecutionProvider"])
    assert operators(onnx.load(tmp_path / "loaded.onnx")).count("DynamicQuantizeMatMul") == 3
