"""`retort capacity` and `retort autoscale`: measure one replica of a champion, then say how many a load takes."""

import logging
import os
import platform
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from bento.errors import RetortError
from bento.manifest import Manifest
from bento.predictor import Predictor
from bento.settings import home
from flows.bench_serve.bench import Bench, Effort
from flows.bench_serve.systems import Running, System, running, service
from flows.bench_serve.traffic import Outcome, poisson, send
from tasks.capacity.replica import Replica
from tasks.monitor.objectives import ObjectivesConfig
from tasks.release.ledger import Champion

log = logging.getLogger("retort.capacity")

NUM_WARM, NUM_FULL, NUM_ALONE = 500, 4_000, 600
BASE_QUANTILES = 50
FIT_LOAD = 0.6
"""Of what a replica takes: where its estimate is fitted to the service."""
CHECK_LOADS = (0.3, 0.5, 0.8)
"""Likewise: where the estimate is compared with the service."""
OPEN_S = 5.0
LARGEST_SCV, FIT_STEPS = 100.0, 20
MOST_BUSY = 0.95


class Check(BaseModel):
    """Estimate and measurement at one rate, open loop with Poisson arrivals."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    per_s: float
    utilisation: float
    """Estimated, of one replica."""
    measured_utilisation: float
    """CPU used over the cores."""
    p50_ms: float
    measured_p50_ms: float
    p99_ms: float
    """Estimated."""
    measured_p99_ms: float
    slow_share: float
    """Estimated."""
    measured_slow_share: float


class Measurement(BaseModel):
    """One replica of a champion, as measured on this machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    model_sha256: str
    machine: str
    measured_at: float
    """Seconds since the epoch."""
    num_cores: int
    load: float
    """Processes that wanted a core of this machine just before."""
    replica: Replica
    wall_per_s: float
    """Answers a second of the clock on the wall while it was asked without a pause."""
    ready_s: float
    """From the start of the process to the first answer."""
    checks: tuple[Check, ...] = ()


def measurement(
    champion: Champion, texts: Sequence[str], objectives: ObjectivesConfig, *, again: bool, check: bool
) -> Measurement:
    """What is known of this champion on this machine, measured now where nothing is, or `again`."""
    path = home() / "capacity" / f"{champion.name}-{champion.model_sha256[:16]}.json"
    if path.is_file() and not again and not check:
        found = Measurement.model_validate_json(path.read_bytes())
        if found.machine == machine():
            return found
    found = measure(champion, texts, objectives, check=check)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(found.model_dump_json(indent=2), encoding="utf-8")
    return found


def machine() -> str:
    """The processor's name and the number of cores."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    return f"{os.cpu_count()} x {model}"


def measure(champion: Champion, texts: Sequence[str], objectives: ObjectivesConfig, *, check: bool) -> Measurement:
    """About fifteen seconds: requests without a pause, one at a time, at random times, and to `check` at more rates.

    Raises: RetortError when requests fail that should not.
    """
    manifest = Manifest.read(champion.model_path)
    bench = Bench(champion.model_path, texts, Effort(num_warm=NUM_WARM, num_requests=NUM_FULL))
    load = os.getloadavg()[0]
    with running(pinned(champion.model_path, manifest.served_threads)) as server:
        bench.warm(server)
        full, full_ms = timed(bench, server)
        found = replica_of(manifest.served_threads, full_ms, one_by_one(bench, server), model_ms(bench))
        found = fitted(found, check_rate(bench, server, found, FIT_LOAD * found.max_per_s, objectives))
        rates = [share * found.max_per_s for share in CHECK_LOADS] if check else []
        checks = [check_rate(bench, server, found, rate, objectives) for rate in rates]
        return Measurement(
            name=champion.name, model_sha256=champion.model_sha256, machine=machine(), measured_at=time.time(),
            num_cores=os.cpu_count() or 1,
            load=load, replica=found, wall_per_s=full.answered_per_s, ready_s=server.ready_s, checks=tuple(checks),
        )  # fmt: skip


def pinned(model: Path, threads: int) -> System:
    """The service with one run at a time, on as many cores as that has threads where more are there."""
    system = service(model, RETORT_THREADS=str(threads), RETORT_WORKERS="1", RETORT_CACHE_MB="0")
    if shutil.which("taskset") is None or (os.cpu_count() or 1) <= threads:
        return system
    return replace(system, command=("taskset", "--cpu-list", f"0-{threads - 1}", *system.command))


def thread_s(server: Running) -> dict[tuple[int, int], float]:
    """CPU seconds of every thread so far, by process and thread."""
    found = {}
    for process in server.processes():
        for path in Path(f"/proc/{process.pid}/task").glob("*/schedstat"):
            found[process.pid, int(path.parent.name)] = int(path.read_text(encoding="ascii").split()[0]) / 1e9
    return found


def timed(bench: Bench, server: Running) -> tuple[Outcome, list[float]]:
    """Requests without a pause, and the CPU milliseconds a request of each thread: the event loop's, then the busiest.

    Raises: RetortError when requests failed.
    """
    before = thread_s(server)
    outcome = bench.closed_loop(server, NUM_FULL)
    after = thread_s(server)
    if outcome.num_failed:
        raise RetortError(f"capacity: expected 200 for every request, got {outcome.statuses()}")
    used = {key: 1000 * (after[key] - before.get(key, 0.0)) / outcome.num_requests for key in after}
    loop = max((key for key in used if key[0] == key[1]), key=lambda key: used[key])
    return outcome, [used.pop(loop), *sorted(used.values(), reverse=True)]


def one_by_one(bench: Bench, server: Running) -> Outcome:
    """Requests that never meet another."""
    return send(bench.plan(server, bench.texts.take(NUM_ALONE), connections=1))


def replica_of(threads: int, full_ms: Sequence[float], alone: Outcome, model_ms_N: Any) -> Replica:
    """From CPU milliseconds a request of each thread, the event loop's first, and of the model's runs of each text.

    A lone request takes the median that was measured, and more or less by its length: the tail of the measured times is
    that of a machine with others on it.
    """
    steps = (np.arange(BASE_QUANTILES) + 0.5) / BASE_QUANTILES
    full, run = sum(full_ms), full_ms[1]
    base_ms_N = alone.quantile_ms(0.5) + model_ms_N - np.median(model_ms_N)
    return Replica(
        cores=threads, threads=threads, workers=1, full_core_ms=full, light_core_ms=full,
        python_ms=max(full_ms[0], full - min(run, float(np.mean(model_ms_N)))), run_ms=run,
        scv=float(np.var(model_ms_N)) / full**2,
        base_ms=tuple(float(value) for value in np.quantile(np.maximum(base_ms_N, 0.0), steps)),
    )  # fmt: skip


def model_ms(bench: Bench) -> Any:
    """What the model alone takes for each text in a run of its own, by the measured cost model."""
    predictor = Predictor(bench.model, check=False)
    cost = predictor.serving.cost
    return np.array([cost.of(1, len(predictor.encode(text).ids)) for text in bench.texts.texts[:NUM_FULL]])


def fitted(found: Replica, seen: Check) -> Replica:
    """The replica with the cost of a lone request and the spread of its times that explain one measured rate.

    What the texts' lengths do not explain is Python's lock passing from thread to thread, garbage, and others on the
    machine.
    """
    full, used = seen.per_s / found.max_per_s, min(seen.measured_utilisation, MOST_BUSY)
    light = max(1.0, used * (1 - full) / (full * (1 - used)))
    found = found.model_copy(update={"light_core_ms": light * found.full_core_ms})
    low, high = found.scv, LARGEST_SCV
    for _ in range(FIT_STEPS):
        middle = (low + high) / 2
        estimate_ms = found.model_copy(update={"scv": middle}).latency_ms(seen.per_s, 0.99)
        low, high = (middle, high) if estimate_ms < seen.measured_p99_ms else (low, middle)
    return found.model_copy(update={"scv": low})


def check_rate(bench: Bench, server: Running, found: Replica, per_s: float, objectives: ObjectivesConfig) -> Check:
    """Estimate and measurement at one rate; what is refused is late. Raises: RetortError when nothing is answered."""
    before = server.cpu_s()
    outcome = bench.open_loop(server, poisson(per_s, OPEN_S, bench.rng))
    used = (server.cpu_s() - before) / OPEN_S
    if outcome.num(200) == 0:
        raise RetortError(f"capacity: expected answers at {per_s:.0f} requests/s, got {outcome.statuses()}")
    slow = float(((outcome.latency_ms_N > objectives.latency_ms) | (outcome.status_N != 200)).mean())
    return Check(
        per_s=per_s, utilisation=found.utilisation(per_s), measured_utilisation=used / found.cores,
        p50_ms=found.latency_ms(per_s, 0.5), measured_p50_ms=outcome.quantile_ms(0.5),
        p99_ms=found.latency_ms(per_s, 0.99), measured_p99_ms=outcome.quantile_ms(0.99),
        slow_share=found.slow_share(per_s, objectives.latency_ms), measured_slow_share=slow,
    )  # fmt: skip


def texts_of(champion: Champion) -> list[str]:
    """The texts that it was evaluated on."""
    from tasks.data import read_split
    from tasks.monitor.traffic import watch

    data = watch(champion.name, champion.model_path, champion.model_sha256).data
    return [text for text in read_split(data.path, "test").texts if isinstance(text, str)]
