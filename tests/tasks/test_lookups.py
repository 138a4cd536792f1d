"""Embeddings of exported graphs: the same answers from fewer nodes, and types stay where two texts are read."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnxruntime import InferenceSession

from tasks.compress.export import write_graph
from tasks.lookups import simplify_lookups
from tasks.quantization.graph import find_parts
from tests.small import write_bert
from tests.tasks.compress.test_export import write_model

SHAPES = ((1, 1), (1, 7), (3, 12))


def answers(model: Any, *, second: bool = False) -> list[Any]:
    """logits_BC of texts of several lengths, padded or not; `second` says that their later half is another text."""
    session = InferenceSession(model.SerializeToString())
    rng = np.random.default_rng(0)
    found = []
    for size, length in SHAPES:
        mask_BT = np.ones((size, length), dtype=np.int64)
        mask_BT[1:, length // 2 :] = 0
        types_BT = np.zeros_like(mask_BT)
        types_BT[:, length // 2 :] = int(second)
        ids_BT = rng.integers(1_000, 1_100, (size, length))
        feeds = {"input_ids": ids_BT, "attention_mask": mask_BT, "token_type_ids": types_BT}
        (logits_BC,) = session.run(None, {one.name: feeds[one.name] for one in session.get_inputs()})
        found.append(logits_BC)
    return found


def agree(before: list[Any], after: list[Any]) -> bool:
    return all(np.allclose(old, new, atol=1e-4) for old, new in zip(before, after, strict=True))


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    write_graph(write_bert(folder / "torch"), folder)
    return folder / "model.onnx"


def test_a_single_text_looks_up_words_alone(raw: Path) -> None:
    model = onnx.load(raw)
    before, whole = answers(model), len(model.graph.node)
    assert simplify_lookups(model, pairs=False) >= 5
    assert len(model.graph.node) < whole
    assert agree(before, answers(model))
    assert [value.name for value in model.graph.input] == ["input_ids", "attention_mask"]
    tables = [node.input[0] for node in model.graph.node if node.op_type == "Gather" and "embeddings" in node.input[0]]
    assert tables == ["bert.embeddings.word_embeddings.weight"]
    stored = {part.name for part in find_parts(model) if part.kind == "table"}
    assert stored == {*tables, "bert.embeddings.position_embeddings.weight"}, "stored in few bits too"


def test_a_second_text_keeps_its_type(raw: Path) -> None:
    model = onnx.load(raw)
    before, of_one_type = answers(model, second=True), answers(model)
    assert simplify_lookups(model, pairs=True) >= 3
    assert agree(before, answers(model, second=True))
    assert not agree(before, of_one_type)
    assert "token_type_ids" in [value.name for value in model.graph.input]


@pytest.mark.parametrize(("name", "in_order"), [("distilbert", True), ("electra", True), ("roberta", False)])
def test_other_families_answer_as_before(name: str, in_order: bool, tmp_path: Path) -> None:
    """RoBERTa counts its positions from the text, so they stay looked up."""
    write_model(name, tmp_path / "torch")
    write_graph(tmp_path / "torch", tmp_path)
    model = onnx.load(tmp_path / "model.onnx")
    before = answers(model)
    assert (simplify_lookups(model, pairs=False) > 0) is in_order
    assert agree(before, answers(model))


def test_positions_that_are_not_in_order_stay(raw: Path) -> None:
    """The same graph with its positions counted down."""
    from onnx import numpy_helper

    model = onnx.load(raw)
    for node in model.graph.node:
        if node.op_type == "Constant":
            value = numpy_helper.to_array(node.attribute[0].t)
            if value.shape[-1:] == (32,):
                node.attribute[0].t.CopyFrom(numpy_helper.from_array(value[..., ::-1].copy()))
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype == np.int64 and value.shape[-1:] == (32,):
            tensor.CopyFrom(numpy_helper.from_array(value[..., ::-1].copy(), tensor.name))
    before = answers(model)
    assert not agree(before, answers(onnx.load(raw)))
    simplify_lookups(model, pairs=False)
    assert agree(before, answers(model))
