"""Prometheus metrics of the service; every label set is bounded by the routes or by the model.

One registry a process, in its memory; `bento.processes` puts those of several together.
"""

import itertools
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

from bento.gpu_metrics import GpuCollector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LATENCY_BUCKETS_S = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.035, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
TOKEN_BUCKETS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
CONFIDENCE_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
OUTCOMES = ("ok", "refused", "overload", "failed")
PREDICT_ROUTES = ("/predict", "/v2/models/{name}/infer")
ARMS = ("champion", "challenger")
SKIPPED_REASONS = ("busy", "queue_full", "failed")
LOST_REASONS = (
    "queue_full", "spool_full", "disk_refuses", "spool_deleted", "corrupt", "refused", "duplicate", "shutdown",
)  # fmt: skip


def outcome(status: int) -> str:
    """What a request's status means to whoever watches: ok, refused (the client's fault), overload or failed."""
    if status < 400:
        return "ok"
    if status == 429:
        return "overload"
    return "refused" if status < 500 else "failed"


class Metrics:
    """All metrics of one app in a registry of their own, so that several apps can live in one process."""

    def __init__(self) -> None:
        """Create every metric at once, so that each is exposed before its first event."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        if GpuCollector.available():
            self.registry.register(GpuCollector())
        self._requests()
        self._batches()
        self._cache()
        self._answers()
        self._model()
        self._beside()
        self._log()

    def _requests(self) -> None:
        self.requests = self._counter("requests", "Answered requests", "route", "status")
        self.latency = self._histogram("request_seconds", "From a request's arrival to its answer", "route", "outcome")
        for route, name in itertools.product(PREDICT_ROUTES, OUTCOMES):  # a rate needs a zero to rise from
            self.latency.labels(route=route, outcome=name)
        self.errors = self._counter("errors", "Requests that ended in an error, by its code", "code")
        self.rejected = self._counter("rejected", "Requests refused because the queue was full")
        self.feedback = self._counter("feedback", "Labels given to /feedback; agrees: same as predicted", "agrees")

    def _batches(self) -> None:
        self.queue_wait = self._histogram("queue_wait_seconds", "Time in the queue before inference")
        self.inference = self._histogram("inference_seconds", "One run of the model")
        self.batch = self._histogram("batch_texts", "Texts of one run", buckets=BATCH_BUCKETS)
        self.batch_tokens = self._histogram("batch_tokens", "Tokens of one run, with padding", buckets=TOKEN_BUCKETS)
        self.padding_tokens = self._counter("padding_tokens", "Tokens of padding that were computed")
        self.queue_texts = self._gauge("queue_texts", "Texts that wait or are computed")

    def _cache(self) -> None:
        self.cache = self._counter("cache", "Answers looked up, by tier and whether they were there", "tier", "found")
        self.cache_counters = {
            tier: (self.cache.labels(tier, "hit"), self.cache.labels(tier, "miss")) for tier in ("memory", "redis")
        }
        self.cache_bytes = self._gauge("cache_bytes", "Memory that cached answers take")
        self.redis_errors = self._counter("redis_errors", "Calls of Redis that failed or took too long")
        self.redis_skipped = self._counter("redis_skipped", "Answers not stored in Redis, since it fails or is behind")

    def _answers(self) -> None:
        self.arm_requests = self._counter("arm_requests", "Answered predict requests, by the arm that answered", "arm")
        for arm in ARMS:
            self.arm_requests.labels(arm=arm)
        self.predictions = self._counter("predictions", "Predictions by class", "label")
        self.confidence = self._histogram(
            "confidence", "Probability of each class that was answered", buckets=CONFIDENCE_BUCKETS
        )
        self.abstentions = self._counter("abstentions", "Predictions that were abstained from")

    def _model(self) -> None:
        self.model_info = self._gauge(
            "model_info", "1: the model that serves", "name", "version", "model_sha256", "bento", "arm"
        )
        self.ready = self._gauge("ready", "1 when predictions are answered")
        self.swaps = self._counter("model_swaps", "Models that began to serve")
        self.swaps_refused = self._counter("model_swaps_refused", "Models that were refused at loading")
        self.pointer_errors = self._counter("pointer_errors", "Failed reads of the champion pointer")
        self.loop_errors = self._counter("loop_errors", "Failed reads of the gauges that come from the database")

    def _beside(self) -> None:
        self.arm_share = self._gauge("arm_share", "Share of the requests that an arm is to have", "arm")
        self.arm_count_errors = self._counter("arm_count_errors", "Failed writes of the counts per arm; tried again")
        self.shadow_rows = self._counter("shadow_rows", "Texts that the shadow answered too")
        self.shadow_skipped = self._counter("shadow_skipped", "Texts drawn for the shadow and not run", "reason")
        for reason in SKIPPED_REASONS:
            self.shadow_skipped.labels(reason=reason)

    def _log(self) -> None:
        self.log_rows = self._counter("log_rows", "Rows written to the request log")
        self.log_pending = self._gauge("log_pending_rows", "Rows not yet written")
        self.log_spool = self._gauge("log_spool_bytes", "Bytes on the disk that wait for the database")
        self.log_unspooled = self._counter("log_unspooled_rows", "Rows that the disk refused, kept in memory only")
        self.log_lag = self._gauge("log_lag_seconds", "Age of the oldest row at its last attempted write")
        self.log_errors = self._counter("log_errors", "Failed writes; each is tried again")
        self.log_dropped = self._counter("log_dropped_rows", "Rows lost, by reason", "reason")
        for reason in LOST_REASONS:
            self.log_dropped.labels(reason=reason)

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
