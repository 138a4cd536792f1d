"""The last attention of exported graphs: one query, the same answer."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnxruntime import InferenceSession

from tasks.compress.export import fuse, write_graph
from tasks.first_query import ask_for_first_token
from tests.small import write_bert

STATES = np.random.default_rng(1).normal(size=(3, 5, 8)).astype(np.float32)


def graph(index: int = 0, *, read_twice: bool = False, sizes: list[int] | None = None, **attributes: Any) -> Any:
    """Fused attention of two heads on BTH, then one token of it; `read_twice` also puts out the whole."""
    rng = np.random.default_rng(0)
    width = sum(sizes or [8, 8, 8])
    tensors = [
        numpy_helper.from_array(rng.normal(size=(8, width)).astype(np.float32), "weight"),
        numpy_helper.from_array(rng.normal(size=width).astype(np.float32), "bias"),
        numpy_helper.from_array(np.array([index], dtype=np.int64), "index"),
    ]
    attributes |= {"qkv_hidden_sizes": sizes} if sizes else {}
    nodes = [
        helper.make_node(
            "Attention", ["states", "weight", "bias", "ends"], ["seen"], "attention", domain="com.microsoft",
            num_heads=2, **attributes,
        ),
        helper.make_node("Gather", ["seen", "index"], ["chosen"], axis=1),
    ]  # fmt: skip
    outputs = [helper.make_tensor_value_info("chosen", 1, None)]
    if read_twice:
        outputs.append(helper.make_tensor_value_info("all", 1, None))
        nodes.append(helper.make_node("Identity", ["seen"], ["all"]))
    inputs = [
        helper.make_tensor_value_info("states", 1, ["B", "T", 8]), helper.make_tensor_value_info("ends", 6, ["B"])
    ]  # fmt: skip
    made = helper.make_graph(nodes, "g", inputs, outputs, tensors)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=9)


def run(model: Any) -> Any:
    feeds = {"states": STATES, "ends": np.array([5, 3, 1], dtype=np.int32)}
    return InferenceSession(model.SerializeToString()).run(None, feeds)[0]


def operators(model: Any) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("sizes", [None, [4, 4, 12]], ids=["even", "uneven"])
def test_one_query_answers_as_all_do(sizes: list[int] | None) -> None:
    model = graph(sizes=sizes)
    before = run(model)
    assert ask_for_first_token(model) == 1
    assert "Attention" not in operators(model)
    assert operators(model).count("MatMul") == 3
    after = run(model)
    assert before.shape == after.shape == (3, 1, 12 if sizes else 8)
    assert np.allclose(before, after, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [{"index": 1}, {"read_twice": True}, {"unidirectional": 1}],
    ids=["another token", "all tokens read", "a variant"],
)
def test_attention_that_is_needed_whole_stays(settings: dict[str, Any]) -> None:
    model = graph(**settings)
    before = model.SerializeToString()
    assert ask_for_first_token(model) == 0
    assert model.SerializeToString() == before


def test_a_fused_model_asks_for_one_query_in_its_last_layer(tmp_path: Path) -> None:
    """The selection of the residual serves the query too, so that nothing is selected twice."""
    source = write_bert(tmp_path / "bert")
    write_graph(source, tmp_path)
    counts = fuse(tmp_path / "model.onnx", source, tmp_path / "fused.onnx")
    assert (counts["Attention"], counts["first query alone"]) == (3, 1)
    found = operators(onnx.load(tmp_path / "fused.onnx"))
    assert (found.count("Attention"), found.count("MultiHeadAttention")) == (2, 1)
    nodes = onnx.load(tmp_path / "fused.onnx").graph.node
    selected = [node.input[0] for node in nodes if node.op_type == "Gather" and "first_token" in node.input[1]]
    assert len(selected) == len(set(selected)) == 1
