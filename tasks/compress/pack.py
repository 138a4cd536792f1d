"""Packing: an ONNX file whose sparse weights are stored compressed and are the same, bit by bit, once it is loaded.

Any ONNX Runtime opens it, since standard operators restore the weights at load (`tasks/sparse_onnx.py`). The model that
runs is the dense one: packing saves storage and transfer, and neither memory nor time of an answer.
"""

import shutil
from pathlib import Path
from typing import ClassVar, Literal

from bento.errors import UserError
from bento.manifest import MANIFEST_FILE, ONNX_FILE, Manifest, folder_files
from tasks.architecture import Architecture
from tasks.compress.context import Context
from tasks.sparse_onnx import Packed, pack_file
from tasks.store import Step
from tasks.types import Artifact, Section

MIN_SAVING = 0.05
"""Share of the file below which packing is not worth its load time."""


class Pack(Section):
    """Store sparse weights as their values and positions; the last technique of a chain."""

    kind: Literal["pack"] = "pack"

    consumes: ClassVar[str] = "onnx"
    produces: ClassVar[str] = "onnx"

    def check(self, shape: Architecture) -> Architecture:
        """The same sizes."""
        return shape

    def run(self, artifact: Artifact, context: Context) -> Step:
        """The folder of `artifact` with a smaller model file. Raises: UserError when nothing in it is sparse."""
        return context.step(self, artifact, lambda out, work: self._make(artifact, out))

    def _make(self, artifact: Artifact, out: Path) -> None:
        shutil.copytree(
            artifact.path, out, dirs_exist_ok=True, ignore=shutil.ignore_patterns("model.onnx", MANIFEST_FILE)
        )
        packed = pack(artifact.path / ONNX_FILE, out / ONNX_FILE)
        manifest = Manifest.read(artifact.path)
        manifest.model_copy(
            update={
                "files": {path: digest for path, digest in folder_files(out).items() if path != MANIFEST_FILE},
                "lineage": manifest.lineage | {"unpacked": artifact.sha256, "packed": _note(packed)},
            }
        ).write(out)


def pack(source: Path, out: Path) -> Packed:
    """Write the packed model of `source`. Raises: UserError when it hardly becomes smaller."""
    packed = pack_file(source, out)
    if packed.stored_bytes > (1 - MIN_SAVING) * packed.dense_bytes:
        raise UserError(
            "pack: expected a model with sparse weights, but no tensor is sparse enough: "
            f"{packed.dense_bytes / 1e6:.2f} MB would become {packed.stored_bytes / 1e6:.2f} MB; "
            "put prune_weights before export, or raise its sparsity, and quantize to 8 bits, since 4-bit values are "
            "left as they are; or leave pack out"
        )
    return packed


def _note(packed: Packed) -> dict[str, int]:
    return {
        "num_tensors": packed.num_tensors,
        "dense_bytes": packed.dense_bytes,
        "stored_bytes": packed.stored_bytes,
    }
