"""Half load for a long time: the memory of the service stays flat."""

import logging
from typing import Any

import numpy as np

from flows.bench import row
from flows.bench_serve.bench import Bench
from flows.bench_serve.systems import running
from flows.bench_serve.traffic import poisson

log = logging.getLogger("retort.bench")

LOAD = 0.5
MAX_GROWTH = 0.05
SLICE_S = 60.0


def soak_rows(bench: Bench) -> list[dict[str, Any]]:
    """Resident memory after each minute, every text a new one; nothing where no time is given."""
    minutes = bench.effort.soak_minutes
    if not minutes:
        return [row("memory under half load", None, "", "not run; retort bench serve --soak-minutes 60")]
    slices: list[dict[str, float]] = []
    with running(bench.service) as server:
        bench.warm(server)
        rate = LOAD * bench.closed_loop(server, bench.effort.num_tuning).answered_per_s
        num_slices = max(1, round(minutes * 60 / SLICE_S))
        for number in range(1, num_slices + 1):
            outcome = bench.open_loop(server, poisson(rate, min(SLICE_S, minutes * 60), bench.rng))
            found = {
                "per_s": outcome.answered_per_s, "p99_ms": outcome.quantile_ms(0.99),
                "failed": outcome.num_failed, "resident_mb": server.resident_bytes() / 1e6,
            }  # fmt: skip
            slices.append(found)
            log.info("slice %d of %d: %.0f/s, p99 %.0f ms, %d failed, %.1f MB", number, num_slices, *found.values())
    bench.details["soak"] = slices
    return rows_of(slices, rate, minutes)


def rows_of(slices: list[dict[str, float]], rate: float, minutes: float) -> list[dict[str, Any]]:
    """The last tenth of the time against its second tenth: the first fills caches."""
    resident_mb = [one["resident_mb"] for one in slices]
    tenth = max(1, len(resident_mb) // 10)
    early, late = (
        float(np.median(part)) for part in (resident_mb[tenth : 2 * tenth] or resident_mb, resident_mb[-tenth:])
    )
    growth = late / early - 1
    num_failed = int(sum(one["failed"] for one in slices))
    p99_ms = float(np.median([one["p99_ms"] for one in slices]))
    return [
        row(f"memory after {minutes:g} minutes of half load", late, "MB", f"early on: {early:.1f} MB", late / early,
            f"within {100 * MAX_GROWTH:g} %", abs(growth) <= MAX_GROWTH),
        row("half load: failed", num_failed, "requests", target="0", met=num_failed == 0),
        row("half load: p99, median of the minutes", p99_ms, "ms", f"{rate:.0f} requests/s"),
    ]  # fmt: skip
