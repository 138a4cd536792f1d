"""What a model folder says of itself is read, or refused in words."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from bento.errors import UserError
from tasks.architecture import load_tokenizer, named_architectures, read_architecture, read_config
from tests.tiny import tiny_tokenizer


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("not json", "expected JSON, got: Expecting value"),
        ("[" * 100_000, "expected JSON, got: maximum recursion depth"),
        ("null", "expected a JSON object, got NoneType"),
        ("[1]", "expected a JSON object, got list"),
    ],
)
def test_a_config_that_is_none_is_refused_with_its_path(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=rf"config\.json: {told}.*; put the config\.json there"):
        read_config(tmp_path)


@pytest.mark.parametrize("names", [5, [1], "BertModel"])
def test_architectures_that_are_no_names_are_refused(tmp_path: Path, names: object) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": names}))
    with pytest.raises(UserError, match="expected a list of names as architectures, got"):
        named_architectures(tmp_path)


@pytest.mark.parametrize("model_type", ["bert", "xlm-roberta", "modernbert", "albert"])
def test_a_folder_without_a_tokenizer_is_told_so_whatever_transformers_stumbles_over(
    tmp_path: Path, model_type: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(UserError, match=r"expected a tokenizer beside config\.json .*, got none; save"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_that_is_there_and_broken_keeps_its_own_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (tmp_path / "tokenizer.json").write_text("garbage")
    with pytest.raises(ValueError, match="Expecting value: line 1"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(("hidden_size", "num_heads"), [(32, 0), ("x", 2), (1, 2)])
def test_sizes_that_no_encoder_has_are_refused(hidden_size: object, num_heads: int) -> None:
    config = SimpleNamespace(model_type="bert", hidden_size=hidden_size, num_attention_heads=num_heads)
    with pytest.raises(UserError, match="expected hidden_size and num_attention_heads of an encoder, got"):
        read_architecture(config, SimpleNamespace(backend_tokenizer=tiny_tokenizer()))
