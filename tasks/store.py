"""The content-addressed store: every step's result is a folder named by the digest of what is in it.

    store/<sha256>/...          one artifact
    store/steps/<key>.json      which artifact a step made from which inputs
    store/work/<key>/           scratch of a step in progress, kept over a kill so that training can resume

An artifact is written to a temporary name, fsynced, and renamed, so a half-written one cannot exist. Its digest is
checked on every cache hit; what does not match is set aside, said aloud, and made again.
"""

import ast
import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
from filelock import FileLock

from bento.manifest import folder_sha256
from bento.settings import store_folder
from tasks.types import Artifact, Kind

log = logging.getLogger("retort.store")

LIBRARIES = ("torch", "transformers", "optimum-onnx", "onnxruntime", "numpy", "scikit-learn")
OWN_PACKAGES = ("bento", "tasks")
_looking: ContextVar[bool] = ContextVar("looking", default=False)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One finished step: its artifact, whether it came from the store, and the seconds it took now."""

    name: str
    artifact: Artifact
    cached: bool
    started_at: float
    """Seconds since the epoch."""
    seconds: float


class NotMadeError(Exception):
    """A step that only looks at the store, under `only_looking`, is not in it."""


@contextlib.contextmanager
def only_looking() -> Iterator[None]:
    """Within this, `run_step` returns what the store has or raises NotMadeError, and writes nothing."""
    token = _looking.set(True)
    try:
        yield
    finally:
        _looking.reset(token)


def _look(name: str, key: str) -> Step:
    path = _record_path(key)
    record = _read_record(key) if path.is_file() else None
    folder = store_folder() / record["sha256"] if record else None
    if record is None or folder is None or not folder.is_dir() or folder_sha256(folder) != record["sha256"]:
        raise NotMadeError(name)
    return Step(name=name, artifact=_artifact(record), cached=True, started_at=time.time(), seconds=0.0)


def find_step(key: str) -> Artifact | None:
    """The verified artifact that the step with this cache key made, if it is still whole."""
    record = _read_record(key)
    if record is None:
        return None
    path = store_folder() / record["sha256"]
    if not path.is_dir():
        _pull(record["sha256"], path)
    if not path.is_dir():
        log.warning("%s: its artifact %s is gone from the store; it is made again", record["made_by"], path.name)
        return None
    if folder_sha256(path) != record["sha256"]:
        aside = _set_aside(path)
        log.warning("%s: %s was altered; set aside as %s and made again", record["made_by"], path.name, aside.name)
        return None
    return _artifact(record)


def load_artifact(sha256: str, *, kind: Kind, made_by: str) -> Artifact | None:
    """The verified artifact of this digest, from the local or the shared store."""
    path = store_folder() / sha256
    if not path.is_dir():
        _pull(sha256, path)
    if not path.is_dir() or folder_sha256(path) != sha256:
        return None
    return Artifact(kind=kind, path=path, sha256=sha256, parents=(), made_by=made_by)


def _set_aside(path: Path) -> Path:
    aside = path.with_name(f"altered-{path.name[:16]}-{uuid4().hex[:8]}")
    return path.rename(aside)


def _artifact(record: dict[str, Any]) -> Artifact:
    path = store_folder() / record["sha256"]
    return Artifact(
        kind=record["kind"],
        path=path,
        sha256=record["sha256"],
        parents=tuple(record["parents"]),
        made_by=record["made_by"],
    )


def run_step(
    name: str,
    *,
    kind: Kind,
    inputs: Sequence[Artifact | str],
    config: Any,
    code: str,
    make: Callable[[Path, Path], None],
) -> Step:
    """Make, or find again, the artifact of one step.

    `inputs` are artifacts, or digests of outside files; `config` is JSON-able; `code` is the dotted module whose
    source, with all of ours that it imports, is part of the key. `make(out, work)` fills the folder `out`; what it
    leaves in `work` is there again if it is killed and rerun.
    """
    started_at, start = time.time(), time.perf_counter()
    key = step_key(name, inputs=inputs, config=config, code=code)
    if _looking.get():
        return _look(name, key)
    root = store_folder()
    (root / "work").mkdir(parents=True, exist_ok=True)
    with FileLock(root / "work" / f"{key}.lock"):
        artifact = find_step(key)
        cached = artifact is not None
        if artifact is None:
            artifact = _make(name, key, kind, inputs, make)
    seconds = time.perf_counter() - start
    return Step(name=name, artifact=artifact, cached=cached, started_at=started_at, seconds=seconds)


def step_key(name: str, *, inputs: Sequence[Artifact | str], config: Any, code: str) -> str:
    """Hex SHA-256 over the step's name, input digests, config, code and library versions."""
    parts = {
        "name": name,
        "inputs": [_digest(item) for item in inputs],
        "config": config,
        "code": code_version(code),
        "libraries": _library_versions(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@cache
def code_version(module: str) -> str:
    """Hex SHA-256 over the sources of `module` and of every module of ours that it imports, at any depth."""
    sources: dict[str, str] = {}
    queue = [module]
    while queue:
        name = queue.pop()
        if name in sources:
            continue
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            continue
        source = Path(spec.origin).read_text(encoding="utf-8")
        sources[name] = hashlib.sha256(source.encode()).hexdigest()
        queue += _own_imports(source)
    return hashlib.sha256(json.dumps(sources, sort_keys=True).encode()).hexdigest()


@cache
def _own_imports(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return [name for name in found if name.split(".")[0] in OWN_PACKAGES and _is_module(name)]


@cache
def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # `name` is a function or class of a module
        return False


@cache
def _library_versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


def _make(
    name: str, key: str, kind: Kind, inputs: Sequence[Artifact | str], make: Callable[[Path, Path], None]
) -> Artifact:
    root = store_folder()
    work = root / "work" / key
    work.mkdir(parents=True, exist_ok=True)
    temporary = root / f"{key}.tmp"  # the key's lock is held, so what is there is a killed process's
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        make(temporary, work)
        sha256 = _commit(temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    artifact = Artifact(
        kind=kind, path=root / sha256, sha256=sha256, parents=tuple(_digest(item) for item in inputs), made_by=name
    )
    record = {"sha256": sha256, "kind": kind, "parents": artifact.parents, "made_by": name}
    _push(sha256, artifact.path)
    _write_record(key, record)
    shutil.rmtree(work, ignore_errors=True)
    return artifact


def _commit(folder: Path) -> str:
    """Fsync and rename `folder` to its digest; an intact one that is already there wins."""
    for path in folder.rglob("*"):
        if path.is_file():
            _fsync(path)
    sha256 = folder_sha256(folder)
    final = folder.parent / sha256
    if final.is_dir() and folder_sha256(final) != sha256:
        _set_aside(final)
    if not final.is_dir():
        folder.rename(final)
        _fsync(folder.parent)
    return sha256


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(item: Artifact | str) -> str:
    return item if isinstance(item, str) else item.sha256


def _record_path(key: str) -> Path:
    return store_folder() / "steps" / f"{key}.json"


def _read_record(key: str) -> dict[str, Any] | None:
    path = _record_path(key)
    if not path.is_file():
        _pull(f"steps/{key}.json", path)
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return {field: record[field] for field in ("sha256", "kind", "parents", "made_by")}
    except (ValueError, KeyError, TypeError):
        log.warning("%s is not a whole step record; the step is run again", path)
        return None


def _write_record(key: str, record: dict[str, Any]) -> None:
    path = _record_path(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{uuid4().hex[:8]}.tmp")
    temporary.write_text(json.dumps(record), encoding="utf-8")
    _fsync(temporary)
    temporary.replace(path)
    _push(f"steps/{key}.json", path)


def _remote() -> tuple[Any, str] | None:
    """The shared store behind the local one, where `RETORT_STORE` names one (an fsspec URL such as s3://)."""
    url = os.environ.get("RETORT_STORE")
    return fsspec.core.url_to_fs(url) if url else None


def _push(name: str, path: Path) -> None:
    """Copy a file or artifact folder to the shared store, unless it is there."""
    remote = _remote()
    if remote is None:
        return
    filesystem, base = remote
    target = f"{base}/{name}"
    filesystem.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
    if path.is_file():
        filesystem.put_file(str(path), target)
    elif not filesystem.exists(target):
        filesystem.put(str(path), target, recursive=True)


def _pull(name: str, path: Path) -> None:
    """Fetch what the shared store has under `name` to a temporary path, then rename it into place."""
    remote = _remote()
    if remote is None:
        return
    filesystem, base = remote
    if not filesystem.exists(f"{base}/{name}"):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}-{uuid4().hex[:8]}.tmp")
    filesystem.get(f"{base}/{name}", str(temporary), recursive=filesystem.isdir(f"{base}/{name}"))
    temporary.rename(path)
