"""Where the CPU time of a request goes: the whole process tree, less ONNX Runtime and the tokeniser."""

import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from flows.bench import row
from flows.bench_serve.bench import Bench
from flows.bench_serve.clocks import OWN, RUNTIME, TOKENISER, WRITE_EVERY_S
from flows.bench_serve.systems import Running, running

LIMIT_MS = 0.35
MODEL = (RUNTIME, TOKENISER, "their own threads")
SUPERVISOR = "supervising process"
NAMES = {"MainThread": "event loop, handlers, validation", OWN: OWN}
"""What the rest of a thread is called."""
Used = defaultdict[str, float]
"""Piece -> CPU seconds."""


def cost_rows(bench: Bench) -> list[dict[str, Any]]:
    """Core-milliseconds a request in closed loops: the sum outside of the model, then every piece of the median run."""
    runs = sorted((measure(bench) for _ in range(bench.effort.repeats)), key=outside_ms)
    return rows_of(runs[len(runs) // 2], least_ms=outside_ms(runs[0]), greatest_ms=outside_ms(runs[-1]))


def measure(bench: Bench) -> dict[str, float]:
    """Piece -> core-milliseconds a request, in one process with clocks in it."""
    with tempfile.TemporaryDirectory(prefix="retort-probe-") as folder:
        command = (
            sys.executable, "-m", "bentoml", "serve", "flows.bench_serve.probe:Retort", "--host", "127.0.0.1",
            "-p", "{port}",
        )  # fmt: skip
        environment = {**bench.service.environment, "RETORT_PROBE": folder}
        with running(replace(bench.service, command=command, environment=environment)) as server:
            bench.warm(server)
            before = used(server, Path(folder))
            outcome = bench.closed_loop(server, bench.effort.num_requests)
            after = used(server, Path(folder))
    pieces = [piece for piece in after if piece != OWN]
    return {piece: 1e3 * (after[piece] - before[piece]) / outcome.num_requests for piece in pieces}


def outside_ms(piece_ms: Mapping[str, float]) -> float:
    """All that is neither ONNX Runtime nor the tokeniser."""
    return sum(value for piece, value in piece_ms.items() if piece not in MODEL)


def rows_of(piece_ms: Mapping[str, float], *, least_ms: float, greatest_ms: float) -> list[dict[str, Any]]:
    """The sum outside of the model with its target, and the pieces, greatest first."""
    total_ms, outside = sum(piece_ms.values()), outside_ms(piece_ms)
    unit = "core-ms/request"
    against = f"all {total_ms:.3f}; repeats {least_ms:.3f}-{greatest_ms:.3f}; CPU clocks of threads, closed loop"
    rows = [
        row("CPU outside of the model", outside, unit, against, outside / total_ms, f"<= {LIMIT_MS} core-ms",
            outside <= LIMIT_MS)
    ]  # fmt: skip
    ordered = sorted(piece_ms.items(), key=lambda item: -item[1])
    return rows + [row(f"CPU: {name}", value, unit, "", value / total_ms) for name, value in ordered]


def used(server: Running, folder: Path) -> Used:
    """What every piece has used so far, once all processes have written it down."""
    time.sleep(2.5 * WRITE_EVERY_S)  # nothing is in flight, so the last files hold all of it
    found = breakdown(json.loads(path.read_bytes()) for path in folder.glob("*.json"))
    found[SUPERVISOR] += server.cpu_s() - sum(found.values())
    return found


def breakdown(snapshots: Iterable[Mapping[str, Any]]) -> Used:
    """Snapshots of processes as pieces that do not overlap and add up to all that those processes have used."""
    found: Used = defaultdict(float)
    for snapshot in snapshots:
        threads_s: Used = defaultdict(float, snapshot["threads_s"])
        found[MODEL[2]] += max(0.0, snapshot["process_s"] - sum(threads_s.values()))
        for thread, piece, seconds in snapshot["pieces_s"]:
            found[piece] += seconds
            threads_s[thread] -= seconds
        for thread, seconds in threads_s.items():
            found[NAMES.get(thread, f"thread {thread}, rest")] += seconds
    return found
