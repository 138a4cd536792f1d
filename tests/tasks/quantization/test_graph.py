"""Which parts of a graph are found, and what is left alone."""

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tasks.quantization.graph import Part, find_parts, raise_opset, read_graph
from tests.tasks.quantization.graphs import make_graph, open_session, random_weights

FEEDS = {"input_ids": np.array([[2, 5, 7, 3]]), "attention_mask": np.array([[1, 1, 1, 1]])}


def test_products_of_constants_and_embedding_tables_are_parts() -> None:
    found = find_parts(make_graph(random_weights()))
    assert [(part.name, part.kind, part.axis) for part in found] == [
        ("embeddings", "table", 1),
        ("first", "node", 0),
        ("second", "node", 0),
        ("classifier", "node", 0),
    ]


def test_a_product_of_two_activations_and_a_tiny_table_are_not() -> None:
    weights = random_weights()
    model = make_graph(weights)
    model.graph.node.append(helper.make_node("MatMul", ["first_BW", "second_BW"], ["product"], "of_activations"))
    weights["embeddings"] = weights["embeddings"][:2]
    assert "of_activations" not in {part.name for part in find_parts(model)}
    assert "embeddings" not in {part.name for part in find_parts(make_graph(weights))}


def test_attention_with_pruned_heads_has_no_integer_kernel() -> None:
    model = make_graph(random_weights())
    for sizes in ({}, {"qkv_hidden_sizes": [32, 32, 64]}):
        node = helper.make_node(
            "Attention", ["x", "first", "bias"], ["y"], "attention", domain="com.microsoft", **sizes
        )
        model.graph.node.append(node)
        expected = Part(name="attention", kind="node", weight="first", axis=0, integer=not sizes)
        assert find_parts(model)[-1] == expected
        del model.graph.node[-1]


def test_a_gemm_is_read_as_a_product_and_no_weight_is_left_over(tmp_path: Path) -> None:
    weights = random_weights()
    model = make_graph(weights)
    bias = numpy_helper.from_array(np.zeros(3, dtype=np.float32), "bias")
    transposed = numpy_helper.from_array(weights["classifier"].T.copy(), "transposed")
    model.graph.initializer.extend([bias, transposed])
    model.graph.node[-1].CopyFrom(helper.make_node("Gemm", ["tanh_BW", "transposed", "bias"], ["logits"], transB=1))
    onnx.save(model, tmp_path / "model.onnx")
    read = read_graph(tmp_path / "model.onnx")
    assert all(node.name for node in read.graph.node)
    assert [part.kind for part in find_parts(read)] == ["table", "node", "node", "node"]
    assert "transposed" not in {tensor.name for tensor in read.graph.initializer}
    np.testing.assert_allclose(*(open_session(graph).run(None, FEEDS)[0] for graph in (model, read)), rtol=1e-5)


def test_an_opset_is_raised_and_never_lowered() -> None:
    for before, asked, after in ((17, 21, 21), (18, 21, 21), (21, 20, 21)):
        model = make_graph(random_weights())
        model.opset_import[0].version = before
        expected = open_session(model).run(None, FEEDS)[0]
        raise_opset(model, asked)
        assert model.opset_import[0].version == after
        np.testing.assert_array_equal(open_session(model).run(None, FEEDS)[0], expected)
