"""Quantization: dynamic int8 of the constant-weight MatMuls and the embeddings.

Weights are quantized per channel, activations per run (Jacob 2018, arXiv:1712.05877; ONNX Runtime's dynamic scheme).
Only MatMuls with a constant weight are touched: quantizing attention's activation products costs accuracy and gains
nothing on a CPU.
"""

import contextlib
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from bento.manifest import MANIFEST_FILE, ONNX_FILE, Manifest, folder_files
from tasks.compress.context import Context
from tasks.store import Step
from tasks.types import Artifact, Section


class Quantize(Section):
    """Store and multiply weights in 8 bits."""

    kind: Literal["quantize"] = "quantize"
    scheme: Literal["int8_dynamic"] = "int8_dynamic"
    """How values become integers."""
    per_channel: bool = True
    """One scale a weight column, which keeps more accuracy than one a matrix."""

    consumes: ClassVar[str] = "onnx"
    produces: ClassVar[str] = "onnx"

    def run(self, artifact: Artifact, context: Context) -> Step:
        """The 8-bit folder of `artifact`."""
        return context.step(self, artifact, lambda out, work: self._make(artifact, out))

    def _make(self, artifact: Artifact, out: Path) -> None:
        shutil.copytree(
            artifact.path, out, dirs_exist_ok=True, ignore=shutil.ignore_patterns("model.onnx", MANIFEST_FILE)
        )
        quantize_dynamic_int8(artifact.path / ONNX_FILE, out / ONNX_FILE, per_channel=self.per_channel)
        manifest = Manifest.read(artifact.path)
        manifest.model_copy(
            update={
                "files": {path: digest for path, digest in folder_files(out).items() if path != MANIFEST_FILE},
                "lineage": manifest.lineage | {"onnx": artifact.sha256, "scheme": self.scheme},
            }
        ).write(out)


def quantize_dynamic_int8(source: Path, out: Path, *, per_channel: bool) -> None:
    """Write the 8-bit model; `DefaultTensorType` tells the shape inference that unnamed types are float."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _muted(logging.getLogger()):
        quantize_dynamic(
            str(source),
            str(out),
            per_channel=per_channel,
            reduce_range=False,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True, "DefaultTensorType": 1},
        )


@contextlib.contextmanager
def _muted(logger: logging.Logger) -> Iterator[None]:
    """ONNX Runtime's quantizer writes a warning a node to the root logger; only errors matter here."""
    level = logger.level
    logger.setLevel("ERROR")
    try:
        yield
    finally:
        logger.setLevel(level)
