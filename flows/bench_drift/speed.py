"""What one look costs, at the sizes of a large model's traffic."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from flows.bench import row
from flows.bench_drift.lab import Lab, seeded
from flows.bench_drift.replay import Run, Setup
from flows.bench_drift.streams import NUM_TRAIN, Stream, in_scope
from tasks.monitor.config import MonitorConfig
from tasks.monitor.drift import look
from tasks.stats.two_sample import mmd_test

WINDOW, REFERENCE, PERMUTATIONS = 1_000, 2_000, 10_000
SPARE = 1.1
"""Rows for each that is compared, since some texts come twice."""
REPEATS = 3
MAX_S = 5.0


def look_rows(lab: Lab) -> list[dict[str, Any]]:
    """Seconds of a look at a window without drift, and of its MMD alone; medians, taken in turns."""
    sizes = {"window": WINDOW, "min_window": WINDOW // 2, "reference": REFERENCE, "permutations": PERMUTATIONS - 1}
    config = MonitorConfig.model_validate(lab.monitor.model_dump() | sizes)
    name = max(lab.corpora, key=lambda one: len(set(lab.corpora[one].texts)))
    run = _run(lab, name, config)
    if run is None:
        return [row("one look", None, "", f"{name}, the largest set, has too few rows of different texts")]
    reference, window = run.model(0).reference, run.window(0, 1)
    projected = reference.project(window.embeddings_ND), reference.projected_MK
    rng = np.random.default_rng(0)
    whole = partial(look, reference, window, config=config, rng=rng)
    alone = partial(mmd_test, *projected, rng=rng, num_permutations=PERMUTATIONS - 1)
    seconds, alone_s = np.median([[_seconds(work) for work in (whole, alone)] for _ in range(REPEATS)], axis=0)
    sizes_in_words = (
        f"{len(reference):,} held-out rows of {name} against {len(window):,}, {PERMUTATIONS:,} permutations"
    )
    against = f"{sizes_in_words}; its MMD alone {alone_s:.2f} s"
    return [
        row(
            "one look",
            float(seconds),
            "s",
            against,
            float(seconds / alone_s),
            f"<= {MAX_S:g} s",
            bool(seconds <= MAX_S),
        )
    ]


def _run(lab: Lab, name: str, config: MonitorConfig) -> Run | None:
    corpus = lab.corpora[name]
    rng = seeded("look", name)
    rows = rng.permutation(in_scope(corpus))
    ends = np.cumsum([NUM_TRAIN, int(2 * SPARE * REFERENCE), int(SPARE * WINDOW)])  # half of them fits the projection
    if len(rows) < ends[-1]:
        return None
    train_R, held_R, live_R, _ = np.split(rows, ends)
    stream = Stream(name=name, corpus=corpus, train_R=train_R, held_R=held_R, live_R=live_R)
    return Run(stream, Setup(monitor=config, step=len(live_R)), rng)


def _seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
