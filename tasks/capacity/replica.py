"""One replica as it was measured, and what follows from it: load, latency, and how many are needed."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from tasks.capacity.queueing import mean_wait_ms, share_waiting_longer

RESOLUTION = 1e-3
"""Of the rates that are searched for, relative."""
MAX_CORES = 4


class Replica(BaseModel):
    """A replica with so many cores, as a queue with one server: what it takes is bounded by its cores or by
    Python's lock.

    CPU times come from the clocks of its threads, which a busy machine hardly changes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cores: int = Field(ge=1)
    threads: int = Field(ge=1)
    """ONNX Runtime threads of a run."""
    workers: int = Field(ge=1)
    """Runs at a time."""
    full_core_ms: float = Field(gt=0)
    """CPU of one request when requests never pause, so that they share runs."""
    light_core_ms: float = Field(gt=0)
    """CPU of one request that comes alone."""
    python_ms: float = Field(gt=0)
    """CPU of one request under Python's lock, which one thread has at a time: all but the runs of the model."""
    run_ms: float = Field(gt=0)
    """CPU of one request in all threads that run the model."""
    scv: float = Field(ge=0)
    """Squared coefficient of variation of a request's time at the server, fitted to the waits that were measured."""
    base_ms: tuple[float, ...] = Field(min_length=1)
    """Quantiles of the latency of a request that comes alone, at equal steps."""

    @property
    def serial_ms(self) -> float:
        """Time of one request at what it can have one of: Python's lock, or a thread that runs the model."""
        return max(self.python_ms, self.run_ms / self.workers)

    @property
    def max_per_s(self) -> float:
        """Requests a second at which it is busy without a pause."""
        return min(1000 * self.cores / self.full_core_ms, 1000 / self.serial_ms)

    @property
    def light(self) -> float:
        """How much more a request costs that comes alone."""
        return max(1.0, self.light_core_ms / self.full_core_ms)

    def with_cores(self, cores: int) -> Self:
        """The same code with other cores, a run at a time for each `threads` of them."""
        return self.model_copy(update={"cores": cores, "workers": max(1, cores // self.threads)})

    def utilisation(self, per_s: float) -> float:
        """Share of the time in which it is busy. Requests share fewer runs when it is less busy: the cost of each
        falls in a line from alone to full."""
        full = per_s / self.max_per_s
        return full * self.light / (1 + full * (self.light - 1))

    def cores_used(self, per_s: float) -> float:
        """What its CPU metric shows."""
        used = self.utilisation(min(per_s, self.max_per_s))
        return used * self.max_per_s * self.full_core_ms / 1000

    def service_ms(self, utilisation: float) -> float:
        """Time of one request at the server when it is so busy."""
        return 1000 / self.max_per_s * (self.light + (1 - self.light) * utilisation)

    def mean_wait_ms(self, per_s: float, arrival_scv: float = 1.0) -> float:
        """Mean time in the queue."""
        used = self.utilisation(per_s)
        return mean_wait_ms(used, self.service_ms(used), self.scv, arrival_scv=arrival_scv)

    def slow_share(self, per_s: float, latency_ms: float, arrival_scv: float = 1.0, backlog_ms: float = 0.0) -> float:
        """Share of answers that take longer, given a backlog that is there already."""
        used = self.utilisation(per_s)
        service_ms = self.service_ms(used)
        left_ms = (latency_ms - backlog_ms - base_ms for base_ms in self.base_ms)
        shares = [share_waiting_longer(left, used, service_ms, self.scv, arrival_scv=arrival_scv) for left in left_ms]
        return sum(shares) / len(shares)

    def latency_ms(self, per_s: float, share: float, arrival_scv: float = 1.0) -> float:
        """A quantile of the latency; infinite above what it takes."""
        if self.utilisation(per_s) >= 1:
            return math.inf
        low, high = 0.0, 1.0
        while self.slow_share(per_s, high, arrival_scv) > 1 - share:
            low, high = high, 2 * high
        while high - low > RESOLUTION * high:
            middle = (low + high) / 2
            low, high = (low, middle) if self.slow_share(per_s, middle, arrival_scv) <= 1 - share else (middle, high)
        return high

    def highest_per_s(self, latency_ms: float, share: float, arrival_scv: float = 1.0) -> float:
        """The highest rate at which so many answers are in time; 0 when even a lone one is not."""
        low, high = 0.0, self.max_per_s
        while high - low > RESOLUTION * self.max_per_s:
            middle = (low + high) / 2
            fine = self.slow_share(middle, latency_ms, arrival_scv) <= 1 - share
            low, high = (middle, high) if fine else (low, middle)
        return low


@lru_cache(maxsize=64)
def highest_per_s(replica: Replica, latency_ms: float, share: float, arrival_scv: float) -> float:
    """`Replica.highest_per_s`, remembered."""
    return replica.highest_per_s(latency_ms, share, arrival_scv)


def num_needed(replica: Replica, per_s: float, latency_ms: float, share: float, arrival_scv: float = 1.0) -> int | None:
    """Replicas that a rate takes, each with its part of it; None when no number helps."""
    highest = highest_per_s(replica, latency_ms, share, arrival_scv)
    return max(1, math.ceil(per_s / highest)) if highest > 0 else None


def layouts(replica: Replica) -> Sequence[Replica]:
    """The replica with as many cores as a run has threads, and with more."""
    return [replica.with_cores(cores) for cores in range(replica.threads, MAX_CORES + 1, replica.threads)]
