"""Model folders of Retort, optimum and transformers are opened, and what is none of them is refused in words."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from bento.errors import IntegrityError, UserError
from bento.manifest import MANIFEST_FILE, ONNX_FILE, Manifest, folder_files, folder_sha256
from bento.predictor import Predictor
from tasks.any_model import open_model, said_scale, said_task
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
    model.graph.node[-1].op_type = "Sigmoid"
    del model.graph.node[-1].attribute[:]
    onnx.save(model, plain / "model_quantized.onnx")
    with pytest.raises(UserError, match=r"numbers between 0 and 1 that sum to \S+ to \S+ where a softmax sums to 1"):
        open_model(plain, tmp_path / "3", texts=TEXTS)
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


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A torch folder, which no test alters."""
    return write_bert(tmp_path_factory.mktemp("torch") / "bert")


@pytest.fixture
def torch_folder(trained, tmp_path):
    return Path(shutil.copytree(trained, tmp_path / "bert"))


def turned_weights(folder):
    """The folder's weights with another classifier."""
    from safetensors.torch import load_file

    weights = load_file(folder / "model.safetensors")
    return weights | {"classifier.weight": -weights["classifier.weight"]}


def test_the_weights_of_the_named_file_are_those_that_answer(torch_folder, tmp_path):
    from safetensors.torch import save_file

    save_file(turned_weights(torch_folder), torch_folder / "other.safetensors", {"format": "pt"})
    usual, other = (
        open_model(torch_folder / name, tmp_path / name) for name in ("model.safetensors", "other.safetensors")
    )
    found = [one.classifier.predict_logits(TEXTS) for one in (usual, other)]
    assert np.abs(found[0] + found[1]).max() < 1e-4
    assert usual.sha256 != other.sha256
    assert usual.size_bytes == other.size_bytes
    with pytest.raises(UserError, match=r"got model\.safetensors, other\.safetensors; name one of the files"):
        answers(torch_folder, tmp_path / "work")
    (torch_folder / "other.safetensors").unlink()
    assert open_model(torch_folder, tmp_path / "alone").sha256 == usual.sha256 == folder_sha256(torch_folder)


def test_a_pickle_beside_safetensors_is_refused_and_alone_it_is_read(torch_folder, tmp_path):
    import torch

    torch.save(turned_weights(torch_folder), torch_folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"got a file in whose place it takes model\.safetensors; put this one alone"):
        answers(torch_folder / "pytorch_model.bin", tmp_path / "1")
    usual = answers(torch_folder / "model.safetensors", tmp_path / "2")
    assert np.array_equal(answers(torch_folder, tmp_path / "3"), usual), "as transformers takes the folder"
    (torch_folder / "model.safetensors").unlink()
    assert np.abs(answers(torch_folder, tmp_path / "4") - usual).max() > 0.1


def test_no_code_of_a_pickle_is_run(torch_folder, tmp_path):
    import torch

    class Planted:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "planted"),)

    (torch_folder / "model.safetensors").unlink()
    torch.save({"classifier.weight": Planted()}, torch_folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="could not be loaded"):
        answers(torch_folder, tmp_path / "work")
    assert not (tmp_path / "planted").exists()


def test_weights_in_parts_are_one_model_by_their_index_alone(trained, tmp_path):
    from tasks.architecture import load_classifier

    folder = Path(shutil.copytree(trained, tmp_path / "parts", ignore=shutil.ignore_patterns("*.safetensors")))
    load_classifier(trained).save_pretrained(folder, max_shard_size="100KB")
    index, *parts = sorted(folder.glob("*.safetensors*"), key=lambda path: path.suffix != ".json")
    assert len(parts) > 1
    usual = answers(trained, tmp_path / "1")
    for at, path in enumerate((folder, index)):
        assert np.abs(answers(path, tmp_path / f"parts-{at}") - usual).max() < 1e-6
    with pytest.raises(UserError, match=r"are model\.safetensors\.index\.json: name one of these"):
        answers(parts[0], tmp_path / "2")


def test_weights_without_a_classifier_and_files_without_weights_are_refused(torch_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    weights = {name: value for name, value in load_file(torch_folder / "model.safetensors").items() if "bert." in name}
    save_file(weights, torch_folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"got none of classifier\.bias, classifier\.weight"):
        answers(torch_folder, tmp_path / "1")
    with pytest.raises(UserError, match=r"got another one; this folder's are model\.safetensors"):
        answers(torch_folder / "config.json", tmp_path / "2")


def test_positions_that_begin_behind_the_padding_leave_fewer_tokens(torch_folder, tmp_path):
    from transformers import RobertaConfig, RobertaForSequenceClassification

    config = json.loads((torch_folder / "config.json").read_text())
    sizes = {name: config[name] for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")}
    shape = RobertaConfig(**sizes, intermediate_size=64, max_position_embeddings=20, pad_token_id=1, num_labels=3)
    RobertaForSequenceClassification(shape).save_pretrained(torch_folder)
    found = open_model(torch_folder, tmp_path / "work").classifier
    assert found.manifest.max_tokens == 18
    assert np.isfinite(found.predict(["word " * 500])).all()


def test_a_model_that_cannot_read_as_much_as_it_says_is_refused_when_it_is_opened(torch_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.any_model.num_positions", lambda model: 40)
    with pytest.raises(UserError, match=r"reads texts of 40 tokens, .* an error for one of 40 .*; set model_max"):
        answers(torch_folder, tmp_path / "work")


def test_an_encoder_without_a_classifier_is_refused(tmp_path):
    folder = write_bert(tmp_path / "bert")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["BertModel"]}))
    with pytest.raises(UserError, match="classifier of random weights"):
        answers(folder, tmp_path / "work")


@pytest.mark.parametrize("text", ["garbage", "[1]", "{}"])
def test_a_manifest_that_is_none_is_refused_in_words(retort, text):
    (retort / MANIFEST_FILE).write_text(text)
    for said in (said_task, said_scale):
        with pytest.raises(UserError, match=r"retort\.json: expected the manifest of a Retort model folder"):
            said(retort)


def test_a_retort_folder_whose_graph_is_none_is_refused_in_words(retort, tmp_path):
    (retort / ONNX_FILE).write_bytes(b"broken")
    files = {path: digest for path, digest in folder_files(retort).items() if path != MANIFEST_FILE}
    Manifest.read(retort).model_copy(update={"files": files}).write(retort)
    with pytest.raises(UserError, match="could not be loaded"):
        answers(retort, tmp_path / "work")


@pytest.mark.parametrize("text", ["not json", "null", "[1]"])
def test_a_config_that_is_none_is_refused_in_words(torch_folder, tmp_path, text):
    (torch_folder / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json: expected"):
        said_task(torch_folder)
    with pytest.raises(UserError, match="could not be loaded"):
        answers(torch_folder, tmp_path / "work")


@pytest.mark.parametrize("key", ["id2label", "problem_type"])
def test_a_key_of_another_type_is_refused_when_the_model_is_opened(torch_folder, tmp_path, key):
    config = json.loads((torch_folder / "config.json").read_text())
    (torch_folder / "config.json").write_text(json.dumps(config | {key: [5]}))
    assert said_task(torch_folder) is None
    with pytest.raises(UserError, match="could not be loaded"):
        answers(torch_folder, tmp_path / "work")


def test_a_missing_tokenizer_is_called_that(torch_folder, tmp_path):
    for name in ("tokenizer.json", "vocab.txt"):
        (torch_folder / name).unlink()
    with pytest.raises(UserError, match=r"expected a tokenizer beside config\.json .*, got none"):
        answers(torch_folder, tmp_path / "work")


def test_an_altered_retort_folder_is_refused(retort, tmp_path):
    (retort / "tokenizer.json").write_text("{}")
    with pytest.raises(IntegrityError, match="altered"):
        answers(retort, tmp_path / "work")
