"""Prometheus metrics of the service; every label set is bounded by the routes or by the model.

One registry a process: the service runs one worker, so its counters live in memory and are exact.
"""

import os

# BentoML points every server of one BENTOML_HOME at one folder of shared counter files and wipes that folder whenever
# another server starts. Counters in memory survive this; prometheus_client chooses between the two when imported.
os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LATENCY_BUCKETS_S = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.035, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """All metrics of one app in a registry of their own, so that several apps can live in one process."""

    def __init__(self) -> None:
        """Create every metric at once, so that each is exposed before its first event."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._requests()
        self._model()
        self._log()

    def _requests(self) -> None:
        self.requests = self._counter("requests", "Answered requests", "route", "status")
        self.latency = self._histogram("request_seconds", "From a request's arrival to its answer", "route")
        self.queue_wait = self._histogram("queue_wait_seconds", "Time in the queue before inference")
        self.inference = self._histogram("inference_seconds", "One run of the model")
        self.batch = self._histogram("batch_texts", "Texts the worker took at once", buckets=BATCH_BUCKETS)
        self.queue_texts = self._gauge("queue_texts", "Texts that wait or are computed")
        self.rejected = self._counter("rejected", "Requests refused because the queue was full")
        self.predictions = self._counter("predictions", "Predictions by class", "label")
        self.abstentions = self._counter("abstentions", "Predictions that were abstained from")
        self.feedback = self._counter("feedback", "Labels given to /feedback; agrees: same as predicted", "agrees")

    def _model(self) -> None:
        self.model_info = self._gauge(
            "model_info", "1: the model that serves", "name", "version", "model_sha256", "bento"
        )
        self.ready = self._gauge("ready", "1 when predictions are answered")
        self.swaps = self._counter("model_swaps", "Models that began to serve")
        self.swaps_refused = self._counter("model_swaps_refused", "Models that were refused at loading")
        self.pointer_errors = self._counter("pointer_errors", "Failed reads of the champion pointer")

    def _log(self) -> None:
        self.log_rows = self._counter("log_rows", "Rows written to the request log")
        self.log_pending = self._gauge("log_pending_rows", "Rows not yet written")
        self.log_lag = self._gauge("log_lag_seconds", "Age of the oldest row at its last attempted write")
        self.log_errors = self._counter("log_errors", "Failed writes; each is tried again")
        self.log_dropped = self._counter("log_dropped_rows", "Rows lost, by reason", "reason")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"retort_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"retort_{name}", text, labels, registry=self.registry)

    def _histogram(
        self, name: str, text: str, *labels: str, buckets: tuple[float, ...] = LATENCY_BUCKETS_S
    ) -> Histogram:
        return Histogram(f"retort_{name}", text, labels, buckets=buckets, registry=self.registry)

    def exposition(self) -> bytes:
        """The registry in Prometheus' text format."""
        return generate_latest(self.registry)
