"""What a run of a model costs on this CPU, and with which threads it answers most under load.

Times of runs over a grid of batch sizes and lengths, all taking turns, give the coefficients of `bento.cost.RunCost` by
least squares of the relative error, none of them negative (Lawson and Hanson 1974). The layout is that of the threads
and runs at a time which get through most tokens.

Shapes: G cells of the grid, R rounds.
"""

import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from bento.cost import RunCost, Serving
from bento.predictor import Predictor

log = logging.getLogger("retort.tune")

BATCHES = (1, 2, 4, 8, 16)
LENGTHS = (8, 16, 32, 64, 128, 256)
MAX_CELL_TOKENS = 1024
"""Larger runs say nothing new and take long."""
WARM_RUNS, WARM_TOKENS = 4, 256
"""Runs before the timed one of a cell of so few tokens. Under load a run follows others of its kind; behind one of a
thousand tokens it would first fetch the weights anew, and look as if most of its time were its own."""
ROUNDS = 15
LAYOUT_ROUNDS = 5
RUNS_A_ROUND = 24
MARGIN = 0.1
"""More threads a run have to answer so much more than one, since one leaves the rest to other runs."""


def measure_serving(folder: Path, threads: Sequence[int], rng: np.random.Generator) -> Serving:
    """The layout of the threads to try, the first unless another wins by a margin, and the cost of a run with it."""
    layouts = [(count, max(1, (os.cpu_count() or 1) // count)) for count in threads]
    predictors = [Predictor(folder, threads=count, check=False) for count, _ in layouts]
    cost = measure_cost(predictors[0], rng)
    speeds = [0.0] if len(layouts) == 1 else _tokens_per_s(predictors, layouts, cost, rng)
    best = int(np.argmax(speeds))
    if best != 0 and speeds[best] > (1 + MARGIN) * speeds[0]:
        cost = measure_cost(predictors[best], rng)
    else:
        best = 0
    log.info("under load: %d runs of %d threads at a time; %s", layouts[best][1], layouts[best][0], cost)
    return Serving.of(cost, threads=layouts[best][0], workers=layouts[best][1])


def measure_cost(predictor: Predictor, rng: np.random.Generator) -> RunCost:
    """The coefficients of a run's time: with one thread that of the processor, which other programs hardly change."""
    clock = time.thread_time if predictor.manifest.threads == 1 else time.perf_counter
    longest = predictor.manifest.max_tokens
    lengths = sorted({min(length, longest) for length in LENGTHS})
    grid = [(size, length) for size in BATCHES for length in lengths if size * length <= MAX_CELL_TOKENS]
    feeds = [_feeds(predictor, *cell, rng) for cell in grid]
    times_RG = np.empty((ROUNDS, len(grid)))
    for row_G in times_RG:
        for at, (feed, (size, length)) in enumerate(zip(feeds, grid, strict=True)):
            for _ in range(WARM_RUNS if size * length <= WARM_TOKENS else 0):
                predictor.session.run(None, feed)
            started = clock()
            predictor.session.run(None, feed)
            row_G[at] = (clock() - started) * 1e3
    return fit_cost(grid, np.median(times_RG[1:], axis=0))


def fit_cost(grid: Sequence[tuple[int, int]], ms_G: Any) -> RunCost:
    """Coefficients for runs of (texts, tokens) that took so many milliseconds."""
    from scipy.optimize import nnls

    terms = np.array([[1, size, size * length, size * length**2] for size, length in grid], dtype=float)
    found, _ = nnls(terms / np.asarray(ms_G)[:, None], np.ones(len(grid)))
    run_ms, text_ms, token_ms, attention_ms = (float(f"{value:.3g}") for value in found)
    return RunCost(run_ms=run_ms, text_ms=text_ms, token_ms=max(token_ms, 1e-6), attention_ms=attention_ms)


def _feeds(predictor: Predictor, size: int, length: int, rng: np.random.Generator) -> dict[str, Any]:
    ids_BT = rng.integers(predictor.tokenizer.get_vocab_size(), size=(size, length))
    arrays = {"input_ids": ids_BT, "attention_mask": np.ones_like(ids_BT), "token_type_ids": np.zeros_like(ids_BT)}
    return {name: arrays[name] for name in predictor.input_names}


def _tokens_per_s(
    predictors: Sequence[Predictor], layouts: Sequence[tuple[int, int]], cost: RunCost, rng: np.random.Generator
) -> list[float]:
    """Median throughput of each layout in runs as long as batching makes them; all take turns."""
    length = min(16, predictors[0].manifest.max_tokens)
    size = max(1, cost.batch_tokens() // length)
    feed = _feeds(predictors[0], size, length, rng)
    speeds_RL = np.empty((LAYOUT_ROUNDS, len(layouts)))
    for row_L in speeds_RL:
        for at, (predictor, (_, workers)) in enumerate(zip(predictors, layouts, strict=True)):
            started = time.perf_counter()
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(lambda _, one=predictor: one.session.run(None, feed), range(RUNS_A_ROUND)))
            row_L[at] = RUNS_A_ROUND * size * length / (time.perf_counter() - started)
    speeds: list[float] = np.median(speeds_RL, axis=0).tolist()
    return speeds
