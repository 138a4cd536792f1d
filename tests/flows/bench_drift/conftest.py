"""Synthetic sets in place of embedded text: clusters on a sphere, one a class."""

from collections.abc import Callable

import numpy as np
import pytest

from flows.bench_drift.corpus import Corpus
from flows.bench_drift.replay import Run, Setup
from flows.bench_drift.streams import Stream
from tasks.monitor.config import MonitorConfig

NUM_DIMENSIONS = 24
CENTRES = np.random.default_rng(9).normal(size=(4, NUM_DIMENSIONS))
AWAY = np.random.default_rng(8).normal(size=NUM_DIMENSIONS)


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    """6,000 rows of three classes as ever, then 2,000 that lie elsewhere and whose classes changed places."""
    rng = np.random.default_rng(0)
    class_N = rng.integers(0, 3, 8_000)
    moved_N = np.arange(8_000) >= 6_000
    points_ND = CENTRES[np.where(moved_N, (class_N + 1) % 3, class_N)] + 0.8 * rng.normal(size=(8_000, NUM_DIMENSIONS))
    points_ND += moved_N[:, None] * AWAY
    return Corpus(
        name="clusters",
        texts=tuple(f"text {at}" for at in range(8_000)),
        labels_N=np.array(["red", "green", "blue"])[class_N],
        domains_N=np.where(moved_N, "new", "old"),
        timed=True,
        embeddings_ND=(points_ND / np.linalg.norm(points_ND, axis=1, keepdims=True)).astype(np.float32),
        descriptors={"length": rng.normal(size=8_000).astype(np.float32)},
    )


@pytest.fixture(scope="session")
def setup() -> Setup:
    monitor = MonitorConfig(window=200, min_window=100, reference=300, looks=20, tolerance=0.02)
    return Setup(monitor=monitor, step=100, delay=100)


@pytest.fixture(scope="session")
def make_run(corpus: Corpus, setup: Setup) -> Callable[..., Run]:
    """A run whose live part has 1,000 rows as ever and, where it shifts, 1,000 of the others behind them."""

    def make(*, shifts: bool) -> Run:
        rest = np.arange(6_000, 7_000) if shifts else np.arange(3_600, 4_600)
        stream = Stream(
            name="clusters, abrupt", corpus=corpus, train_R=np.arange(2_000), held_R=np.arange(2_000, 2_600),
            live_R=np.concatenate([np.arange(2_600, 3_600), rest]), change=1_000, settled=1_000,
        )  # fmt: skip
        return Run(stream, setup, np.random.default_rng(1))

    return make


@pytest.fixture(scope="session")
def shifted(make_run: Callable[..., Run]) -> Run:
    return make_run(shifts=True)


@pytest.fixture(scope="session")
def still(make_run: Callable[..., Run]) -> Run:
    return make_run(shifts=False)
