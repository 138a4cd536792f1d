"""A model that runs in a browser: a folder of static files that answers as the service does, without a server.

onnxruntime-web runs the graph and `@huggingface/tokenizers` the tokenizer; together with the page they need no other
file and no network. What is exported has answered under Node as the service answers, or there is no export.
"""

import gzip
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import bento
from bento.errors import UserError
from bento.manifest import ONNX_FILE, Manifest, file_sha256, folder_files
from tasks.edge.check import Agreement, compare
from tasks.edge.runtime import PACKAGES, fetch_runtime
from tasks.release.ledger import Champion

EDGE_FILE = "edge.json"
"""Identity, packages and digests; also what tells an export from any other folder."""
MODEL_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", ONNX_FILE)
PARTS = {
    "model/tokenizer": "tokenizer",
    "model/": "model",
    "vendor/ort": PACKAGES[0].name,
    "vendor/tokenizers": PACKAGES[1].name,
}
"""Start of a path -> the part that it belongs to."""
WEB = Path(__file__).with_name("web")
SERVICE_WEB = Path(bento.__path__[0]) / "web"
NOT_CACHED = ("answer.js", "package.json", "sw.js")
"""Of Node alone, and the worker itself, which browsers keep by themselves."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """One file of the export."""

    path: str
    part: str
    """What it belongs to: the model, its tokenizer, a package, or the page."""
    size_bytes: int
    gzip_bytes: int
    """What a web server that compresses sends."""


@dataclass(frozen=True, kw_only=True)
class Export:
    """What was written, and how it was checked."""

    name: str
    version: str
    folder: str
    size_bytes: int
    gzip_bytes: int
    files: list[Size]
    checked: Agreement


def export_edge(champion: Champion, folder: Path) -> Export:
    """Write `champion` as static files to `folder`, which is new, empty, or an earlier export.

    An earlier export is replaced once the new one is whole and has answered. Raises: UserError, ReleaseError.
    """
    _check_target(folder)
    Manifest.read(champion.model_path).check(champion.model_path)
    with _replacing(folder) as new:
        _write(champion, new)
        checked = compare(champion.model_path, new)
        files = [_size(new, path) for path in folder_files(new)]
    return Export(
        name=champion.name, version=champion.version, folder=str(folder), files=files, checked=checked,
        size_bytes=sum(file.size_bytes for file in files), gzip_bytes=sum(file.gzip_bytes for file in files),
    )  # fmt: skip


def _check_target(folder: Path) -> None:
    if folder.is_dir():
        if any(folder.iterdir()) and not (folder / EDGE_FILE).is_file():
            raise UserError(
                f"{folder}: expected a new or empty folder, or an earlier export, but it holds other files; "
                "name another folder"
            )
    elif folder.exists():
        raise UserError(f"{folder}: expected a folder, got a file; name another")


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` that takes its place at the end, and vanishes when something was raised."""
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        new = work / "new"
        new.mkdir()
        yield new
        if folder.exists():
            folder.rename(work / "old")
        new.rename(folder)
    finally:
        if (work / "old").exists() and not folder.exists():
            (work / "old").rename(folder)
        shutil.rmtree(work)


def _write(champion: Champion, out: Path) -> None:
    for path in MODEL_FILES:
        (out / "model" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(champion.model_path / path, out / "model" / path)
    Manifest.read(champion.model_path).write(out / "model")  # with every default filled in
    fetch_runtime(out / "vendor")
    for source in (*WEB.iterdir(), SERVICE_WEB / "style.css", SERVICE_WEB / "icon.svg"):
        shutil.copy(source, out / source.name)
    identity = {key: getattr(champion, key) for key in ("name", "version", "bento", "model_sha256")}
    packages = [f"{package.name} {package.version}" for package in PACKAGES]
    files = {path: digest for path, digest in folder_files(out).items() if path != "sw.js"}
    content = identity | {"packages": packages, "files": files}
    (out / EDGE_FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    _write_worker(out / "sw.js", ["./", EDGE_FILE, *(path for path in files if path not in NOT_CACHED)])


def _write_worker(path: Path, cached: list[str]) -> None:
    """The service worker with the files that it keeps, and a digest of them all, so that a new export is noticed."""
    text = path.read_text(encoding="utf-8").replace("@FILES@", json.dumps(cached))
    digest = file_sha256(path.with_name(EDGE_FILE))
    path.write_text(text.replace("@DIGEST@", digest[:16]), encoding="utf-8")


def _size(folder: Path, path: str) -> Size:
    content = (folder / path).read_bytes()
    part = next((name for prefix, name in PARTS.items() if path.startswith(prefix)), "page")
    return Size(path=path, part=part, size_bytes=len(content), gzip_bytes=len(gzip.compress(content, 6)))
