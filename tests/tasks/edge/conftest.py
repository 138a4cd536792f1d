"""Exports without a download each: the packages are fetched once."""

import shutil
from pathlib import Path

import pytest

import tasks.edge
from bento.errors import ReleaseError
from tasks.edge import export_edge
from tasks.edge.runtime import fetch_runtime
from tests.tasks.edge.exports import Exporting, champion_of


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """onnxruntime-web and tokenizers; skips where they cannot be had."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed; on Debian or Ubuntu: apt-get install nodejs npm")
    out = tmp_path_factory.mktemp("npm") / "vendor"
    try:
        fetch_runtime(out)
    except ReleaseError as error:
        pytest.skip(f"no registry of npm can be reached: {error}")
    return out


@pytest.fixture
def export(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> Exporting:
    """`export_edge` of a model folder into another, with the packages at hand."""
    monkeypatch.setattr(tasks.edge, "fetch_runtime", lambda out: shutil.copytree(runtime, out))
    return lambda model, out: export_edge(champion_of(model), out)
