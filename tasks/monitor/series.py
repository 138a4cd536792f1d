"""Which of the service's metrics monitoring reads, in one list for both of its sources: /metrics and Prometheus."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from bento.metrics import PREDICT_ROUTES

Values = dict[str, float]
"""`name` or `name|label value|...` -> value, summed over whatever else differs."""

PREDICTIONS = {"route": PREDICT_ROUTES}


@dataclass(frozen=True, kw_only=True)
class Series:
    """Samples of one name that have these label values, apart by the labels `by`."""

    sample: str
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    by: tuple[str, ...] = ()

    def takes(self, labels: Mapping[str, str]) -> bool:
        """Whether a sample with these labels belongs to it."""
        return all(labels.get(name) in values for name, values in self.where.items())

    def key(self, name: str, labels: Mapping[str, str]) -> str:
        """Where a sample counts."""
        return "|".join([name, *(labels.get(label, "") for label in self.by)])

    @property
    def selector(self) -> str:
        """The same in PromQL."""
        matches = (f'{name}=~"{_alternatives(values)}"' for name, values in self.where.items())
        return f"{self.sample}{{{','.join(matches)}}}"


COUNTERS = {
    "latency": Series(
        sample="retort_request_seconds_bucket", where=PREDICTIONS | {"outcome": ("ok",)}, by=("le",)
    ),
    "outcome": Series(sample="retort_request_seconds_count", where=PREDICTIONS, by=("outcome",)),
    "status": Series(sample="retort_requests_total", where=PREDICTIONS, by=("status",)),
    "cpu_s": Series(sample="process_cpu_seconds_total"),
    "queue": Series(sample="retort_queue_wait_seconds_bucket", by=("le",)),
    "cache": Series(sample="retort_cache_total", by=("tier", "found")),
    "runs": Series(sample="retort_batch_texts_count"),
    "texts": Series(sample="retort_batch_texts_sum"),
    "tokens": Series(sample="retort_batch_tokens_sum"),
    "padding": Series(sample="retort_padding_tokens_total"),
}  # fmt: skip
GAUGES = {
    "memory_bytes": Series(sample="process_resident_memory_bytes"),
    "queue_texts": Series(sample="retort_queue_texts"),
    "gpu_used_bytes": Series(sample="retort_gpu_memory_used_bytes"),
    "gpu_total_bytes": Series(sample="retort_gpu_memory_total_bytes"),
    "gpu_ratio": Series(sample="retort_gpu_utilisation_ratio"),
}
"""Of these the largest replica's counts."""


def _alternatives(values: Iterable[str]) -> str:
    return "|".join(re.escape(value) for value in values).replace("\\", "\\\\")


def parts(values: Mapping[str, float], name: str) -> dict[str, float]:
    """Label value -> value of one name."""
    return {key.partition("|")[2]: value for key, value in values.items() if key.partition("|")[0] == name}


def quantile(buckets: Mapping[str, float], share: float) -> float | None:
    """A quantile from cumulative counts by upper bound, linear within a bucket, as Prometheus' histogram_quantile.

    In the last bucket it is that bucket's lower bound; None without a count.
    """
    bounds = sorted((float(bound), count) for bound, count in buckets.items())
    if not bounds or bounds[-1][1] <= 0:
        return None
    rank, below, start = share * bounds[-1][1], 0.0, 0.0
    for bound, count in bounds:
        if count >= rank and count > below:
            return start if bound == float("inf") else start + (bound - start) * (rank - below) / (count - below)
        below, start = count, bound
    return start
