"""Attention of which the head reads one token: keys and values of all tokens, but one query.

`select_first_token_early` has put the selection of the first token right behind the last attention. The fused operator
projects all tokens three times; three products and MultiHeadAttention in its place leave out all queries but one, and
give the same answer in fewer operations, the more so the longer the text.

Shapes: B batch, T tokens, H hidden size, D size of all queries, keys or values.
"""

from typing import Any

import numpy as np

KNOWN = frozenset({"num_heads", "qkv_hidden_sizes", "mask_filter_value", "scale"})
"""Attributes of the fused operator that MultiHeadAttention has too, or that its inputs say."""
ROLES = ("query", "key", "value")


def ask_for_first_token(model: Any) -> int:
    """Have an attention of which only the first token is read compute that one query alone, in place.

    Returns: 1, or 0 where there is none.
    """
    from onnxruntime.transformers.onnx_model import OnnxModel

    graph = OnnxModel(model)
    makers, readers = graph.output_name_to_node(), graph.input_name_to_nodes()
    for selection in graph.get_nodes_by_op_type("Gather"):
        attention = makers.get(selection.input[0])
        if attention is None or not _takes_first(graph, selection) or len(readers[attention.output[0]]) != 1:
            continue
        if _is_plain(graph, attention):
            selected = _selected(graph, readers[attention.input[0]], selection)
            nodes = _one_query(graph, attention, selected, selection)
            graph.remove_nodes([attention, selection])
            graph.add_nodes(nodes)
            graph.topological_sort()
            return 1
    return 0


def _takes_first(graph: Any, node: Any) -> bool:
    """Whether it takes B1H of BTH."""
    axes = [attribute.i for attribute in node.attribute if attribute.name == "axis"]
    index = graph.get_constant_value(node.input[1])
    return axes == [1] and index is not None and index.tolist() == [0]


def _is_plain(graph: Any, node: Any) -> bool:
    """Fused attention of constant weights with a mask at most: no past, no bias of its scores, none of its variants."""
    return (
        node.op_type == "Attention"
        and {attribute.name for attribute in node.attribute} <= KNOWN
        and not any(node.input[4:])
        and all(graph.get_initializer(name) is not None for name in node.input[1:3])
    )


def _selected(graph: Any, siblings: list[Any], selection: Any) -> str:
    """B1H of the states that attention reads; most models have it already, for the addition behind attention."""
    from onnx import helper

    for node in siblings:
        if node.op_type == "Gather" and node.input[1] == selection.input[1]:
            return str(node.output[0])
    states = graph.output_name_to_node()[selection.input[0]].input[0]
    name = f"{states}_first"
    graph.add_node(helper.make_node("Gather", [states, selection.input[1]], [name], name, axis=1))
    return name


def _one_query(graph: Any, attention: Any, selected: str, selection: Any) -> list[Any]:
    """Nodes that put out what `selection` takes of `attention`; their weights are added to the graph."""
    from onnx import helper, numpy_helper

    states, *weights = attention.input[:3]
    weight_HD, bias_D = (graph.get_constant_value(name) for name in weights)
    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in attention.attribute}
    sizes = given.pop("qkv_hidden_sizes", None) or [weight_HD.shape[1] // 3] * 3
    ends = np.cumsum(sizes)[:-1]
    nodes, names = [], [f"{attention.name}_{role}" for role in ROLES]
    for name, source, weight, bias in zip(
        names, (selected, states, states), np.split(weight_HD, ends, axis=1), np.split(bias_D, ends), strict=True
    ):
        for end, value in (("weight", weight), ("bias", bias)):
            graph.add_initializer(numpy_helper.from_array(np.ascontiguousarray(value), f"{name}_{end}"))
        nodes.append(helper.make_node("MatMul", [source, f"{name}_weight"], [f"{name}_product"], f"{name}_product"))
        nodes.append(helper.make_node("Add", [f"{name}_product", f"{name}_bias"], [name], f"{name}_sum"))
    inputs = [*names, "", *attention.input[3:4]]
    made = helper.make_node(
        "MultiHeadAttention", inputs, list(selection.output), attention.name, domain="com.microsoft", **given
    )
    return [*nodes, made]
