"""Twice the capacity offered: what is accepted stays good, what is not is told so at once."""

from dataclasses import replace
from typing import Any

from flows.bench import row
from flows.bench_serve.bench import Bench
from flows.bench_serve.systems import running
from flows.bench_serve.traffic import Outcome, poisson

FACTOR = 2.0
MIN_GOODPUT = 0.9
AT_ONCE_MS = 50.0
DEADLINE_MS = 1_000.0
"""Set for this run: of the default of ten seconds nothing would be seen."""
TIMEOUT_S = 10.0


def overload_rows(bench: Bench) -> list[dict[str, Any]]:
    """Goodput against the peak of the same process, and the latency of both kinds of answers."""
    environment = {**bench.parallel.environment, "RETORT_DEADLINE_MS": f"{DEADLINE_MS:g}"}
    with running(replace(bench.parallel, environment=environment)) as server:
        bench.warm(server)
        peaks = [bench.closed_loop(server, bench.effort.num_requests).answered_per_s]
        arrivals_s = poisson(FACTOR * peaks[0], bench.effort.overload_s, bench.rng)
        outcome = bench.open_loop(server, arrivals_s, timeout_s=TIMEOUT_S)
        peaks.append(bench.closed_loop(server, bench.effort.num_requests).answered_per_s)
    return rows_of(outcome, max(peaks), bench.effort.overload_s, bench.parallel.title)


def rows_of(outcome: Outcome, peak: float, seconds: float, title: str) -> list[dict[str, Any]]:
    """Of one overload of `seconds`; `peak` is the rate of a closed loop, before or after it.

    Good is an answer within the deadline, before the last request comes: what is left behind is no throughput.
    """
    good_N = (outcome.status_N == 200) & (outcome.latency_ms_N <= DEADLINE_MS) & (outcome.done_s_N <= seconds)
    goodput = float(good_N.sum()) / seconds
    share = goodput / peak
    p99_ms, refused_ms = outcome.quantile_ms(0.99), outcome.quantile_ms(0.99, status=429)
    refused = outcome.num(429)
    other = outcome.num_requests - outcome.num(200) - refused
    what = f"{FACTOR:g} times the capacity for {seconds:g} s"
    return [
        row(f"{what}: goodput", goodput, "requests/s", f"closed loop of {title}: {peak:,.0f}/s", share,
            f">= {100 * MIN_GOODPUT:g} %", share >= MIN_GOODPUT),
        row(f"{what}: p99 of the accepted", p99_ms, "ms", "the deadline", p99_ms / DEADLINE_MS,
            f"<= {DEADLINE_MS:g} ms", p99_ms <= DEADLINE_MS),
        row(f"{what}: answered 429", 100 * refused / outcome.num_requests, "%", f"all: {outcome.statuses()}"),
        row(f"{what}: p99 of a 429", refused_ms if refused else None, "ms", target=f"<= {AT_ONCE_MS:g} ms",
            met=refused_ms <= AT_ONCE_MS if refused else None),
        row(f"{what}: p99 of the wait in the generator", outcome.late_ms, "ms"),
        row(f"{what}: neither 200 nor 429", other, "requests", target="0", met=other == 0),
    ]  # fmt: skip
