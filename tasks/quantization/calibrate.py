"""Calibration: the range of each activation, from training sentences one at a time, in memory that does not grow.

Min-max takes what was seen; percentile and entropy cut rare large values, so that the 256 steps serve the common
ones. Both read histograms of a fixed number of bins.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from bento.errors import UserError
from tasks.quantization.integer import Range

Method = Literal["min_max", "percentile", "entropy"]

NUM_BINS = 4096
NUM_STEPS = 128
"""Steps of an 8-bit activation on one side of zero."""


class Observer(Protocol):
    """Sees an activation's values batch by batch and gives its range."""

    def add(self, values: NDArray[np.float32]) -> None:
        """Take in one run's values, of any shape."""

    def range(self) -> Range:
        """The range of what was seen."""


class MinMax:
    """Lowest and highest value seen."""

    def __init__(self) -> None:
        self.low, self.high = float("inf"), float("-inf")

    def add(self, values: NDArray[np.float32]) -> None:
        """Take in one run's values, of any shape."""
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))

    def range(self) -> Range:
        """Lowest and highest value seen."""
        return self.low, self.high


class Histogram(MinMax):
    """Counts over [-limit, limit]; a larger value doubles the limit and merges neighbouring bins, so nothing grows.

    The limit is a power of 2, so that the same values in another order give the same counts.
    """

    def __init__(self, num_bins: int = NUM_BINS) -> None:
        super().__init__()
        self.limit = 0.0
        self.counts = np.zeros(num_bins, dtype=np.int64)

    def add(self, values: NDArray[np.float32]) -> None:
        """Take in one run's values, of any shape."""
        super().add(values)
        largest = max(abs(self.low), abs(self.high))
        if self.limit == 0 and largest > 0:  # zeros before any other value are in no bin, and widen no range
            self.limit = 2.0 ** np.ceil(np.log2(largest))
        while self.limit < largest:
            self._double()
        if self.limit > 0:
            self.counts += np.histogram(values, bins=len(self.counts), range=(-self.limit, self.limit))[0]

    def _double(self) -> None:
        """Two bins become one, in the middle half of the new range."""
        num_bins = len(self.counts)
        merged = self.counts.reshape(-1, 2).sum(axis=1)
        self.counts = np.zeros(num_bins, dtype=np.int64)
        self.counts[num_bins // 4 : num_bins // 4 + num_bins // 2] = merged
        self.limit *= 2

    @property
    def edges(self) -> NDArray[np.float64]:
        """Of the bins; one more than they are."""
        return np.linspace(-self.limit, self.limit, len(self.counts) + 1)

    def cut(self, low: float, high: float) -> Range:
        """A range that is no wider than what was seen."""
        return max(low, self.low), min(high, self.high)


class Percentile(Histogram):
    """The range that holds `percentile` per cent of the values, the rest cut evenly from both ends."""

    def __init__(self, percentile: float) -> None:
        super().__init__()
        self.percentile = percentile

    def range(self) -> Range:
        """Outer edges of the bins that the two quantiles fall into."""
        if self.limit == 0:
            return super().range()
        below = np.cumsum(self.counts) / self.counts.sum()
        tail = (100 - self.percentile) / 200
        first = int(np.searchsorted(below, tail, side="right"))
        last = min(int(np.searchsorted(below, 1 - tail)), len(self.counts) - 1)
        return self.cut(self.edges[first], self.edges[last + 1])


class Entropy(Histogram):
    """The range whose 8-bit histogram diverges least from the float one."""

    def range(self) -> Range:
        """The same cut on both sides of zero, where values are seen there."""
        half = len(self.counts) // 2
        threshold = entropy_threshold(self.counts[half:] + self.counts[:half][::-1])
        limit = threshold * self.limit / half
        return self.cut(-limit, limit)


def entropy_threshold(counts: NDArray[np.int64], num_steps: int = NUM_STEPS) -> int:
    """Of a histogram of magnitudes, the number of bins whose rounding to `num_steps` loses the least information.

    The divergence is KL(P || Q): P has the values beyond the cut in its last bin, Q spreads each step's count evenly
    over its bins that are not empty. Source: Migacz 2017, "8-bit inference with TensorRT", GTC S7310. ONNX Runtime's
    own search is a hundred times slower, and its collector's histograms grow with the values.
    """
    best, least = len(counts), np.inf
    for kept in range(num_steps, len(counts) + 1):
        divergence = _divergence(counts, kept, num_steps)
        if divergence < least:
            best, least = kept, divergence
    return best


def _divergence(counts: NDArray[np.int64], kept: int, num_steps: int) -> float:
    """Of P from Q for a cut after `kept` bins; infinite where Q lacks what P has."""
    inside = counts[:kept]
    p = inside.astype(np.float64)
    p[-1] += counts[kept:].sum()
    starts = np.arange(num_steps) * kept // num_steps
    filled = inside > 0
    mean = np.add.reduceat(inside, starts) / np.maximum(np.add.reduceat(filled.astype(np.int64), starts), 1)
    q = np.repeat(mean, np.diff(starts, append=kept)) * filled
    if (not filled[-1] and p[-1]) or not q.any():
        return float("inf")
    p, q = p[filled] / p.sum(), q[filled] / q.sum()
    return float((p * np.log(p / q)).sum())


def make_observer(method: Method, percentile: float) -> Observer:
    """An empty observer of this method."""
    if method == "percentile":
        return Percentile(percentile)
    return Entropy() if method == "entropy" else MinMax()


def calibrate(
    model: Any, activations: Iterable[str], batches: Iterator[Mapping[str, Any]], *, method: Method, percentile: float
) -> dict[str, Range]:
    """Run the float `model` on each batch and return the range of each activation. Raises: UserError without a batch.

    One batch's activations are held at a time.
    """
    names = list(dict.fromkeys(activations))
    session = _open_with_outputs(model, names)
    inputs = {node.name for node in session.get_inputs()}
    observers = {name: make_observer(method, percentile) for name in names}
    num_batches = 0
    for feeds in batches:
        num_batches += 1
        values = session.run(names, {name: value for name, value in feeds.items() if name in inputs})
        for name, value in zip(names, values, strict=True):
            observers[name].add(value)
    if not num_batches:
        raise UserError("calibration: expected at least one training row, got none; give the data a training split")
    return {name: observer.range() for name, observer in observers.items()}


def _open_with_outputs(model: Any, names: list[str]) -> Any:
    """A session of a copy of `model` that also returns the named activations."""
    import onnx
    import onnxruntime as ort
    from onnx import TensorProto, helper

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    known = {output.name for output in copy.graph.output}
    copy.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names if name not in known
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])
