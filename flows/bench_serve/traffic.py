"""What the load generator is given to send, and what it found."""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from bento.errors import RetortError
from flows.bench_serve.load import LOST, TIMED_OUT, Plan

Numbers = NDArray[np.float64]
Rng = np.random.Generator

BURST_SHARE, BURST_FACTOR = 0.2, 3.0
"""Each second begins with a fifth of three times the mean rate; the rest of it has half the mean rate."""
GRACE_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """N requests in the order in which they were due, warm-up left out."""

    due_s_N: Numbers
    done_s_N: Numbers
    status_N: NDArray[np.int64]
    """HTTP status, LOST or TIMED_OUT."""
    tries_N: NDArray[np.int64]
    late_ms: float
    """p99 of how long a request that was due waited in the generator for a free connection or for its turn."""
    generator_cpu_ms: float
    """Of the generator, for each request."""

    @property
    def num_requests(self) -> int:
        return len(self.status_N)

    @property
    def latency_ms_N(self) -> Numbers:
        """From the moment that a request was due."""
        return (self.done_s_N - self.due_s_N) * 1e3

    def num(self, status: int) -> int:
        return int((self.status_N == status).sum())

    @property
    def num_failed(self) -> int:
        """Whatever was not answered with 200."""
        return self.num_requests - self.num(200)

    @property
    def error_rate(self) -> float:
        return self.num_failed / max(1, self.num_requests)

    @property
    def answered_per_s(self) -> float:
        """Good answers a second, from the first request's due time to the last answer."""
        return self.num(200) / max(1e-9, float(self.done_s_N.max() - self.due_s_N.min()))

    def quantile_ms(self, share: float, status: int = 200) -> float:
        """Of the latency of the answers with this status; NaN where there are none."""
        chosen = self.latency_ms_N[self.status_N == status]
        return float(np.quantile(chosen, share)) if len(chosen) else float("nan")

    def statuses(self) -> dict[str, int]:
        """How many of each."""
        names = {LOST: "lost", TIMED_OUT: "timed out"}
        values, counts = np.unique(self.status_N, return_counts=True)
        return {names.get(int(value), str(value)): int(count) for value, count in zip(values, counts, strict=True)}


def send(plan: Plan) -> Outcome:
    """Run `plan` in a process of its own. Raises: RetortError when that process fails."""
    with tempfile.TemporaryDirectory(prefix="retort-load-") as folder:
        paths = [Path(folder) / "plan.json", Path(folder) / "result.json"]
        paths[0].write_text(plan.model_dump_json(), encoding="utf-8")
        last_s = plan.arrivals_s[-1] if plan.arrivals_s else plan.seconds
        timeout_s = None if last_s is None else last_s + plan.timeout_s + GRACE_S
        command = [sys.executable, "-m", "flows.bench_serve.load", *map(str, paths)]
        done = subprocess.run(command, timeout=timeout_s, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            raise RetortError(f"the load generator ended with {done.returncode}: {done.stderr[-2000:]}")
        return read_outcome(orjson.loads(paths[1].read_bytes()))


def read_outcome(found: dict[str, Any]) -> Outcome:
    """The generator's result as arrays."""
    due_s_N, sent_s_N, done_s_N = (np.asarray(found[name], dtype=float) for name in ("due_s", "sent_s", "done_s"))
    late_s_N = (sent_s_N - due_s_N)[np.asarray(found["tries"]) == 1]
    return Outcome(
        due_s_N=due_s_N, done_s_N=done_s_N, status_N=np.asarray(found["status"], dtype=np.int64),
        tries_N=np.asarray(found["tries"], dtype=np.int64),
        late_ms=1e3 * float(np.quantile(late_s_N, 0.99)) if len(late_s_N) else float("nan"),
        generator_cpu_ms=1e3 * found["cpu_s"] / max(1, len(due_s_N)),
    )  # fmt: skip


def poisson(rate: float, seconds: float, rng: Rng) -> list[float]:
    """Arrival times at a constant mean `rate` a second."""
    gaps_s = rng.exponential(1 / rate, size=int(rate * seconds + 10 * np.sqrt(rate * seconds) + 10))
    times_s = np.cumsum(gaps_s)
    return [float(time_s) for time_s in times_s[times_s < seconds]]


def bursty(rate: float, seconds: float, rng: Rng) -> list[float]:
    """Arrival times of a Poisson process whose rate jumps each second; `rate` is its mean.

    Time runs fast where the rate is high: arrivals at a constant rate are drawn and mapped through the rate's integral.
    """
    expected_N = np.asarray(poisson(1.0, rate * seconds, rng)) / rate  # seconds at the mean rate
    whole_N, part_N = np.divmod(expected_N, 1.0)
    in_burst = BURST_SHARE * BURST_FACTOR
    slow = (1 - in_burst) / (1 - BURST_SHARE)
    within_N = np.where(part_N < in_burst, part_N / BURST_FACTOR, BURST_SHARE + (part_N - in_burst) / slow)
    return [float(time_s) for time_s in whole_N + within_N]


ARRIVALS = {"Poisson": poisson, "bursty": bursty}


class Texts:
    """An endless stream of texts, none of which comes twice: the data's own, later with a number behind them."""

    def __init__(self, texts: Sequence[str]) -> None:
        """`texts` in the order in which they are given out."""
        self.texts = list(dict.fromkeys(texts))
        self.num_given = 0

    def take(self, number: int) -> list[str]:
        """The next ones."""
        found = []
        for at in range(self.num_given, self.num_given + number):
            turn, row = divmod(at, len(self.texts))
            found.append(self.texts[row] if turn == 0 else f"{self.texts[row]} {turn}")
        self.num_given += number
        return found


def with_duplicates(texts: Sequence[str], share: float, rng: Rng) -> list[str]:
    """`texts` with a `share` of them replaced by an earlier one of the same list, each alike probable."""
    found: list[str] = []
    for at, text in enumerate(texts):
        found.append(found[int(rng.integers(at))] if at and rng.random() < share else text)
    return found
