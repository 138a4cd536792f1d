from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from onnxruntime import InferenceSession

from tasks.architecture import load_classifier, reads_every_token
from tasks.first_token import first_token_only, select_first_token_early
from tests.small import write_bert

IDS = torch.arange(1_000, 1_024).view(2, 12)


def test_the_last_layer_computes_one_token_and_the_answer_stays(tmp_path: Path) -> None:
    model = load_classifier(write_bert(tmp_path / "bert"))
    lengths: list[int] = []
    model.bert.encoder.layer[-1].intermediate.register_forward_hook(
        lambda _module, _inputs, output: lengths.append(output.shape[1])
    )
    with torch.inference_mode():
        whole = model(IDS).logits
        with first_token_only(model):
            first = model(IDS).logits
        model(IDS)
    assert lengths == [12, 1, 12]
    torch.testing.assert_close(first, whole, rtol=1e-5, atol=1e-6)


def test_another_family_is_left_as_it_is() -> None:
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    torch.manual_seed(0)
    config = DistilBertConfig(dim=16, n_layers=1, n_heads=2, hidden_dim=16, vocab_size=2_000)
    model = DistilBertForSequenceClassification(config).eval()
    with torch.inference_mode(), first_token_only(model):
        inside = model(IDS).logits
    assert torch.equal(inside, model(IDS).logits)


def test_a_head_of_tokens_reads_them_all_and_is_loaded_as_one(tmp_path: Path) -> None:
    from transformers import BertConfig, BertForTokenClassification

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertForTokenClassification(BertConfig(vocab_size=2_000, num_labels=3, **sizes)).save_pretrained(tmp_path)
    model = load_classifier(tmp_path)
    assert reads_every_token(model)
    with torch.inference_mode(), first_token_only(model):
        inside = model(IDS).logits
    assert inside.shape == (2, 12, 3)
    assert torch.equal(inside, model(IDS).logits)


def graph(index: int = 0, read_twice: bool = False) -> Any:
    """Two projections with an addition and a GELU on BTH, then one token; `read_twice` also puts out the whole."""
    rng = np.random.default_rng(0)
    constants = {
        "w1": rng.normal(size=(4, 4)), "b1": rng.normal(size=4), "w2": rng.normal(size=(4, 4)),
    }  # fmt: skip
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()]
    tensors.append(numpy_helper.from_array(np.array(index, dtype=np.int64), "index"))
    nodes = [
        helper.make_node("MatMul", ["states", "w1"], ["projected"]),
        helper.make_node("Add", ["projected", "b1"], ["biased"]),
        helper.make_node("Tanh", ["biased"], ["active"]),
        helper.make_node("MatMul", ["active", "w2"], ["second"]),
        helper.make_node("Add", ["second", "states"], ["summed"]),
        helper.make_node("Gather", ["summed", "index"], ["chosen"], axis=1),
    ]
    outputs = [helper.make_tensor_value_info("chosen", 1, ["B", 4])]
    if read_twice:
        outputs.append(helper.make_tensor_value_info("active", 1, ["B", "T", 4]))
    states = helper.make_tensor_value_info("states", 1, ["B", "T", 4])
    made = helper.make_graph(nodes, "g", [states], outputs, tensors)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def run(model: Any, states: Any) -> list[Any]:
    onnx.checker.check_model(model)
    found: list[Any] = InferenceSession(model.SerializeToString()).run(None, {"states": states})
    return found


@pytest.mark.parametrize(("read_twice", "moved"), [(False, 5), (True, 2)])
def test_the_selection_moves_in_front_of_what_treats_tokens_one_by_one(read_twice: bool, moved: int) -> None:
    """What something else reads stays whole: the first projection, where its output is asked for too."""
    states = np.random.default_rng(1).normal(size=(3, 5, 4)).astype(np.float32)
    model = graph(read_twice=read_twice)
    before = run(model, states)
    assert select_first_token_early(model) == moved
    after = run(model, states)
    assert all(np.allclose(old, new, atol=1e-6) for old, new in zip(before, after, strict=True))
    gathers = [node.input[0] for node in model.graph.node if node.op_type == "Gather"]
    assert gathers == ["states", *(["active"] if read_twice else []), "summed"]


def test_a_graph_that_reads_another_token_or_all_of_them_stays() -> None:
    other = graph(index=2)
    before = other.SerializeToString()
    assert select_first_token_early(other) == 0
    mean = graph()
    mean.graph.node[-1].CopyFrom(helper.make_node("ReduceMean", ["summed"], ["chosen"], keepdims=0))
    assert select_first_token_early(mean) == 0
    assert other.SerializeToString() == before
