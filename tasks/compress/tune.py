"""Latency tuning: the runtime settings that answer soonest on this CPU, measured and written into the manifest.

Threads of one request, the graph optimisation that is done once and kept in the file, and the multiple of tokens to
which inputs are padded. What is measured are the sentences of the validation split, one at a time, all settings
interleaved in rounds; a setting has to beat each plainer one by a margin, since one thread leaves the other cores to
other requests.
Then the cost of runs under load is measured (`tasks/serving_cost.py`), from which the service plans its batches.

Shapes: S settings, R rounds.
"""

import itertools
import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from bento.errors import UserError
from bento.manifest import MANIFEST_FILE, Manifest, folder_files
from bento.predictor import Predictor
from tasks.architecture import Architecture
from tasks.compress.context import Context
from tasks.data import read_split
from tasks.serving_cost import measure_serving
from tasks.store import Step
from tasks.types import Artifact, Section

log = logging.getLogger("retort.tune")

PAUSE_S = 0.01  # lets another setting's spinning threads go to sleep


class Tune(Section):
    """Measure threads, padding and graph optimisation, and keep what is fastest."""

    kind: Literal["tune"] = "tune"
    threads: list[int] = Field(default=[1, 2], min_length=1)
    """ONNX Runtime threads of one request to try; a later one has to beat those before it by the margin."""
    pad_multiples: list[int] = Field(default=[1, 8], min_length=1)
    """Multiples of tokens to pad to; a later one has to beat those before it by the margin."""
    graph_levels: list[Literal["basic", "extended", "all"]] = Field(default=["all", "extended"], min_length=1)
    """Graph optimisations of ONNX Runtime to try; `all` adds changes of memory layout."""
    margin: float = Field(default=0.1, ge=0, lt=1)
    """Share of the time of a plainer setting that more threads or another layout have to save to be worth it."""
    rounds: int = Field(default=40, ge=5, le=1000)
    """Sentences that each setting answers."""
    serving: bool = True
    """Also measure what runs cost under load, and with how many threads most is answered. A measurement is never twice
    the same, so neither is the digest of a model that holds one."""

    consumes: ClassVar[str] = "onnx"
    produces: ClassVar[str] = "onnx"

    def check(self, shape: Architecture) -> Architecture:
        """Raises: UserError for settings that cannot be."""
        import os

        wrong = [count for count in self.threads if not 1 <= count <= (os.cpu_count() or 1)]
        if wrong:
            raise UserError(
                f"tune.threads: expected numbers from 1 to this machine's {os.cpu_count()} cores, got {wrong}"
            )
        if any(multiple < 1 for multiple in self.pad_multiples):
            raise UserError(f"tune.pad_multiples: expected numbers from 1, got {self.pad_multiples}")
        return shape

    def run(self, artifact: Artifact, context: Context) -> Step:
        """The same model with the fastest settings in its manifest."""
        return context.step(self, artifact, lambda out, work: self._make(artifact, context, out))

    def _make(self, artifact: Artifact, context: Context, out: Path) -> None:
        manifest = Manifest.read(artifact.path)
        settings = self._settings(manifest)
        texts = read_split(context.data.path, "validation").texts
        sentences = [texts[row] for row in np.random.default_rng(context.seed).permutation(len(texts))[: self.rounds]]
        medians_ms = measure(artifact.path, settings, sentences)
        best = choose(settings, medians_ms, self.margin)
        for setting, ms in zip(settings, medians_ms, strict=True):
            log.info("%s: %.3f ms%s", setting.row(), ms, ", taken" if setting == best else "")
        shutil.copytree(artifact.path, out, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST_FILE))
        rng = np.random.default_rng(context.seed)
        serving = measure_serving(artifact.path, self.threads, rng) if self.serving else None
        manifest.model_copy(
            update=best.row()
            | {
                "serving": serving,
                "files": {path: digest for path, digest in folder_files(out).items() if path != MANIFEST_FILE},
                "lineage": manifest.lineage | {"untuned": artifact.sha256},
            }
        ).write(out)

    def _settings(self, manifest: Manifest) -> list["Setting"]:
        """All combinations, the plainest first; padding that batch invariance needs is not given up."""
        multiples = [multiple for multiple in self.pad_multiples if multiple % manifest.pad_multiple == 0]
        return [
            Setting(*values)
            for values in itertools.product(self.threads, multiples or [manifest.pad_multiple], self.graph_levels)
        ]


@dataclass(frozen=True)
class Setting:
    """One way to run a model."""

    threads: int
    pad_multiple: int
    graph_level: str

    def row(self) -> dict[str, Any]:
        """The manifest's fields."""
        return {"threads": self.threads, "pad_multiple": self.pad_multiple, "graph_level": self.graph_level}


def measure(folder: Path, settings: Sequence[Setting], sentences: Sequence[Any]) -> list[float]:
    """Median milliseconds of a sentence for each setting; all take turns at every sentence."""
    predictors = [Predictor(folder, check=False, **setting.row()) for setting in settings]
    taken_ms: list[list[float]] = [[] for _ in settings]
    for sentence in sentences:
        for at, predictor in enumerate(predictors):
            time.sleep(PAUSE_S)
            predictor.predict_logits([sentence])
            start = time.perf_counter()
            predictor.predict_logits([sentence])
            taken_ms[at].append((time.perf_counter() - start) * 1e3)
    return [float(np.median(values)) for values in taken_ms]


def choose(settings: Sequence[Setting], medians_ms: Sequence[float], margin: float) -> Setting:
    """The first setting that none beats by more than `margin` of its time."""
    fastest_ms = min(medians_ms)
    pairs = zip(settings, medians_ms, strict=True)
    return next(setting for setting, ms in pairs if fastest_ms >= (1 - margin) * ms)
