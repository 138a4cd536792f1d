"""Model folders of Retort, optimum and transformers are opened, and what is none of them is refused in words."""

import json
import shutil

import numpy as np
import onnx
import pytest
from onnx import helper

from bento.errors import IntegrityError, UserError
from bento.manifest import MANIFEST_FILE, ONNX_FILE
from bento.predictor import Predictor
from tasks.any_model import open_model
from tests.small import write_bert
from tests.tiny import write_tiny_model

TEXTS = ["my card is lost", "where is my refund", "help please"]


@pytest.fixture
def retort(tmp_path):
    return write_tiny_model(tmp_path / "retort")


@pytest.fixture
def plain(tmp_path, retort):
    """The same model as other tools write it: the graph beside the config, no manifest."""
    folder = tmp_path / "plain"
    shutil.copytree(retort, folder, ignore=shutil.ignore_patterns(MANIFEST_FILE, "onnx"))
    shutil.copyfile(retort / ONNX_FILE, folder / "model_quantized.onnx")
    return folder


def answers(path, work):
    return open_model(path, work).classifier.predict(TEXTS)


def test_a_plain_onnx_folder_answers_as_the_retort_folder_of_the_same_model(retort, plain, tmp_path):
    expected = Predictor(retort).predict(TEXTS)
    for at, path in enumerate((retort, plain, plain / "model_quantized.onnx", retort / ONNX_FILE)):
        found = open_model(path, tmp_path / str(at))
        assert np.abs(found.classifier.predict(TEXTS) - expected).max() < 1e-6
        assert found.classifier.labels == ("card_lost", "refund", "transfer")


def test_only_a_retort_folder_says_that_batches_change_nothing(retort, plain, tmp_path):
    assert [open_model(path, tmp_path / path.name).batch_size for path in (retort, plain)] == [32, 1]


def test_a_torch_folder_answers_eagerly_and_truncates_where_its_positions_end(tmp_path):
    found = open_model(write_bert(tmp_path / "bert"), tmp_path / "work")
    assert found.classifier.labels == ("blue", "green", "red")
    probabilities_NC = found.classifier.predict(["a red car", "word " * 500, "x"], batch_size=2)
    assert probabilities_NC.shape == (3, 3)
    assert np.allclose(probabilities_NC.sum(axis=1), 1, atol=1e-5)
    assert found.tokenizer.encode("red").ids


def test_a_graph_of_probabilities_or_of_other_shape_is_refused(plain, tmp_path):
    model = onnx.load(plain / "model_quantized.onnx")
    model.graph.node.append(helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1))
    model.graph.output[0].name = "probabilities"
    onnx.save(model, plain / "model_quantized.onnx")
    with pytest.raises(UserError, match="expected logits of the graph, got probabilities"):
        answers(plain, tmp_path / "1")
    config = json.loads((plain / "config.json").read_text())
    (plain / "config.json").write_text(json.dumps(config | {"id2label": {"0": "a", "1": "b"}}))
    with pytest.raises(UserError, match=r"expected the graph's first output to hold 2 logits .* got shape \(1, 3\)"):
        answers(plain, tmp_path / "2")


def test_what_is_no_one_model_is_refused(plain, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"there is no config\.json"):
        answers(tmp_path / "empty", tmp_path / "1")
    with pytest.raises(UserError, match="no such file or folder"):
        answers(tmp_path / "nothing", tmp_path / "2")
    shutil.copyfile(plain / "model_quantized.onnx", plain / "model.onnx")
    with pytest.raises(UserError, match=r"got model\.onnx, model_quantized\.onnx; name one of the files"):
        answers(plain, tmp_path / "3")
    (plain / "model.onnx").write_bytes(b"broken")
    with pytest.raises(UserError, match="could not be loaded"):
        answers(plain / "model.onnx", tmp_path / "4")


def test_an_encoder_without_a_classifier_is_refused(tmp_path):
    folder = write_bert(tmp_path / "bert")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["BertModel"]}))
    with pytest.raises(UserError, match="classifier of random weights"):
        answers(folder, tmp_path / "work")


def test_an_altered_retort_folder_is_refused(retort, tmp_path):
    (retort / "tokenizer.json").write_text("{}")
    with pytest.raises(IntegrityError, match="altered"):
        answers(retort, tmp_path / "work")
