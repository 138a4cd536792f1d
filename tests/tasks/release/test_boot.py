"""The boot check on real Bentos of a tiny model: each fault that it exists for is planted and seen."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from bento import settings
from bento.errors import ReleaseError
from bento.manifest import folder_sha256
from tasks.release import boot
from tasks.release.boot import BootCheck, check_boot
from tasks.release.package import Package, build_bento
from tests.tiny import write_tiny_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # BentoML uses what pathspec and pydantic have deprecated
]

GOLDEN = ("my card is lost", "refund please", "where is my balance")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    settings.configure()
    model = write_tiny_model(tmp_path_factory.mktemp("boot") / "model", seed=1)
    return build_bento("tiny", model, sha256=folder_sha256(model), card="# tiny")


def check(package: Package, sha256: str | None = None, limit: float | None = 1_000) -> BootCheck:
    expected = sha256 or folder_sha256(package.model_path)
    return check_boot(package, sha256=expected, golden=GOLDEN, latency_p95_ms=limit, name="tiny")


def test_a_bento_that_answers_as_evaluated_passes(package: Package) -> None:
    found = check(package)
    assert (found.passed, set(found.checks.values())) == (True, {"ok"})
    assert found.ready_s > 0
    assert (package.path / "README.md").read_text(encoding="utf-8") == "# tiny"


def test_another_digest_another_answer_and_a_slow_one_are_each_caught(package: Package, tmp_path: Path) -> None:
    other = write_tiny_model(tmp_path / "other", seed=2)
    found = check(replace(package, model_path=other), sha256="0" * 64, limit=1e-6)
    assert not found.passed
    assert {name for name, said in found.checks.items() if said != "ok"} == {"identity", "golden", "latency"}
    assert "expected model_sha256 000" in found.checks["identity"]


def test_a_bento_whose_model_was_altered_never_becomes_ready(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    copy = tmp_path / "bento"
    shutil.copytree(package.path, copy)
    (copy / "src" / "model" / "tokenizer.json").write_text("{}", encoding="utf-8")
    monkeypatch.setattr(boot, "READY_TIMEOUT_S", 8.0)
    with pytest.raises(ReleaseError, match=r"(?s)not ready within 8 s.*tokenizer\.json"):
        check(replace(package, path=copy), sha256="0" * 64)


SERVE_FOR_EVER = """
import sys, time
from pathlib import Path
from tasks.release.boot import serving
from tasks.release.package import Package
path = Path(sys.argv[1])
with serving(Package(bento="tiny:1", path=path, model_path=path), "tiny") as (url, _):
    print(url, flush=True)
    time.sleep(600)
"""


def test_the_started_bento_does_not_outlive_a_killed_build(package: Package) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE_FOR_EVER, str(package.path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout as lines:
        url = lines.readline().strip()
    assert httpx.get(f"{url}/readyz").status_code == 200
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 15
    while _answers(url):
        assert time.monotonic() < deadline, f"{url} still answers"
        time.sleep(0.2)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/livez", timeout=1).status_code == 200
    except httpx.TransportError:
        return False
