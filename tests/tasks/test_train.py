from pathlib import Path

import pytest

from bento.errors import UserError
from tasks.train import PACKAGED, TeacherConfig, find_model, load_base


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


def test_a_fresh_head_has_the_labels_in_order() -> None:
    model, tokenizer, _ = load_base(TeacherConfig(), ("high", "low"))
    assert model.config.id2label == {0: "high", 1: "low"}
    assert tokenizer.is_fast
