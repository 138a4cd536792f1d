"""`retort report`: which page a name means."""

import os
from pathlib import Path

import pytest

from bento.errors import UserError
from flows.reports import find_report

FOLDERS = (
    "bank-0123456789abcdef", "bank-fedcba9876543210", "bank-look-1", "bank-look-2", "bank-experiment-1",
    "banking-look-9", "mail-look-1",
)  # fmt: skip


@pytest.fixture(autouse=True)
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of their making."""
    monkeypatch.setenv("RETORT_HOME", str(tmp_path))
    for at, name in enumerate(FOLDERS):
        page = tmp_path / "reports" / name / "report.html"
        page.parent.mkdir(parents=True)
        page.touch()
        os.utime(page, (at, at))


@pytest.mark.parametrize(
    ("target", "kind", "folder"),
    [
        ("bank", None, "bank-fedcba9876543210"),
        ("bank", "build", "bank-fedcba9876543210"),
        ("bank", "look", "bank-look-2"),
        ("bank", "experiment", "bank-experiment-1"),
        ("bank-look-1", None, "bank-look-1"),
        ("bank-0123", None, "bank-0123456789abcdef"),
        ("mail", None, "mail-look-1"),
    ],
)
def test_the_newest_of_the_kind_is_found(target: str, kind: str | None, folder: str) -> None:
    assert find_report(target, kind).parent.name == folder  # type: ignore[arg-type]


@pytest.mark.parametrize(("target", "kind"), [("nobody", None), ("mail", "build"), ("ban", "look"), ("", None)])
def test_what_is_not_there_is_answered_with_what_is(target: str, kind: str | None) -> None:
    with pytest.raises(UserError, match=rf"got '{target}'; there are: mail-look-1, banking-look-9"):
        find_report(target, kind)  # type: ignore[arg-type]
