"""How much is measured, and two processes that share the work."""

import logging
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from flows.bench_drift.corpus import Corpus, read_corpora
from flows.bench_drift.replay import Rng, Setup
from tasks.monitor.config import MonitorConfig
from tasks.types import Artifact

log = logging.getLogger("retort.bench")

Job = TypeVar("Job")
Found = TypeVar("Found")

NUM_PROCESSES = 2


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much is measured."""

    num_replays: int = 300
    """Without drift, half of them shuffled and half in natural order."""
    looks: int = 90
    """Of a replay without drift, which share the false-alarm budget."""
    num_seeds: int = 5
    """Of each stream: another champion, other labels, another order."""
    step: int = 60
    """Requests between two looks at a stream that changes."""
    shapes: tuple[str, ...] = ("abrupt", "ramped")


QUICK = Effort(num_replays=24, looks=30, num_seeds=1, step=100, shapes=("abrupt",))


@dataclass(frozen=True, kw_only=True)
class Lab:
    """One run of the benchmark."""

    folder: Path
    """The sets of text."""
    encoder: Artifact
    effort: Effort
    monitor: MonitorConfig
    """Of the config that is measured; windows and looks are the benchmark's."""
    corpora: dict[str, Corpus] = field(repr=False)
    details: dict[str, Any] = field(default_factory=dict)
    """Part -> what its rows are made of, for the JSON and the plots."""

    @property
    def setup(self) -> Setup:
        """How streams that change are replayed."""
        monitor = small(self.monitor, self.effort.looks)
        return Setup(monitor=monitor, step=self.effort.step, max_labels=self.monitor.window)

    def share_out(self, work: Callable[[Job], Found], jobs: Iterable[Job], title: str) -> list[Found]:
        """`work` on every job, by processes of one thread each that read the sets from the store."""
        jobs = list(jobs)
        found = []
        with ProcessPoolExecutor(
            NUM_PROCESSES, mp_context=get_context("spawn"), initializer=_enter, initargs=(self.folder, self.encoder)
        ) as pool:
            for number, one in enumerate(pool.map(work, jobs), 1):
                found.append(one)
                if number % max(1, len(jobs) // 10) == 0:
                    log.info("%s: %d of %d", title, number, len(jobs))
        return found


def small(monitor: MonitorConfig, looks: int) -> MonitorConfig:
    """Windows and a reference that allow tens of thousands of looks; everything else as configured."""
    sizes = {"window": 200, "min_window": 100, "reference": 400, "looks": looks}
    return MonitorConfig.model_validate(monitor.model_dump() | sizes)


def seeded(*parts: object) -> Rng:
    """A generator of its own for each job, whatever process takes it."""
    return np.random.default_rng(list("/".join(map(str, parts)).encode()))


_entered: dict[str, Any] = {}


def _enter(folder: Path, encoder: Artifact) -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from threadpoolctl import threadpool_limits

    _entered["limits"] = threadpool_limits(1)
    _entered["sets"] = (folder, encoder)


@cache
def corpora_here() -> dict[str, Corpus]:
    """The sets, in a process that `share_out` started."""
    return read_corpora(*_entered["sets"])
