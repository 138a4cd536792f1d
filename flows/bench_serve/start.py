"""The service alone: how soon it is ready, how much memory it takes, and one request at a time."""

import time
from typing import Any

import httpx
import numpy as np

from bento.predictor import Predictor
from flows.bench import row
from flows.bench_serve.bench import Bench
from flows.bench_serve.systems import running

NUM_REQUESTS = 1_000
READY_S, RESIDENT_MB = 5.0, 400.0


def start_rows(bench: Bench) -> list[dict[str, Any]]:
    """HTTP and the predictor in this process take turns on the same texts."""
    predictor = Predictor(bench.model)
    http_ms, inside_ms = [], []
    with running(bench.service) as server, httpx.Client(base_url=server.url) as client:
        for text in bench.texts.take(NUM_REQUESTS):
            start = time.perf_counter()
            client.post("/predict", json={"text": text}).raise_for_status()
            middle = time.perf_counter()
            predictor.predict([text])
            http_ms.append(1e3 * (middle - start))
            inside_ms.append(1e3 * (time.perf_counter() - middle))
        resident_mb = server.resident_bytes() / 1e6
    rows = [
        row("ready", server.ready_s, "s", target=f"<= {READY_S:g} s", met=server.ready_s <= READY_S),
        row("resident, all processes", resident_mb, "MB", target=f"<= {RESIDENT_MB:g} MB",
            met=resident_mb <= RESIDENT_MB),
    ]  # fmt: skip
    for name, share in (("p50", 0.5), ("p95", 0.95)):
        http, inside = (float(np.quantile(values[NUM_REQUESTS // 10 :], share)) for values in (http_ms, inside_ms))
        rows.append(row(f"one sentence over HTTP, {name}", http, "ms", f"predictor: {inside:.3g} ms", http / inside))
    return rows
