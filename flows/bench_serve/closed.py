"""Closed loop: 32 connections, each with one request in flight."""

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from flows.bench import row
from flows.bench_serve.bench import CONNECTIONS, ONE_PROCESS, Bench, in_turns
from flows.bench_serve.contenders import BENTOML, LITSERVE, MLSERVER, UVICORN
from flows.bench_serve.systems import Absent, Running

FASTER = {BENTOML: 2.5, LITSERVE: 2.0, MLSERVER: 2.0, UVICORN: 1.5}
CALMER = {BENTOML: 2.0, LITSERVE: 1.0, MLSERVER: 1.0}
"""p99 of the peer over ours."""


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """One system in one repeat."""

    per_s: float
    p99_ms: float
    num_failed: int
    core_ms: float
    """CPU time of all its processes for each request."""
    generator_ms: float
    """CPU time of the generator for each request."""


def measure(bench: Bench, server: Running) -> Repeat:
    """One repeat on a running server."""
    bench.warm(server)
    before_s = server.cpu_s()
    outcome = bench.closed_loop(server, bench.effort.num_requests)
    core_ms = 1e3 * (server.cpu_s() - before_s) / outcome.num_requests
    return Repeat(
        per_s=outcome.answered_per_s, p99_ms=outcome.quantile_ms(0.99), num_failed=outcome.num_failed,
        core_ms=core_ms, generator_ms=outcome.generator_cpu_ms,
    )  # fmt: skip


def closed_rows(bench: Bench) -> list[dict[str, Any]]:
    """Requests a second, p99 and CPU time of the service beside each peer's."""
    found = in_turns(bench, bench.effort.repeats, partial(measure, bench))
    bench.details["closed"] = {name: [asdict(one) for one in many] for name, many in found.items()}
    ours = found[bench.parallel.name]
    rows = peer_rows(ONE_PROCESS, ONE_PROCESS, ours, found[ONE_PROCESS]) if ONE_PROCESS in found else []
    for name, system in bench.peers.items():
        if isinstance(system, Absent):
            rows.append(row(f"closed loop: {name}", None, "", f"not measured: {system.reason}"))
        else:
            rows += peer_rows(name, system.title, ours, found[name])
    generator_ms = float(np.median([one.generator_ms for one in ours]))
    num_failed = sum(one.num_failed for one in ours)
    return [
        *rows,
        row("closed loop, failed requests", num_failed, "", target="0", met=num_failed == 0),
        row("generator's CPU time", generator_ms, "core-ms/request", "on the same cores"),
    ]


def peer_rows(name: str, title: str, ours: list[Repeat], theirs: list[Repeat]) -> list[dict[str, Any]]:
    """Of one peer."""
    what = f"closed loop, {CONNECTIONS} connections"
    per_s, their_per_s = (spread([one.per_s for one in many]) for many in (ours, theirs))
    p99, their_p99 = (spread([one.p99_ms for one in many]) for many in (ours, theirs))
    core, their_core = (spread([one.core_ms for one in many]) for many in (ours, theirs))
    faster, calmer = per_s.median / their_per_s.median, their_p99.median / p99.median
    return [
        row(what, per_s.median, "requests/s", f"{title}: {their_per_s}/s; here {per_s}", faster,
            *at_least(faster, FASTER.get(name))),
        row(f"{what}, p99", p99.median, "ms", f"{title}: {their_p99} ms; here {p99}", calmer,
            *at_least(calmer, CALMER.get(name))),
        row(f"{what}, CPU", core.median, "core-ms/request", f"{title}: {their_core}; here {core}",
            their_core.median / core.median),
    ]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Median, least and greatest of the repeats."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{_short(self.median)} ({_short(self.low)}-{_short(self.high)})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def spread(values: list[float]) -> Spread:
    """Of one figure's repeats."""
    return Spread(median=float(np.median(values)), low=min(values), high=max(values))


def at_least(ratio: float, wanted: float | None) -> tuple[str, bool | None]:
    """Target of a ratio and whether it is met; neither where nothing is asked."""
    if wanted is None:
        return "", None
    return (f">= {wanted:g} times", ratio >= wanted) if wanted != 1 else ("better", ratio > 1)
