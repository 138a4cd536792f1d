"""npm packages: the pinned bytes or nothing."""

import dataclasses
from pathlib import Path

import pytest

from bento.errors import IntegrityError, ReleaseError, UserError
from tasks.edge.runtime import PACKAGES, fetch_runtime

TOKENIZERS = PACKAGES[1]


def test_the_files_of_the_pinned_packages_are_there(runtime: Path) -> None:
    names = {name for package in PACKAGES for name in package.files.values()}
    assert {path.name for path in runtime.iterdir()} == names
    assert (runtime / "ort.wasm").read_bytes().startswith(b"\0asm")


@pytest.mark.usefixtures("runtime")
def test_an_archive_with_another_digest_is_refused(tmp_path: Path) -> None:
    other = dataclasses.replace(TOKENIZERS, integrity="sha512-other")
    with pytest.raises(IntegrityError, match=r"tokenizers 0\.2\.0: expected sha512-other, got sha512-LidM"):
        fetch_runtime(tmp_path / "vendor", (other,))


@pytest.mark.usefixtures("runtime")
def test_a_package_that_cannot_be_downloaded_is_told_with_what_npm_said(tmp_path: Path) -> None:
    other = dataclasses.replace(TOKENIZERS, version="0.0.0-nowhere")
    with pytest.raises(
        ReleaseError, match=r"npm could not download @huggingface/tokenizers@0\.0\.0-nowhere: (.|\n)*set a mirror"
    ):
        fetch_runtime(tmp_path / "vendor", (other,))


def test_without_npm_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="apt-get install nodejs npm"):
        fetch_runtime(tmp_path / "vendor")
