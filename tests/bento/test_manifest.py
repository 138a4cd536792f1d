"""A model folder is used whole and unaltered, or not at all."""

from pathlib import Path

import pytest

from bento.errors import IntegrityError
from bento.manifest import ONNX_FILE, Manifest, folder_sha256, folder_size_bytes
from bento.predictor import Predictor
from tests.tiny import write_tiny_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "model")


def test_the_same_content_has_the_same_digest_wherever_it_lies(tmp_path: Path, folder: Path) -> None:
    assert folder_sha256(write_tiny_model(tmp_path / "other")) == folder_sha256(folder)
    assert folder_sha256(write_tiny_model(tmp_path / "seeded", seed=1)) != folder_sha256(folder)
    assert folder_size_bytes(folder) > (folder / ONNX_FILE).stat().st_size


def test_one_changed_byte_is_found_and_named(folder: Path) -> None:
    content = bytearray((folder / ONNX_FILE).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / ONNX_FILE).write_bytes(content)
    with pytest.raises(IntegrityError, match=r"onnx/model\.onnx: expected sha256"):
        Predictor(folder)


def test_a_file_too_many_or_too_few_is_found(folder: Path) -> None:
    (folder / "extra.txt").write_text("x")
    with pytest.raises(IntegrityError, match=r"extra\.txt: expected sha256 no such file"):
        Predictor(folder)
    (folder / "extra.txt").unlink()
    (folder / "config.json").unlink()
    with pytest.raises(IntegrityError, match=r"config\.json: .* got no such file"):
        Predictor(folder)


def test_a_folder_without_a_manifest_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=r"expected a retort\.json"):
        Manifest.read(tmp_path)


@pytest.mark.parametrize(
    ("text", "told"), [("garbage", "Invalid JSON"), ("[1]", "should be an object"), ("{}", "name: Field required")]
)
def test_a_manifest_that_is_none_is_told_with_its_path(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "retort.json").write_text(text)
    with pytest.raises(IntegrityError, match=rf"retort\.json: expected the manifest .*{told}.* to rebuild it"):
        Manifest.read(tmp_path)


def test_a_manifest_survives_writing_and_reading(folder: Path) -> None:
    manifest = Manifest.read(folder)
    manifest.write(folder)
    assert Manifest.read(folder) == manifest
