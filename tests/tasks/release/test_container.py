"""What `bentoml containerize` would build of a Bento, as far as it shows without Docker, and the Kubernetes manifests
that run it: user, Python, packages, and the image's own entry point on a root that cannot be written to.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from bento import settings
from bento.manifest import folder_sha256
from tasks.release.package import Package, build_bento
from tests.configs.test_kubernetes import FOLDER, build, environment, pod
from tests.terminal import free_port, wait_for
from tests.tiny import write_tiny_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # BentoML uses what pathspec and pydantic have deprecated
]

READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,ro,bind / && exec "$@"'
"""A shell's, in a mount namespace of its own: the root becomes read-only, but for one folder."""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    settings.configure()
    model = write_tiny_model(tmp_path_factory.mktemp("container") / "model", seed=3)
    return build_bento("contained", model, sha256=folder_sha256(model), card="# contained")


@pytest.fixture(scope="module")
def containerfile(package: Package) -> str:
    import bentoml

    path = package.path / "containerfile"
    bentoml.container.get_containerfile(package.bento, output_path=str(path))
    return path.read_text(encoding="utf-8")


def test_the_image_has_this_python_and_no_cuda(containerfile: str) -> None:
    (base,) = re.findall(r"^FROM (\S+)", containerfile, flags=re.MULTILINE)
    assert base == f"python:{sys.version_info.major}.{sys.version_info.minor}-slim"
    assert not re.search("cuda|nvidia|torch", containerfile, flags=re.IGNORECASE)


def test_the_image_runs_as_the_user_that_the_manifest_names(containerfile: str) -> None:
    assert re.findall(r"^USER (\S+)", containerfile, flags=re.MULTILINE) == ["bentoml"]
    (uid,) = re.findall(r"^ARG BENTO_USER_UID=(\d+)", containerfile, flags=re.MULTILINE)
    (gid,) = re.findall(r"^ARG BENTO_USER_GID=(\d+)", containerfile, flags=re.MULTILINE)
    security = pod(build(FOLDER))["securityContext"]
    assert (security["runAsUser"], security["runAsGroup"]) == (int(uid), int(gid))


def test_the_image_exposes_the_port_that_the_manifest_names(containerfile: str) -> None:
    (container,) = pod(build(FOLDER))["containers"]
    assert f"EXPOSE {container['ports'][0]['containerPort']}\n" in containerfile


def test_the_image_installs_pinned_packages_a_postgresql_driver_and_nothing_to_train_with(package: Package) -> None:
    lines = (package.path / "env" / "python" / "requirements.txt").read_text(encoding="utf-8").split()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    names = {line.partition("==")[0] for line in lines}
    assert {"bentoml", "onnxruntime", "psycopg", "psycopg-binary"} <= names
    assert not names & {"torch", "transformers", "mlflow", "prefect", "onnxruntime-gpu"}


def may_mount() -> bool:
    """Whether this user may make mounts in a namespace of its own."""
    command = ["unshare", "-m", "mount", "-o", "remount,ro,bind", "/"]
    try:
        return subprocess.run(command, capture_output=True, timeout=10).returncode == 0
    except OSError:
        return False


needs_mounts = pytest.mark.skipif(
    not may_mount(), reason="expected Linux and the right to mount (unshare -m), as root has it"
)


@needs_mounts
def test_the_root_of_the_next_test_is_really_read_only(tmp_path: Path) -> None:
    touch = ["unshare", "-m", "sh", "-c", READ_ONLY, str(tmp_path), "touch"]
    assert subprocess.run([*touch, str(tmp_path / "state")]).returncode == 0
    refused = subprocess.run([*touch, "/retort-probe"], capture_output=True, text=True)
    Path("/retort-probe").unlink(missing_ok=True)
    assert "Read-only file system" in refused.stderr


@needs_mounts
def test_the_entry_point_serves_with_the_manifest_s_environment_on_a_read_only_root(
    package: Package, tmp_path: Path
) -> None:
    state, port = tmp_path / "state", free_port()
    state.mkdir()
    own = {name: value.replace("/state/", f"{state}/") for name, value in environment().items()}
    kept = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    base = {"BENTO_PATH": str(package.path), "PATH": path, "BENTOML_PORT": str(port), "TMPDIR": str(state)}
    entry = [str(package.path / "env" / "docker" / "entrypoint.sh")]
    log = tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", READ_ONLY, str(state), "bash", *entry],
            env=kept | base | own, cwd=package.path, text=True, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        wait_for(f"http://127.0.0.1:{port}/readyz", process)
        answer = httpx.post(f"http://127.0.0.1:{port}/predict", json={"text": "my card"}).json()
        assert answer["model"]["bento"] == package.bento
    finally:
        process.terminate()
        assert process.wait(30) == 0, log.read_text()
    assert (state / "retort" / "retort.db").is_file()
    assert "Read-only file system" not in log.read_text()
