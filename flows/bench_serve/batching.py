"""Batching in process, on the texts as they come: none, by count, by length, and as the service does."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from bento.cost import RunCost, companions
from bento.predictor import Predictor
from flows.bench import row
from flows.bench_serve.bench import Bench

WINDOW = 64
"""Texts that wait at once."""
BUDGETS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
COUNTS = (8, 32)
FASTER = 1.5
NONE, SERVED = "none", "served"

Batches = Callable[[Sequence[int]], Iterator[list[int]]]
"""Numbers of tokens of N texts -> the rows of each run."""


def by_count(size: int) -> Batches:
    """`size` texts a run, in the order in which they came."""

    def batches(num_tokens_N: Sequence[int]) -> Iterator[list[int]]:
        for start in range(0, len(num_tokens_N), size):
            yield list(range(start, min(start + size, len(num_tokens_N))))

    return batches


def by_length(budget: int) -> Batches:
    """Neighbours in length of those that wait, as many as stay within `budget` padded tokens; at least one."""

    def batches(num_tokens_N: Sequence[int]) -> Iterator[list[int]]:
        for window in _windows(len(num_tokens_N)):
            run: list[int] = []
            for at in sorted(window, key=lambda row: num_tokens_N[row]):
                if run and (len(run) + 1) * num_tokens_N[at] > budget:
                    yield run
                    run = []
                run.append(at)
            yield run

    return batches


def by_cost(cost: RunCost, budget: int) -> Batches:
    """As the service does: the oldest with those that had better share its run, up to `budget` padded tokens."""

    def batches(num_tokens_N: Sequence[int]) -> Iterator[list[int]]:
        for waiting in _windows(len(num_tokens_N)):
            while waiting:
                places = companions([num_tokens_N[at] for at in waiting], cost, budget)
                yield [waiting[place] for place in places]
                waiting = [at for place, at in enumerate(waiting) if place not in places]

    return batches


def _windows(number: int) -> Iterator[list[int]]:
    for start in range(0, number, WINDOW):
        yield list(range(start, min(start + WINDOW, number)))


def measure(predictor: Predictor, texts: Sequence[str], ways: dict[str, Batches], repeats: int) -> dict[str, float]:
    """Texts a second of each way, tokenisation left out: medians of repeats in turns, after one that warms up.

    The predictor has one thread, so its CPU clock tells the time without what else runs on the machine.
    """
    encodings = predictor.tokenize(texts)
    num_tokens_N = [len(encoding.ids) for encoding in encodings]
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats + 1):
        for name, batches in ways.items():
            start = time.thread_time()
            for rows in batches(num_tokens_N):
                predictor.logits([texts[at] for at in rows], [encodings[at] for at in rows])
            seconds[name].append(time.thread_time() - start)
    return {name: len(texts) / float(np.median(values[1:])) for name, values in seconds.items()}


def batching_rows(bench: Bench) -> list[dict[str, Any]]:
    """The service's own budget against none; the whole curve goes into the details."""
    predictor = Predictor(bench.model, threads=1)
    serving = predictor.serving
    ways = {NONE: by_count(1)} | {f"{count} texts": by_count(count) for count in COUNTS}
    ways |= {f"similar length, {budget} tokens": by_length(budget) for budget in BUDGETS}
    ways[SERVED] = by_cost(serving.cost, serving.batch_tokens if predictor.manifest.batch_invariant else 1)
    texts = bench.texts.take(bench.effort.num_tuning)
    per_s = measure(predictor, texts, ways, bench.effort.repeats)
    curve = {budget: per_s[f"similar length, {budget} tokens"] for budget in BUDGETS}
    bench.details["batching"] = {"none_per_s": per_s[NONE], "per_s": list(curve.items())}
    ratio = per_s[SERVED] / per_s[NONE]
    rows = [
        row("batching as served", per_s[SERVED], "texts/s", f"none: {per_s[NONE]:,.0f}/s", ratio,
            f">= {FASTER:g} times", ratio >= FASTER)
    ]  # fmt: skip
    others = [name for name in ways if name not in (NONE, SERVED)]
    return rows + [
        row(f"batches of {name}", per_s[name], "texts/s", "none", per_s[name] / per_s[NONE]) for name in others
    ]
