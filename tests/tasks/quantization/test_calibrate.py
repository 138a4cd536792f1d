"""Ranges against numpy over all values at once, and memory that does not follow the number of rows."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from bento.errors import UserError
from tasks.quantization.calibrate import (
    Entropy,
    Histogram,
    MinMax,
    Observer,
    Percentile,
    calibrate,
    entropy_threshold,
    make_observer,
)
from tests.tasks.quantization.graphs import make_graph, random_weights


def observe(observer: Observer, values: np.ndarray, num_pieces: int = 7) -> Observer:
    for piece in np.array_split(values, num_pieces):
        observer.add(piece)
    return observer


def gelu_like(num_values: int = 40_000) -> np.ndarray:
    """Skewed as activations are: short on the negative side, long on the positive."""
    values = np.random.default_rng(0).normal(size=num_values)
    return np.maximum(values, 0.1 * values).astype(np.float32)


def reference_entropy_threshold(counts: np.ndarray, num_steps: int) -> int:
    """Migacz's search written out bin by bin."""
    divergences = []
    for kept in range(num_steps, len(counts) + 1):
        p = [float(count) for count in counts[:kept]]
        p[-1] += float(counts[kept:].sum())
        q = [0.0] * kept
        for step in range(num_steps):
            bins = range(step * kept // num_steps, (step + 1) * kept // num_steps)
            filled = [at for at in bins if counts[at]]
            for at in filled:
                q[at] = sum(counts[other] for other in bins) / len(filled)
        total_p, total_q = sum(p), sum(q)
        terms = [
            np.inf if not b else a / total_p * np.log(a / total_p / (b / total_q))
            for a, b in zip(p, q, strict=True)
            if a
        ]
        divergences.append(sum(terms))
    return num_steps + int(np.argmin(divergences))


def test_min_max_is_numpys() -> None:
    values = gelu_like()
    assert observe(MinMax(), values).range() == (values.min(), values.max())


def test_percentile_is_numpys_quantile_to_within_two_bins() -> None:
    values = gelu_like()
    observer = observe(Percentile(99.0), values)
    width = observer.edges[1] - observer.edges[0]
    np.testing.assert_allclose(observer.range(), np.quantile(values, [0.005, 0.995]), atol=2 * width)


def test_the_whole_percentile_is_min_max() -> None:
    values = gelu_like()
    np.testing.assert_allclose(observe(Percentile(100.0), values).range(), (values.min(), values.max()), rtol=1e-6)


@pytest.mark.parametrize("power", [1, 2, 3])
def test_entropy_is_migaczs_search(power: int) -> None:
    counts = np.histogram(np.abs(gelu_like(3000)) ** power, bins=96)[0]
    assert 16 <= entropy_threshold(counts, 16) == reference_entropy_threshold(counts, 16)


@pytest.mark.parametrize("observer", [Percentile(99.9), Entropy()])
def test_a_lone_outlier_is_cut_off(observer: Observer) -> None:
    values = np.append(gelu_like(), np.float32(60))
    assert observe(MinMax(), values).range()[1] == 60
    assert observe(observer, values).range()[1] < 10


def test_a_histogram_keeps_its_size_whatever_it_sees() -> None:
    histogram, rng = Histogram(), np.random.default_rng(0)
    size_bytes = histogram.counts.nbytes
    for power in range(60):
        histogram.add((rng.normal(size=500) * 1.5**power).astype(np.float32))
    assert histogram.counts.nbytes == size_bytes
    assert histogram.counts.sum() == 60 * 500


def test_the_order_of_the_rows_does_not_matter() -> None:
    values = gelu_like(1000) ** 3
    rising, falling, at_once = Histogram(num_bins=64), Histogram(num_bins=64), Histogram(num_bins=64)
    observe(rising, np.sort(values), num_pieces=50)
    observe(falling, np.sort(values)[::-1], num_pieces=50)
    at_once.add(values)
    assert rising.limit == falling.limit == at_once.limit
    np.testing.assert_array_equal(rising.counts, at_once.counts)
    np.testing.assert_array_equal(falling.counts, at_once.counts)


@pytest.mark.parametrize("method", ["min_max", "percentile", "entropy"])
def test_an_activation_that_is_always_zero_has_the_range_zero(method: Any) -> None:
    observer = make_observer(method, 99.9)
    observer.add(np.zeros(5, dtype=np.float32))
    assert observer.range() == (0, 0)


def batches(num_batches: int) -> Iterator[Mapping[str, Any]]:
    rng = np.random.default_rng(0)
    for _ in range(num_batches):
        ids_BT = rng.integers(16, size=(1, 5))
        yield {"input_ids": ids_BT, "attention_mask": np.ones_like(ids_BT), "token_type_ids": ids_BT}


def test_ranges_of_a_graph_are_those_of_its_activations() -> None:
    weights = random_weights()
    sums = [weights["embeddings"][feeds["input_ids"][0]].sum(axis=0) for feeds in batches(9)]
    found = calibrate(make_graph(weights), ["sum_BW"], batches(9), method="min_max", percentile=99.9)
    assert found["sum_BW"] == pytest.approx((np.min(sums), np.max(sums)), rel=1e-5)


def test_calibration_on_nothing_is_an_error() -> None:
    with pytest.raises(UserError, match="at least one training row"):
        calibrate(make_graph(random_weights()), ["sum_BW"], batches(0), method="entropy", percentile=99.9)
