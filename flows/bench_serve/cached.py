"""Texts that come again: the rate of cache hits, and of traffic with some duplicates."""

from typing import Any

from flows.bench import row
from flows.bench_serve.bench import Bench
from flows.bench_serve.closed import Spread, spread
from flows.bench_serve.systems import Running, running
from flows.bench_serve.traffic import with_duplicates

NUM_KNOWN = 100
"""Different texts that are asked for again and again where all are hits."""
HIT, SOME = 3.0, 1.35
SHARE = 0.3


def cached_rows(bench: Bench) -> list[dict[str, Any]]:
    """Closed loops without duplicates, with some, and with nothing else, in turns."""
    per_s: dict[str, list[float]] = {"none": [], "some": [], "all": []}
    for _ in range(bench.effort.repeats):
        with running(bench.service) as server:
            bench.warm(server)
            for name, texts in streams(bench, server).items():
                per_s[name].append(bench.closed_loop(server, len(texts), texts=texts).answered_per_s)
    rates = {name: spread(values) for name, values in per_s.items()}
    return [
        _row("cache hits", rates["all"], rates["none"], HIT),
        _row(f"{100 * SHARE:g} % duplicates", rates["some"], rates["none"], SOME),
    ]


def streams(bench: Bench, server: Running) -> dict[str, list[str]]:
    """The texts of each closed loop; those that are to be hits have been answered once."""
    number = bench.effort.num_requests
    known = bench.texts.take(NUM_KNOWN)
    bench.closed_loop(server, len(known), texts=known)
    return {
        "none": bench.texts.take(number),
        "some": with_duplicates(bench.texts.take(number), SHARE, bench.rng),
        "all": [known[int(at)] for at in bench.rng.integers(len(known), size=number)],
    }


def _row(what: str, rate: Spread, uncached: Spread, wanted: float) -> dict[str, Any]:
    ratio = rate.median / uncached.median
    against = f"all different: {uncached}/s; here {rate}"
    return row(what, rate.median, "requests/s", against, ratio, f">= {wanted:g} times", ratio >= wanted)
