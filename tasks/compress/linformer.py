"""Linformer for long documents: attention over k slots instead of n tokens, distilled from the full-attention teacher.

The student has all the weights of the model that it is made from and answers nearly as it does before any training
(`tasks/linformer_model.py`; Wang 2020, arXiv:2006.04768). It is taken only where it wins: for short texts full
attention is as fast and better, so both are timed at the training split's own text lengths before the student is
trained, and where Linformer is not faster the model is passed on as it is.
"""

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from bento.errors import UserError
from bento.predictor import open_session
from tasks.architecture import Architecture, load_classifier
from tasks.attention_speed import median_ms
from tasks.batches import tokenize
from tasks.compress.context import Context
from tasks.compress.export import fuse, write_graph
from tasks.data import read_split
from tasks.distillation import Training, check_training, distil_into
from tasks.positions import cut_positions, extend_positions
from tasks.store import Step
from tasks.training import write_history
from tasks.types import Artifact

log = logging.getLogger("retort.linformer")

Precision = Literal["float32", "int8"]

NOTE_FILE = "attention.json"
QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Where the distribution of text lengths is sampled for the timing: the middles of five equal parts."""
TIMING_S = 40.0


class Linformer(Training):
    """Replace full attention by Linformer's, where that is faster, and learn from the teacher."""

    kind: Literal["linformer"] = "linformer"
    projected_length: int = Field(default=128, ge=1)
    """How many slots the tokens of a text are projected to (the paper's k); fewer are faster and lose more."""
    sharing: Literal["headwise", "key_value", "layerwise"] = "layerwise"
    """Which projections are one: those of a layer's heads; also those of its keys and values; also those of all
    layers, which adds least to the model's size."""
    min_speedup: float = Field(default=1.1, ge=0)
    """How many times as fast as full attention it has to be on the training split's text lengths, in ONNX Runtime on
    one thread; where it is not, full attention stays. 0 takes Linformer untimed."""
    timed_in: Precision = "int8"
    """Precision that both are timed in: the one that the chain ends in. Full attention gains more from int8."""
    epochs: int = Field(default=4, ge=1, le=200)
    """Passes over the training split and the transfer text."""
    learning_rate: float = Field(default=1e-4, gt=0, lt=1)
    """Peak of the warm-up; all the teacher's weights are kept, so less than a shallower student takes."""

    consumes: ClassVar[str] = "torch"
    produces: ClassVar[str] = "torch"

    def check(self, shape: Architecture) -> Architecture:
        """The sizes stay; techniques that take layers apart come before it.

        Raises: UserError for an encoder that is no BERT, lost heads, short texts, and relations, which slots do not
        have.
        """
        if shape.model_type != "bert":
            raise UserError(
                f"linformer: expected an encoder of type 'bert', got {shape.model_type!r}; take a teacher of that "
                "type, such as the default, or leave linformer out of compress"
            )
        if shape.lost_heads:
            raise UserError(
                "linformer: expected a model with all its heads, got one that lost some; leave linformer out of "
                "compress, or keep the heads in front of it"
            )
        self._check_length(shape.max_positions)
        student = replace(shape, model_type="linformer", known_parts=False)
        check_training(self, student, "linformer")
        return student

    def run(self, artifact: Artifact, context: Context) -> Step:
        """The Linformer student of `artifact`, or `artifact` itself where full attention is as fast.

        Raises: UserError when texts are no longer than the projection.
        """
        self._check_length(context.max_tokens)
        return context.step(self, artifact, lambda out, work: self._make(artifact.path, context, out, work))

    def _check_length(self, max_tokens: int) -> None:
        if self.projected_length >= max_tokens:
            raise UserError(
                f"linformer.projected_length: expected fewer than the {max_tokens} tokens of the longest text, got "
                f"{self.projected_length}: full attention is better there and as fast; leave linformer out of "
                "compress, or project to fewer"
            )

    def _make(self, source: Path, context: Context, out: Path, work: Path) -> None:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(source)
        full, student = self._both(source, context.max_tokens)
        chosen = self.min_speedup == 0 or self._wins(full, student, _lengths(tokenizer, context), work)
        self._write_note(chosen, out)
        if not chosen:
            shutil.copytree(source, out, dirs_exist_ok=True, ignore=shutil.ignore_patterns("history.json"))
            return
        history = distil_into(student, tokenizer, self, context, work=work, name="linformer")
        student.save_pretrained(out)
        tokenizer.save_pretrained(out)
        write_history(history, out)

    def _both(self, source: Path, max_tokens: int) -> tuple[Any, Any]:
        """The model with full attention and the untrained student, both of `max_tokens` positions."""
        from tasks.linformer_model import to_linformer

        full = load_classifier(source)
        extend_positions(full, max_tokens)
        cut_positions(full, max_tokens)
        student = to_linformer(full, projected_length=self.projected_length, sharing=self.sharing, longest=max_tokens)
        return full, student

    def _wins(self, full: Any, student: Any, lengths: list[int], work: Path) -> bool:
        """Whether the student is `min_speedup` times as fast, timed at `lengths` in turns."""
        folder = work / "timing"
        shutil.rmtree(folder, ignore_errors=True)
        paths = {name: write_fused(model, folder / name) for name, model in (("full", full), ("linformer", student))}
        if self.timed_in == "int8":
            paths = {name: write_int8(path) for name, path in paths.items()}
        sessions = {name: open_session(path, threads=1) for name, path in paths.items()}
        found = {name: float(np.mean(ms)) for name, ms in median_ms(sessions, lengths, budget_s=TIMING_S).items()}
        speedup = found["full"] / found["linformer"]
        chosen = speedup >= self.min_speedup
        log.info(
            "at %s tokens, %s, one text, one thread: full attention %.2f ms, Linformer with %d slots %.2f ms, %.2f "
            "times as fast; asked for %.2f: %s",
            ", ".join(map(str, lengths)), self.timed_in, found["full"], self.projected_length, found["linformer"],
            speedup, self.min_speedup, "Linformer is trained" if chosen else "full attention stays, nothing is trained",
        )  # fmt: skip
        return chosen

    def _write_note(self, chosen: bool, out: Path) -> None:
        """What was chosen; without the times, so that bytes repeat."""
        note = {"attention": "linformer" if chosen else "full", "min_speedup": self.min_speedup}
        (out / NOTE_FILE).write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")


def write_fused(model: Any, folder: Path) -> Path:
    """The fused float32 ONNX file of a torch classifier, in `folder`, which is made."""
    model.save_pretrained(folder)
    write_graph(folder, folder / "raw")
    fuse(folder / "raw" / "model.onnx", folder, folder / "model.onnx")
    return folder / "model.onnx"


def write_int8(source: Path) -> Path:
    """A copy beside `source` whose constant weights multiply in int8, as `quantize` has it by default."""
    import onnx

    from tasks.quantization.graph import find_parts, read_graph
    from tasks.quantization.integer import quantize_dynamic

    model, out = read_graph(source), source.with_name("int8.onnx")
    nodes = [part.name for part in find_parts(model) if part.kind == "node" and part.integer]
    onnx.save(quantize_dynamic(model, nodes, per_channel=True), out)
    return out


def _lengths(tokenizer: Any, context: Context) -> list[int]:
    """Numbers of tokens at QUANTILES of the training split, truncated as the model will see them."""
    rows = tokenize(tokenizer, read_split(context.data.path, "train").texts, max_tokens=context.max_tokens)
    return [int(n) for n in np.quantile([len(ids) for ids in rows.token_ids], QUANTILES, method="nearest")]
