"""The state folder."""

from pathlib import Path

import pytest

from bento.errors import ConfigError
from bento.settings import check_home, make_folder


def test_a_file_in_the_place_of_the_state_folder_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("", encoding="utf-8")
    monkeypatch.setenv("RETORT_HOME", str(file))
    with pytest.raises(ConfigError, match="RETORT_HOME: expected a folder"):
        check_home()
    with pytest.raises(ConfigError, match="Not a directory"):
        make_folder(file / "more")


def test_a_folder_and_one_that_is_not_there_yet_are_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (tmp_path, tmp_path / "new"):
        monkeypatch.setenv("RETORT_HOME", str(folder))
        check_home()
    assert not (tmp_path / "new").exists()


def test_a_new_folder_is_made_with_those_above_it(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
