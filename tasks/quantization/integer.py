"""Products in 8-bit integers: ONNX Runtime's dynamic quantizer, and constants in the place of what it would measure.

Weights are quantized per channel, activations per tensor (Jacob 2018, arXiv:1712.05877). A static graph is the
dynamic one with each DynamicQuantizeLinear replaced by QuantizeLinear of a calibrated scale and zero point; both end
in the same fused integer kernels.

Shapes: K inputs of a product, N its outputs, G blocks of a column.
"""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tasks.quantization.graph import Part, raise_opset, read_weights, replace_initializers
from tasks.quantization.levels import Plan
from tasks.quantization.storage import INT4_OPSET, MIN_BLOCK, block_size, in_blocks, integer_tensor

Range = tuple[float, float]
"""Lowest and highest value of an activation."""

WEIGHT_ZERO_POINT = {"MatMulInteger": 3, "QAttention": 7}
"""Operator -> which of its inputs that is."""
INT4_MAX = 7
MAX_MULTIPLIER = 18  # 7 * 18 = 126 is the last product within 8 bits


def to_integer(
    model: Any, parts: tuple[Part, ...], plan: Plan, ranges: Mapping[str, Range], *, per_channel: bool
) -> Any:
    """The graph whose planned parts multiply in integers; `ranges` holds those of the static ones' inputs."""
    planned = {part.name: plan[part.name] for part in parts if plan[part.name].activations != "float"}
    if not planned:
        return model
    integer = quantize_dynamic(model, list(planned), per_channel=per_channel)
    drop_zero_points(integer)
    users = {f"{name}_quant": level for name, level in planned.items()}
    static = {name for name, level in users.items() if level.activations == "static"}
    fix_ranges(integer, static, ranges)
    fuse_products(integer, static)
    narrow(integer, {name for name, level in users.items() if level.bits == 4})
    return integer


def quantize_dynamic(model: Any, nodes: list[str], *, per_channel: bool) -> Any:
    """ONNX Runtime's dynamic int8 of the named nodes."""
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization import quantize_dynamic as run

    with _muted(logging.getLogger()), _temporary_path() as out:
        # DefaultTensorType tells the shape inference that unnamed types are float
        run(
            model,
            out,
            op_types_to_quantize=["MatMul", "Attention"],
            nodes_to_quantize=nodes,
            per_channel=per_channel,
            reduce_range=False,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True, "DefaultTensorType": onnx.TensorProto.FLOAT},
        )
        return onnx.load(out)


def drop_zero_points(model: Any) -> None:
    """Leave out the zero points of weights, which are 0 since weights are symmetric: where they are given, a kernel
    corrects each column for them in every run."""
    from onnxruntime.quantization.onnx_model import ONNXModel

    found = [(node, at) for node in model.graph.node if (at := WEIGHT_ZERO_POINT.get(node.op_type))]
    points = read_weights(model, {node.input[at] for node, at in found if len(node.input) > at})
    for node, at in found:
        if len(node.input) > at and node.input[at] in points and not points[node.input[at]].any():
            node.input[at] = ""
    ONNXModel(model).clean_initializers()


def scale_and_zero_point(low: float, high: float) -> tuple[Any, Any]:
    """uint8 parameters of [low, high], widened to hold 0 exactly, which padding and bias-free sums rely on."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32((high - low) / 255) or np.float32(1)
    return scale, np.uint8(np.clip(np.rint(-low / scale), 0, 255))


def fix_ranges(model: Any, static: set[str], ranges: Mapping[str, Range]) -> None:
    """Give each activation that only `static` nodes read a constant scale and zero point."""
    from onnx import helper, numpy_helper

    dynamic = {
        name for node in model.graph.node if _is_product(node) and node.name not in static for name in node.input
    }
    for node in model.graph.node:
        if node.op_type != "DynamicQuantizeLinear" or node.output[0] in dynamic:
            continue
        activation, (quantized, *constants) = node.input[0], node.output
        values = scale_and_zero_point(*ranges[activation])
        model.graph.initializer.extend(map(numpy_helper.from_array, values, constants))
        node.CopyFrom(helper.make_node("QuantizeLinear", [activation, *constants], [quantized], node.name))


def fuse_products(model: Any, names: set[str]) -> None:
    """Make one MatMulIntegerToFloat of each of these MatMulInteger nodes and what follows it.

    ONNX Runtime does so by itself where the scale comes from DynamicQuantizeLinear, but it does not see the pattern
    once the product of two constant scales is folded; four nodes in the place of one cost more than the ranges saved.
    """
    graph = model.graph
    maker = {output: node for node in graph.node for output in node.output}
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    constants = {tensor.name for tensor in graph.initializer}
    gone: set[int] = set()
    for node in list(graph.node):
        if node.name not in names or node.op_type != "MatMulInteger":
            continue
        (cast,) = readers[node.output[0]]
        (scaled,) = readers[cast.output[0]]
        scales = maker[next(name for name in scaled.input if name != cast.output[0])]
        last, bias = scaled, ""
        following = readers.get(scaled.output[0], [])
        if len(following) == 1 and following[0].op_type == "Add":
            added = [name for name in following[0].input if name in constants]
            last, bias = (following[0], added[0]) if added else (last, bias)
        inputs = [*node.input[:2], *scales.input, *node.input[2:], *([bias] if bias else [])]
        gone |= {id(one) for one in (cast, scaled, scales, last)} - {id(node)}
        node.CopyFrom(_product_to_float(node.name, inputs, last.output[0]))
    kept = [node for node in graph.node if id(node) not in gone]
    del graph.node[:]
    graph.node.extend(kept)


def _product_to_float(name: str, inputs: list[str], output: str) -> Any:
    from onnx import helper

    return helper.make_node("MatMulIntegerToFloat", inputs, [output], name, domain="com.microsoft")


def _is_product(node: Any) -> bool:
    return node.op_type in ("MatMulInteger", "QAttention")


def narrow(model: Any, names: set[str]) -> None:
    """Store the 8-bit weights of these nodes in 4 bits, unpacked to 8 when the model is loaded.

    Each block has a whole-number multiplier over its channel's 8-bit scale (QServe's progressive groups, Lin 2024,
    arXiv:2405.04532), so the unpacked values are 8-bit integers and the fast kernels stay.
    """
    chosen = {node.input[1] for node in model.graph.node if node.name in names}
    weights = {
        name: weight for name, weight in read_weights(model, chosen).items() if block_size(weight.shape[0]) >= MIN_BLOCK
    }
    if not weights:
        return
    tensors: list[Any] = []
    nodes: list[Any] = []
    for name, weight in weights.items():
        new_tensors, new_nodes = _narrowed(name, weight)
        tensors, nodes = tensors + new_tensors, nodes + new_nodes
    replace_initializers(model, set(weights), tensors, nodes)
    raise_opset(model, INT4_OPSET)


def _narrowed(name: str, weight_KN: Any) -> tuple[list[Any], list[Any]]:
    """Initializers, and the nodes that make the int8 `name` of them."""
    from onnx import TensorProto, helper, numpy_helper

    integers, multipliers = narrow_blocks(weight_KN)
    stored = integer_tensor(f"{name}_int4", integers, 4)
    factor = numpy_helper.from_array(multipliers, f"{name}_multiplier")
    shape = numpy_helper.from_array(np.array(weight_KN.shape, dtype=np.int64), f"{name}_shape")
    wide, wide_factor, blocks, eight = (f"{name}_{end}" for end in ("wide", "factor_wide", "blocks", "eight"))
    nodes = [
        helper.make_node("Cast", [stored.name], [wide], wide, to=TensorProto.INT32),
        helper.make_node("Cast", [factor.name], [wide_factor], wide_factor, to=TensorProto.INT32),
        helper.make_node("Mul", [wide, wide_factor], [blocks], blocks),
        helper.make_node("Cast", [blocks], [eight], eight, to=TensorProto.INT8),
        helper.make_node("Reshape", [eight, shape.name], [name], f"{name}_reshape"),
    ]
    return [stored, factor, shape], nodes


def narrow_blocks(weight_KN: Any) -> tuple[Any, Any]:
    """int8 -> 4-bit integers (G, block, N) and uint8 multipliers (G, 1, N) with the least squared error a block."""
    blocks = in_blocks(weight_KN.astype(np.int32), 0, block_size(weight_KN.shape[0]))
    best = np.zeros_like(blocks)
    best_multiplier = np.ones((len(blocks), 1, blocks.shape[2]), dtype=np.uint8)
    best_error = np.full(best_multiplier.shape, np.inf)
    for multiplier in range(1, MAX_MULTIPLIER + 1):
        integers = np.clip(np.rint(blocks / multiplier), -INT4_MAX, INT4_MAX).astype(np.int32)
        error = ((integers * multiplier - blocks) ** 2).sum(axis=1, keepdims=True)
        better = error < best_error
        best, best_error = np.where(better, integers, best), np.minimum(error, best_error)
        best_multiplier[better] = multiplier
    return best, best_multiplier


@contextlib.contextmanager
def _temporary_path() -> Iterator[str]:
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        yield str(Path(folder) / "model.onnx")


@contextlib.contextmanager
def _muted(logger: logging.Logger) -> Iterator[None]:
    """ONNX Runtime's quantizer writes a warning a node to the root logger; only errors matter here."""
    level = logger.level
    logger.setLevel("ERROR")
    try:
        yield
    finally:
        logger.setLevel(level)
