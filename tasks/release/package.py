"""Packaging: a Bento that holds the model and the code that answers, content and versions pinned.

The model lies inside the Bento rather than in BentoML's model store, where a moved alias or a deletion would change
what a built Bento serves.
"""

import importlib.metadata
import logging
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import bento
from bento.errors import ReleaseError
from bento.manifest import folder_sha256

log = logging.getLogger("retort.package")

RUNTIME_PACKAGES = (
    "bentoml", "httptools", "httpx", "numpy", "onnxruntime", "opentelemetry-sdk", "orjson", "prometheus-client",
    "psutil", "psycopg", "psycopg-binary", "pydantic", "redis", "sqlalchemy", "starlette", "tokenizers",
    "uvicorn", "uvloop",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Package:
    """A built Bento."""

    bento: str
    """Tag, with the model's digest as version."""
    path: Path
    """The Bento's folder."""
    model_path: Path
    """The model folder inside it."""


def build_bento(name: str, model: Path, *, sha256: str, card: str) -> Package:
    """Build, or find again, the Bento of one model folder; `card`, Markdown, is its description.

    Raises: ReleaseError when it holds another model.
    """
    import bentoml
    from bentoml.exceptions import NotFound

    tag = f"{name}:{sha256[:16]}"
    try:
        found = _package(bentoml.bentos.get(tag))
        if folder_sha256(found.model_path) == sha256:
            return found
        log.warning("%s holds another model than its tag says; it is built again", tag)
        bentoml.bentos.delete(tag)
    except NotFound:
        log.info("building %s", tag)
    with tempfile.TemporaryDirectory(prefix="retort-bento-") as context:
        _fill(Path(context), model)
        built = _package(_build(tag, Path(context), sha256, card))
    if folder_sha256(built.model_path) != sha256:
        raise ReleaseError(f"the Bento {tag} does not hold the model {sha256}; delete it with `bentoml delete {tag}`")
    return built


def _fill(context: Path, model: Path) -> None:
    """The build context: our `bento` package and the model beside it."""
    source = Path(next(iter(bento.__path__)))
    shutil.copytree(source, context / "bento", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(model, context / "model")


def _build(tag: str, context: Path, sha256: str, card: str) -> "object":
    import bentoml

    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "true")
    name, version = tag.split(":")
    return bentoml.build(
        service="bento.service:Retort",
        name=name,
        version=version,
        build_ctx=str(context),
        include=["bento/**", "model/**"],
        description=card,
        labels={"model_sha256": sha256},
        python={"packages": pinned_requirements(RUNTIME_PACKAGES), "lock_packages": False},
    )


def pinned_requirements(packages: tuple[str, ...]) -> list[str]:
    """`name==version` as installed here, since that is what was evaluated."""
    return [f"{package}=={importlib.metadata.version(package)}" for package in packages]


def _package(built: object) -> Package:
    path = Path(built.path)  # type: ignore[attr-defined]
    return Package(bento=str(built.tag), path=path, model_path=path / "src" / "model")  # type: ignore[attr-defined]
