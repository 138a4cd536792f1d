import json
from pathlib import Path

import pytest

from bento.errors import UserError
from tasks.data import DataConfig, prepare, read_split
from tasks.ensemble import torch_logits
from tasks.train import PACKAGED, TeacherConfig, base_architecture, find_model, launch_distributed, load_base
from tests.tiny import tiny_tokenizer


def test_the_default_teacher_needs_no_network() -> None:
    assert (Path(find_model(PACKAGED)) / "model.safetensors").is_file()


def test_a_path_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no folder"):
        find_model(str(tmp_path / "nothing"))


def test_a_hub_id_stays_as_it_is() -> None:
    assert find_model("google-bert/bert-base-uncased") == "google-bert/bert-base-uncased"


def test_a_folder_that_is_no_model_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"could not be loaded .* expected a hub id"):
        load_base(TeacherConfig(model=str(tmp_path)), ("a", "b"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[1]", "expected a JSON object, got list"),
        ("null", "expected a JSON object, got NoneType"),
        ("not json", "expected JSON, got"),
        ('{"model_type": "bert"}', "expected a tokenizer beside config.json"),
    ],
)
def test_a_folder_with_a_broken_config_or_no_tokenizer_is_refused_before_any_compute(
    tmp_path: Path, text: str, told: str
) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=told):
        base_architecture(TeacherConfig(model=str(tmp_path)))


def test_what_transformers_stumbles_over_is_told_with_its_key(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    tiny_tokenizer().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text("[1]")
    with pytest.raises(UserError, match=r"teacher\.model: .* could not be loaded \(TypeError: list indices"):
        base_architecture(TeacherConfig(model=str(tmp_path)))


@pytest.mark.parametrize("model_type", ["t5", "gpt2", "vit"])
def test_a_model_that_is_no_encoder_of_text_is_refused_before_any_compute(tmp_path: Path, model_type: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}), encoding="utf-8")
    with pytest.raises(UserError, match=rf"teacher\.model: expected an encoder .* bert, roberta.*got '{model_type}'"):
        base_architecture(TeacherConfig(model=str(tmp_path)))


def test_a_tokenizer_without_a_padding_token_is_refused_before_any_compute(tmp_path: Path) -> None:
    from transformers import AutoTokenizer, BertConfig

    tokenizer = AutoTokenizer.from_pretrained(find_model(PACKAGED))
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path)
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"more_teachers\.0\.model: .* has no padding token"):
        base_architecture(TeacherConfig(model=str(tmp_path)), "more_teachers.0")


def test_the_positions_of_the_robertas_are_counted_from_behind_the_padding(tmp_path: Path) -> None:
    from transformers import AutoTokenizer, RobertaConfig

    AutoTokenizer.from_pretrained(find_model(PACKAGED)).save_pretrained(tmp_path)
    RobertaConfig(max_position_embeddings=514).save_pretrained(tmp_path)
    assert base_architecture(TeacherConfig(model=str(tmp_path))).max_positions == 512


def test_a_fresh_head_has_the_labels_in_order() -> None:
    model, tokenizer, _ = load_base(TeacherConfig(), ("high", "low"))
    assert model.config.id2label == {0: "high", 1: "low"}
    assert tokenizer.is_fast


@pytest.mark.slow
def test_two_processes_train_one_teacher(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data, out, work = (tmp_path / name for name in ("data", "out", "work"))
    for folder in (data, out, work):
        folder.mkdir()
    prepare(DataConfig(source="synthetic", rows=300, max_rows=200), data)
    config = TeacherConfig(epochs=2, max_tokens=32, batch_size=8)
    launch_distributed(config, data, out, work, num_processes=2)
    assert capfd.readouterr().err.count("teacher: epoch 1/2") == 1, "two processes, but one training"
    history = json.loads((out / "history.json").read_text(encoding="utf-8"))
    assert [epoch["epoch"] for epoch in history] == [1, 2]
    assert history[1]["train_loss"] < history[0]["train_loss"]
    validation = read_split(data, "validation")
    logits_NC = torch_logits(out, validation.texts, config.max_tokens)
    labels = sorted(set(read_split(data, "train").labels))
    right = [labels[best] == label for best, label in zip(logits_NC.argmax(axis=1), validation.labels, strict=True)]
    assert sum(right) / len(right) == pytest.approx(max(epoch["validation_score"] for epoch in history), abs=0.02)


def test_a_teacher_for_longer_texts_than_its_base_gets_positions_for_them(tmp_path: Path) -> None:
    import torch

    from tests.small import write_bert

    config = TeacherConfig(model=str(write_bert(tmp_path)), max_tokens=48)
    model, _, _ = load_base(config, ("blue", "green", "red"))
    assert model.config.max_position_embeddings == 48
    assert model(torch.arange(100, 148)[None]).logits.shape == (1, 3)
