"""What runs a model in a browser, taken from npm packages of pinned versions and digests.

`npm` downloads them, so that a mirror or proxy that people have set up for it holds here too, and keeps them in its
cache, so that only the first export needs a network.
"""

import base64
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bento.errors import IntegrityError, ReleaseError, UserError

NPM_TIMEOUT_S = 600


@dataclass(frozen=True, kw_only=True)
class Package:
    """One package of npm's registry."""

    name: str
    version: str
    integrity: str
    """As npm's lock files write it: `sha512-` and the digest in base 64."""
    files: dict[str, str]
    """Path in the package -> name here; no `.mjs`, which many web servers do not know as a script."""


PACKAGES = (
    Package(
        name="onnxruntime-web",
        version="1.30.0",
        integrity="sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
        files={"dist/ort.wasm.bundle.min.mjs": "ort.js", "dist/ort-wasm-simd-threaded.wasm": "ort.wasm"},
    ),
    Package(
        name="@huggingface/tokenizers",
        version="0.2.0",
        integrity="sha512-LidMHe1FpcSYH4vcSjXooda34pC0M8m1gmDOv7SQi6Iv+ib1zX7J3sHBCC9/3FPCkn2k1b55FneVqMRxrr99pg==",
        files={"dist/tokenizers.min.mjs": "tokenizers.js", "LICENSE": "tokenizers.LICENSE.txt"},
    ),
)


def fetch_runtime(out: Path, packages: tuple[Package, ...] = PACKAGES) -> None:
    """Put the packages' files into `out`. Raises: UserError without npm, ReleaseError, IntegrityError."""
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(
            "expected npm, which downloads onnxruntime-web, but it is not installed; "
            "on Debian or Ubuntu: apt-get install nodejs npm"
        )
    out.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="retort-npm-") as work:
        for number, package in enumerate(packages):
            _extract(package, _download(npm, package, Path(work) / str(number)), out)


def _download(npm: str, package: Package, folder: Path) -> Path:
    """The package's archive, in a folder of its own."""
    folder.mkdir()
    wanted = f"{package.name}@{package.version}"
    command = [npm, "pack", wanted, "--prefer-offline", "--ignore-scripts"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=NPM_TIMEOUT_S)
    if done.returncode != 0:
        raise ReleaseError(
            f"npm could not download {wanted}: {done.stderr.strip()[-500:]}\n"
            "Check the network, or set a mirror with `npm config set registry URL`, then run the command again."
        )
    (archive,) = folder.glob("*.tgz")
    return archive


def _extract(package: Package, archive: Path, out: Path) -> None:
    digest = hashlib.sha512(archive.read_bytes()).digest()
    got = f"sha512-{base64.b64encode(digest).decode()}"
    if got != package.integrity:
        raise IntegrityError(
            f"{package.name} {package.version}: expected {package.integrity}, got {got}; the download is not used. "
            "Check the registry that npm is set to."
        )
    with tarfile.open(archive) as tar:
        for path, name in package.files.items():
            member = tar.getmember(f"package/{path}")
            member.name = name
            tar.extract(member, out, filter="data")
