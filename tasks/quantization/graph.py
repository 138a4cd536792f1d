"""The parts of an ONNX graph whose precision can be chosen: constant-weight products and embedding tables."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

MIN_TABLE_ROWS = 16
"""Smaller tables, such as that of the two token types, are a few hundred bytes and stay in float."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A product with a constant weight, or an embedding table."""

    name: str
    """Of the node, or of the table's initializer."""
    kind: Literal["node", "table"]
    weight: str
    """Name of the initializer."""
    axis: Literal[0, 1]
    """Axis that one scale runs along: a column of a weight, a row of a table."""
    integer: bool = True
    """Whether ONNX Runtime has an 8-bit kernel for it; without one only its storage shrinks."""


def read_graph(path: Path) -> Any:
    """The model with its Gemm nodes split into MatMul and Add, and a name for each node.

    ONNX Runtime's quantizer does the former by itself; done first, a node has one name in every precision.
    """
    import onnx
    from onnxruntime.quantization.onnx_model import ONNXModel

    wrapped = ONNXModel(onnx.load(path))
    wrapped.replace_gemm_with_matmul()
    wrapped.clean_initializers()
    for at, node in enumerate(wrapped.model.graph.node):
        node.name = node.name or f"{node.op_type}_{at}"
    return wrapped.model


def find_parts(model: Any) -> tuple[Part, ...]:
    """All parts in the graph's order; a table that several nodes read is one part."""
    matrices = {
        tensor.name: tensor.dims
        for tensor in model.graph.initializer
        if len(tensor.dims) == 2 and tensor.data_type == 1
    }
    parts: dict[str, Part] = {}
    for node in model.graph.node:
        if node.op_type in ("MatMul", "Attention") and node.input[1] in matrices:
            parts[node.name] = Part(
                name=node.name, kind="node", weight=node.input[1], axis=0, integer=_has_kernel(node)
            )
        for table in _tables(node):
            if table in matrices and matrices[table][0] >= MIN_TABLE_ROWS:
                parts[table] = Part(name=table, kind="table", weight=table, axis=1)
    return tuple(parts.values())


def _has_kernel(node: Any) -> bool:
    """QAttention takes query, key and value of one size only."""
    return not any(attribute.name == "qkv_hidden_sizes" for attribute in node.attribute)


def _tables(node: Any) -> list[str]:
    if node.op_type == "EmbedLayerNormalization":
        return list(node.input[2:5])
    rows = node.op_type == "Gather" and all(item.i == 0 for item in node.attribute if item.name == "axis")
    in_order = node.op_type == "Slice"  # positions, as `tasks.lookups` leaves them
    return [node.input[0]] if rows or in_order else []


def read_weights(model: Any, names: set[str]) -> dict[str, Any]:
    """Initializers by name, as numpy arrays."""
    from onnx import numpy_helper

    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name in names}


def replace_initializers(model: Any, names: set[str], tensors: list[Any], nodes: list[Any]) -> None:
    """Drop the initializers in `names`; add `tensors`, and `nodes`, which compute the dropped ones, in front."""
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in names]
    later = list(model.graph.node)
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend([*kept, *tensors])
    model.graph.node.extend([*nodes, *later])


def raise_opset(model: Any, version: int) -> None:
    """Declare at least this version of the standard operators, and the file format that goes with it.

    From 18 to 21 the operators of encoders only gained types, so their nodes stay as they are; older graphs are
    converted.
    """
    from onnx import version_converter

    (standard,) = [item for item in model.opset_import if item.domain in ("", "ai.onnx")]
    if standard.version < 18:
        model.CopyFrom(version_converter.convert_version(model, version))
        return
    standard.version = max(standard.version, version)
    model.ir_version = max(model.ir_version, 10)
