"""Where a file cannot be put is told before any work."""

from pathlib import Path

import pytest

from bento.errors import DataError
from tasks.outputs import require_output


def test_a_place_that_can_be_written_gets_its_folder_and_nothing_in_it(tmp_path: Path) -> None:
    require_output(tmp_path / "new" / "out.csv")
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("folder", "got a folder"),
        ("file/out.csv", "File exists"),
        ("file/more/out.csv", "Not a directory"),
        ("n" * 240 + ".csv", "at most 200 bytes"),
        ("/proc/out.csv", "No such file"),
    ],
)
def test_another_is_refused_in_words(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match=said):
        require_output(tmp_path / name)
