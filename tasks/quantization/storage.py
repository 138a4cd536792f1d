"""Weights stored in 16, 8 or 4 bits and widened by nodes that ONNX Runtime folds away when it loads the model.

The file shrinks and the speed is that of float: on a CPU, kernels that unpack in each run (MatMulNBits) are slower
than float32 at a sentence's size, and float16 arithmetic is emulated. Cast and Mul are used since, unlike
DequantizeLinear, they are folded in front of every operator.

Shapes: K inputs of a product, N its outputs; a block is `BLOCK` values that share a scale.
"""

import math
from typing import Any, Literal

import numpy as np

from tasks.quantization.graph import Floats, Part, raise_opset, read_weights, replace_initializers
from tasks.quantization.levels import Plan

BLOCK = 32
MIN_BLOCK = 8
FLOAT16_MAX = 65504.0
INT4_OPSET = 21
SHRINK = np.linspace(1.0, 0.7, 7)


def store(model: Any, parts: tuple[Part, ...], plan: Plan) -> None:
    """Rewrite the weights of the parts that multiply in float; one that several nodes share gets the most bits."""
    bits: dict[str, tuple[int, Literal[0, 1]]] = {}
    for part in parts:
        if plan[part.name].activations == "float":
            bits[part.weight] = (max(plan[part.name].bits, bits.get(part.weight, (0, 0))[0]), part.axis)
    weights = read_weights(model, set(bits))
    tensors: list[Any] = []
    nodes: list[Any] = []
    for name, (width, axis) in bits.items():
        new_tensors, new_nodes = _stored(name, weights[name], width, axis)
        tensors, nodes = tensors + new_tensors, nodes + new_nodes
    replace_initializers(model, set(bits), tensors, nodes)
    if 4 in {width for width, _ in bits.values()}:
        raise_opset(model, INT4_OPSET)


def _stored(name: str, weight: Floats, bits: int, axis: Literal[0, 1]) -> tuple[list[Any], list[Any]]:
    """Initializers and the nodes that make `name` of them."""
    block = block_size(weight.shape[axis])
    if bits == 16:
        return _stored_16(name, weight)
    if bits == 8 or block < MIN_BLOCK:
        return _stored_blocks(name, weight, 8, axis, weight.shape[axis])
    return _stored_blocks(name, weight, 4, axis, block)


def _stored_16(name: str, weight: Floats) -> tuple[list[Any], list[Any]]:
    from onnx import TensorProto, helper, numpy_helper

    if np.abs(weight).max() > FLOAT16_MAX:
        return [numpy_helper.from_array(weight, name)], []
    half = numpy_helper.from_array(weight.astype(np.float16), f"{name}_float16")
    return [half], [helper.make_node("Cast", [half.name], [name], f"{name}_widen", to=TensorProto.FLOAT)]


def _stored_blocks(
    name: str, weight: Floats, bits: Literal[4, 8], axis: Literal[0, 1], block: int
) -> tuple[list[Any], list[Any]]:
    from onnx import TensorProto, helper, numpy_helper

    integers, scales = quantize_blocks(weight, bits, axis, block)
    stored = integer_tensor(f"{name}_int{bits}", integers, bits)
    scale = numpy_helper.from_array(scales, f"{name}_scale")
    shape = numpy_helper.from_array(np.array(weight.shape, dtype=np.int64), f"{name}_shape")
    wide, wide_scale, blocks = f"{name}_wide", f"{name}_scale_wide", f"{name}_blocks"
    nodes = [
        helper.make_node("Cast", [stored.name], [wide], wide, to=TensorProto.FLOAT),
        helper.make_node("Cast", [scale.name], [wide_scale], wide_scale, to=TensorProto.FLOAT),
        helper.make_node("Mul", [wide, wide_scale], [blocks], blocks),
        helper.make_node("Reshape", [blocks, shape.name], [name], f"{name}_reshape"),
    ]
    return [stored, scale, shape], nodes


def integer_tensor(name: str, integers: Any, bits: Literal[4, 8]) -> Any:
    """An INT8 or a packed INT4 initializer."""
    import ml_dtypes
    from onnx import numpy_helper

    return numpy_helper.from_array(integers.astype(ml_dtypes.int4 if bits == 4 else np.int8), name)


def block_size(length: int) -> int:
    """Values along an axis of `length` that can share a scale: the largest divisor of BLOCK that fits."""
    return math.gcd(length, BLOCK)


def in_blocks(weight: Any, axis: Literal[0, 1], block: int) -> Any:
    """(K, N) -> (K / block, block, N) for axis 0, (K, N / block, block) for axis 1."""
    rows, columns = weight.shape
    shape = (rows // block, block, columns) if axis == 0 else (rows, columns // block, block)
    return weight.reshape(shape)


def quantize_blocks(weight: Floats, bits: Literal[4, 8], axis: Literal[0, 1], block: int) -> tuple[Any, Any]:
    """Symmetric integers in blocks, and float16 scales of the same rank.

    In 4 bits each block takes, of a few clipped ranges, the one with the least squared error: with 15 steps the
    largest value is worth less than the resolution of the others (Nahshan 2021, arXiv:1911.07190).
    """
    along = 1 if axis == 0 else 2
    blocks = in_blocks(weight, axis, block)
    largest = (1 << (bits - 1)) - 1
    limit = np.abs(blocks).max(axis=along, keepdims=True)
    best, best_scales = np.zeros(blocks.shape, dtype=np.int8), np.zeros(limit.shape, dtype=np.float16)
    best_error = np.full(limit.shape, np.inf)
    for shrink in SHRINK if bits == 4 else SHRINK[:1]:
        scales = np.minimum(limit * shrink / largest, FLOAT16_MAX).astype(np.float16)
        wide = scales.astype(np.float32)
        integers = round_to(blocks, wide, largest)
        error = ((integers * wide - blocks) ** 2).sum(axis=along, keepdims=True)
        better = error < best_error
        best, best_scales = np.where(better, integers, best), np.where(better, scales, best_scales)
        best_error = np.minimum(error, best_error)
    return best, best_scales


def round_to(blocks: Any, scales: Any, largest: int) -> Any:
    """`blocks / scales` rounded and cut to [-largest, largest]; a scale of 0 gives 0."""
    safe = np.where(scales == 0, 1, scales)
    return (np.clip(np.rint(blocks / safe), -largest, largest) * (scales != 0)).astype(np.int8)
