"""Open loop: the highest rate of arrivals, even or in bursts, that is answered in time."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from flows.bench import row
from flows.bench_serve.bench import Bench, in_turns
from flows.bench_serve.closed import at_least, spread
from flows.bench_serve.contenders import BENTOML
from flows.bench_serve.systems import Absent, Running
from flows.bench_serve.traffic import ARRIVALS

LIMIT_MS, MAX_ERRORS = 50.0, 0.001
FIRST_SHARE = 0.7
"""Of the closed loop's rate: where the search begins."""
STEP = 1.5
TIMEOUT_S = 5.0
MUCH_FASTER = {BENTOML: 2.5}


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One rate that was tried."""

    rate: float
    p99_ms: float
    error_rate: float
    late_ms: float = 0.0
    """p99 of the time that requests waited in the generator."""

    @property
    def passed(self) -> bool:
        return self.p99_ms <= LIMIT_MS and self.error_rate <= MAX_ERRORS


def highest_rate(probe: Callable[[float], Probe], first: float, num_probes: int) -> tuple[float, list[Probe]]:
    """The highest rate that passed and all that was tried: steps up or down to both sides of it, then halving.

    0 when none passed.
    """
    low, high, rate = 0.0, math.inf, first
    tried = []
    for _ in range(num_probes):
        tried.append(probe(rate))
        if tried[-1].passed:
            low = max(low, rate)
        else:
            high = min(high, rate)
        rate = next_rate(low, high, rate)
    return low, tried


def next_rate(low: float, high: float, rate: float) -> float:
    """Between a rate that passed and one that did not, or a step to where the other one must be."""
    if low > 0 and high < math.inf:
        return math.sqrt(low * high)
    return rate * STEP if low > 0 else rate / STEP


def open_rows(bench: Bench) -> list[dict[str, Any]]:
    """Each kind of arrivals beside each peer; the probes go into the details."""
    found = in_turns(bench, bench.effort.open_repeats, partial(search, bench))
    rows = []
    bench.details["open"] = {}
    for kind in ARRIVALS:
        rates = {name: [repeat[kind][0] for repeat in repeats] for name, repeats in found.items()}
        bench.details["open"][kind] = {
            name: [asdict(probe) | {"passed": probe.passed} for repeat in repeats for probe in repeat[kind][1]]
            for name, repeats in found.items()
            if repeats
        }
        rows += kind_rows(bench, kind, rates)
    return rows


def search(bench: Bench, server: Running) -> dict[str, tuple[float, list[Probe]]]:
    """The highest rate of each kind of arrivals on a running server, and all that was tried."""
    first = FIRST_SHARE * bench.warm(server).answered_per_s
    return {kind: highest_rate(prober(bench, server, kind), first, bench.effort.num_probes) for kind in ARRIVALS}


def prober(bench: Bench, server: Running, kind: str) -> Callable[[float], Probe]:
    """Tries one rate on a running server."""

    def probe(rate: float) -> Probe:
        arrivals_s = ARRIVALS[kind](rate, bench.effort.probe_s, bench.rng)
        outcome = bench.open_loop(server, arrivals_s, timeout_s=TIMEOUT_S)
        return Probe(
            rate=rate, p99_ms=outcome.quantile_ms(0.99), error_rate=outcome.error_rate, late_ms=outcome.late_ms
        )  # fmt: skip

    return probe


def kind_rows(bench: Bench, kind: str, rates: dict[str, list[float]]) -> list[dict[str, Any]]:
    """The service beside each peer."""
    what = f"open loop, {kind}: highest rate with p99 <= {LIMIT_MS:g} ms"
    ours, rows = spread(rates[bench.parallel.name]), []
    for name, system in bench.peers.items():
        if isinstance(system, Absent):
            rows.append(row(f"{what}: {name}", None, "", f"not measured: {system.reason}"))
            continue
        theirs = spread(rates[name])
        ratio = ours.median / theirs.median if theirs.median else None
        target, met = at_least(ratio or math.inf, MUCH_FASTER.get(name, 1.0))
        rows.append(
            row(what, ours.median, "requests/s", f"{system.title}: {theirs}/s; here {ours}", ratio, target,
                met and ours.median > 0)
        )  # fmt: skip
    return rows
