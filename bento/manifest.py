"""What a model folder holds: labels, lengths, threads, the digest of each file, and its lineage.

A model folder has the layout that `optimum.onnxruntime` and Transformers.js load:

    config.json  tokenizer.json  tokenizer_config.json  onnx/model.onnx  retort.json
"""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bento.abstention import Abstention
from bento.cost import Serving
from bento.errors import IntegrityError
from bento.prior import PriorCorrection
from bento.task_types import Target

MANIFEST_FILE = "retort.json"
ONNX_FILE = "onnx/model.onnx"


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of one file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_files(folder: Path) -> dict[str, str]:
    """POSIX path relative to `folder` -> hex SHA-256, for every regular file below it, sorted."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in paths}


def folder_sha256(folder: Path) -> str:
    """Digest of a whole folder: SHA-256 over its sorted (path, file digest) pairs. Names artifacts in the store."""
    return files_sha256(folder_files(folder))


def files_sha256(files: dict[str, str]) -> str:
    """Digest of what `folder_files` gives."""
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def folder_size_bytes(folder: Path) -> int:
    """Bytes of all files below `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


class Manifest(BaseModel):
    """The contract of a model folder, stored in it as `retort.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    name: str
    labels: tuple[str, ...]
    """Class names in the order of the model's outputs; of a score, its one name; of entities, the tags."""
    target: Target = Target()
    """What the model answers: one class, any number of them, a score, or entities."""
    pairs: bool = False
    """Whether an input is a pair of sentences rather than one."""
    max_tokens: int = Field(ge=4, le=8192)
    """Inputs are truncated to this many tokens, special tokens included."""
    threads: int = Field(default=2, ge=1)
    """ONNX Runtime intra-op threads that the measured latencies hold for."""
    serving: Serving | None = None
    """Threads, runs at a time and their cost under load, as measured when the model was built."""
    pad_multiple: int = Field(default=1, ge=1, le=512)
    """Inputs are padded to a multiple of this many tokens."""
    graph_level: Literal["basic", "extended", "all"] = "all"
    """How far ONNX Runtime optimises the graph when it loads it."""
    temperature: float = Field(default=1.0, gt=0)
    """Logits are divided by this before the softmax or sigmoid (calibration)."""
    threshold: float = Field(default=0.5, ge=0, le=1)
    """Of multi_label: labels at least this probable are answered."""
    abstain: Abstention | None = None
    """When an answer is abstained from; null answers always."""
    prior: PriorCorrection | None = None
    """The mix of classes that answers are corrected for; null is the one that the model was calibrated under."""
    files: dict[str, str]
    """Relative path -> hex SHA-256 of every other file of the folder."""
    lineage: dict[str, Any] = {}
    """Digests of the data, the teacher and each step that led here."""

    @model_validator(mode="after")
    def _prior_fits(self) -> Self:
        if self.prior and (self.target.task != "single_label" or len(self.prior.before) != len(self.labels)):
            raise ValueError(
                f"prior: expected a share for each of {len(self.labels)} classes of a single_label model, got "
                f"{len(self.prior.before)} shares for a {self.target.task} model"
            )
        return self

    @property
    def served_threads(self) -> int:
        """ONNX Runtime threads of a run under load."""
        return self.serving.threads if self.serving else self.threads

    @property
    def batch_invariant(self) -> bool:
        """Whether a text's answer is the same in every batch; what is not quantized is, but for rounding."""
        return "scheme" not in self.lineage or bool(self.lineage.get("batch_invariant"))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The manifest of `folder`, its files not yet checked. Raises: IntegrityError."""
        path = folder / MANIFEST_FILE
        if not path.is_file():
            raise IntegrityError(f"{folder} is not a Retort model folder: expected a {MANIFEST_FILE} in it")
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            fault = error.errors()[0]
            key = "".join(f"{part}: " for part in fault["loc"])
            raise IntegrityError(
                f"{path}: expected the manifest of a Retort model folder, got another file ({key}{fault['msg']}); it "
                "was altered, so the folder is not loaded. Run `retort run` again to rebuild it."
            ) from error

    def write(self, folder: Path) -> None:
        """Store the manifest as `folder/retort.json`."""
        (folder / MANIFEST_FILE).write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    def check(self, folder: Path) -> None:
        """Compare every file with its recorded digest. Raises: IntegrityError naming the first one that differs."""
        present = {path: digest for path, digest in folder_files(folder).items() if path != MANIFEST_FILE}
        for path in sorted(present.keys() | self.files.keys()):
            if present.get(path) != self.files.get(path):
                raise IntegrityError(
                    f"{folder / path}: expected sha256 {self.files.get(path, 'no such file')}, "
                    f"got {present.get(path, 'no such file')}; the folder was altered, so it is not loaded. "
                    "Run `retort run` again to rebuild it."
                )
