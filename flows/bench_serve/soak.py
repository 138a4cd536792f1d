"""Half load for a long time: the memory of the service stays flat."""

from typing import Any

import numpy as np

from flows.bench import row
from flows.bench_serve.bench import Bench
from flows.bench_serve.systems import running
from flows.bench_serve.traffic import poisson

LOAD = 0.5
MAX_GROWTH = 0.05
SLICE_S = 60.0


def soak_rows(bench: Bench) -> list[dict[str, Any]]:
    """Resident memory after each minute, every text a new one; nothing where no time is given."""
    minutes = bench.effort.soak_minutes
    if not minutes:
        return [row("memory under half load", None, "", "not run; retort bench serve --soak-minutes 60")]
    resident_mb, num_failed = [], 0
    with running(bench.service) as server:
        bench.warm(server)
        rate = LOAD * bench.closed_loop(server, bench.effort.num_tuning).answered_per_s
        for _ in range(max(1, round(minutes * 60 / SLICE_S))):
            outcome = bench.open_loop(server, poisson(rate, min(SLICE_S, minutes * 60), bench.rng))
            num_failed += outcome.num_failed
            resident_mb.append(server.resident_bytes() / 1e6)
    return rows_of(resident_mb, num_failed, minutes)


def rows_of(resident_mb: list[float], num_failed: int, minutes: float) -> list[dict[str, Any]]:
    """The last tenth of the time against its second tenth: the first fills caches."""
    tenth = max(1, len(resident_mb) // 10)
    early, late = (
        float(np.median(part)) for part in (resident_mb[tenth : 2 * tenth] or resident_mb, resident_mb[-tenth:])
    )
    growth = late / early - 1
    return [
        row(f"memory after {minutes:g} minutes of half load", late, "MB", f"early on: {early:.1f} MB", late / early,
            f"within {100 * MAX_GROWTH:g} %", abs(growth) <= MAX_GROWTH),
        row("half load: failed", num_failed, "requests", target="0", met=num_failed == 0),
    ]  # fmt: skip
