"""Twice the capacity offered: what is accepted stays good, what is not is told so at once."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from flows.bench import row
from flows.bench_serve.bench import Bench
from flows.bench_serve.systems import Running, running
from flows.bench_serve.traffic import Outcome, poisson

FACTOR = 2.0
MIN_GOODPUT = 0.9
AT_ONCE_MS = 50.0
DEADLINE_MS = 1_000.0
"""Set for this run: of the default of ten seconds nothing would be seen."""
TIMEOUT_S = 10.0


def overload_rows(bench: Bench) -> list[dict[str, Any]]:
    """Goodput against the peak of the same processes, and the latency of both kinds of answers.

    The peak is the median of closed loops, as many before as after: a single one is 10 % off on a machine that others
    use too.
    """
    environment = {**bench.parallel.environment, "RETORT_DEADLINE_MS": f"{DEADLINE_MS:g}"}
    with running(replace(bench.parallel, environment=environment)) as server:
        bench.warm(server)
        peaks = _peaks(bench, server)
        arrivals_s = poisson(FACTOR * median(peaks), bench.effort.overload_s, bench.rng)
        outcome = bench.open_loop(server, arrivals_s, timeout_s=TIMEOUT_S)
        peaks += _peaks(bench, server)
    return rows_of(outcome, peaks, bench.effort.overload_s, bench.parallel.title)


def _peaks(bench: Bench, server: Running) -> list[float]:
    loops = (bench.closed_loop(server, bench.effort.num_requests) for _ in range(bench.effort.repeats))
    return [loop.answered_per_s for loop in loops]


def rows_of(outcome: Outcome, peaks: Sequence[float], seconds: float, title: str) -> list[dict[str, Any]]:
    """Of one overload of `seconds`; `peaks` are the rates of closed loops before and after it.

    Good is an answer within the deadline, before the last request comes: what is left behind is no throughput.
    """
    good_N = (outcome.status_N == 200) & (outcome.latency_ms_N <= DEADLINE_MS) & (outcome.done_s_N <= seconds)
    goodput = float(good_N.sum()) / seconds
    peak = median(peaks)
    share = goodput / peak
    p99_ms, refused_ms = outcome.quantile_ms(0.99), outcome.quantile_ms(0.99, status=429)
    refused = outcome.num(429)
    other = outcome.num_requests - outcome.num(200) - refused
    closed = f"closed loop of {title}: {peak:,.0f}/s, {min(peaks):,.0f} to {max(peaks):,.0f} before and after"
    what = f"{FACTOR:g} times the capacity for {seconds:g} s"
    return [
        row(f"{what}: goodput", goodput, "requests/s", closed, share,
            f">= {100 * MIN_GOODPUT:g} %", share >= MIN_GOODPUT),
        row(f"{what}: p99 of the accepted", p99_ms, "ms", "the deadline", p99_ms / DEADLINE_MS,
            f"<= {DEADLINE_MS:g} ms", p99_ms <= DEADLINE_MS),
        row(f"{what}: answered 429", 100 * refused / outcome.num_requests, "%", f"all: {outcome.statuses()}"),
        row(f"{what}: p99 of a 429", refused_ms if refused else None, "ms", target=f"<= {AT_ONCE_MS:g} ms",
            met=refused_ms <= AT_ONCE_MS if refused else None),
        row(f"{what}: p99 of the wait in the generator", outcome.late_ms, "ms"),
        row(f"{what}: neither 200 nor 429", other, "requests", target="0", met=other == 0),
    ]  # fmt: skip
