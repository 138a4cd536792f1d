"""A day under a policy, second by second: what the autoscaler sees and does, what waits, and what is too late.

A fluid model: requests beyond what the ready replicas take in a second wait for the next; within a second they wait as
in a queue with random arrivals (`Replica.slow_share`). A request that would be answered after its deadline is refused
at once, as the service does. All replicas share the load evenly.

Shapes: T seconds.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.capacity.autoscaler import SYNC_S, Autoscaler, Seen
from tasks.capacity.policy import Policy
from tasks.capacity.replica import Replica
from tasks.capacity.traffic import MINUTE_S, Day
from tasks.monitor.objectives import ObjectivesConfig

SCRAPE_S = 15
"""Between two scrapes of metrics-server, and of Prometheus."""
SCRAPE_LAG_S = 7
"""From a scrape to its value: half a period's difference between the scrapes and the syncs."""
SHORTEST_BUSY = 0.98
"""Within a second a queue does not reach the waits of a higher utilisation; what is beyond it is the fluid's part."""
STEPS = 200
"""Rates and backlogs are rounded to such a part of what a replica takes, and of the latency objective."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What holds for every policy alike."""

    replica: Replica
    objectives: ObjectivesConfig
    startup_s: float = 30.0
    """From the decision to a ready pod: scheduling, pulling, loading, the readiness probe."""
    drain_s: float = 5.0
    """For which a pod that ends is still paid."""
    deadline_ms: float = 10_000.0
    """`RETORT_DEADLINE_MS`."""
    arrival_scv: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a day under one policy."""

    policy: str
    replicas_T: NDArray[np.int64]
    """Pods that are paid."""
    ready_T: NDArray[np.int64]
    slow_T: NDArray[np.float64]
    """Requests too late, those refused among them."""
    refused: float
    num_T: NDArray[np.float64]
    cores: int
    """Of a replica."""
    num_changes: int

    @property
    def slow_share(self) -> float:
        return float(self.slow_T.sum() / max(1.0, self.num_T.sum()))

    @property
    def core_hours(self) -> float:
        return float(self.replicas_T.sum() * self.cores / 3600)

    def bad_minutes(self, allowed: float) -> int:
        """Minutes with a larger share of slow answers than the promise allows."""
        starts = np.arange(0, len(self.num_T), MINUTE_S)
        slow, num = (np.add.reduceat(values, starts) for values in (self.slow_T, self.num_T))
        return int((slow > allowed * num).sum())


def simulate(day: Day, policy: Policy, setting: Setting) -> Outcome:
    """Go through the day. It begins with the replicas that the first minute takes, as if it had run before."""
    fleet = Fleet(policy, setting, first_per_s=float(day.num_T[:MINUTE_S].mean()))
    rows = [fleet.step(second, float(number)) for second, number in enumerate(day.num_T)]
    replicas_T, ready_T, slow_T, refused_T = (np.asarray(column) for column in zip(*rows, strict=True))
    return Outcome(
        policy=policy.name, replicas_T=replicas_T, ready_T=ready_T, slow_T=slow_T, refused=float(refused_T.sum()),
        num_T=day.num_T, cores=setting.replica.cores, num_changes=len(fleet.autoscaler.changes),
    )  # fmt: skip


class Fleet:
    """The replicas, their queue, and the autoscaler."""

    def __init__(self, policy: Policy, setting: Setting, first_per_s: float) -> None:
        """With as many replicas as keep the first rate at half of what they take, within the policy's limits."""
        enough = math.ceil(2 * first_per_s / setting.replica.max_per_s)
        self.setting = setting
        self.table = Table(setting)
        self.autoscaler = Autoscaler(policy)
        self.num_ready = min(max(enough, policy.min_replicas), policy.max_replicas)
        self.starting: deque[float] = deque()
        self.draining: deque[float] = deque()
        self.backlog = 0.0
        self.cores_T: list[float] = []
        """Used by all ready pods, and how many they were."""
        self.ready_T: list[int] = []
        self.wait_s_T: list[float] = []
        self.served_T: list[float] = []

    def step(self, second: int, number: float) -> tuple[int, int, float, float]:
        """One second: pods paid, pods ready, requests too late, requests refused."""
        while self.starting and self.starting[0] <= second:
            self.starting.popleft()
            self.num_ready += 1
        while self.draining and self.draining[0] <= second:
            self.draining.popleft()
        if second % SYNC_S == 0 and second:
            self._sync(second)
        late, refused = self._serve(number)
        paid = self.num_ready + len(self.starting) + len(self.draining)
        return paid, self.num_ready, late, refused

    def _sync(self, second: int) -> None:
        current = self.num_ready + len(self.starting)
        wanted = self.autoscaler.decide(second, current, self._seen(second))
        for _ in range(wanted - current):
            self.starting.append(second + self.setting.startup_s)
        for _ in range(current - wanted):
            if self.starting:  # those that are not ready go first
                self.starting.pop()
            else:
                self.num_ready -= 1
                self.draining.append(second + self.setting.drain_s)

    def _seen(self, second: int) -> Seen:
        """The metrics as of the last scrape, whose values are a scrape's lag old."""
        end = (second - SCRAPE_LAG_S) // SCRAPE_S * SCRAPE_S
        if end < SCRAPE_S:
            return Seen(num_ready=self.num_ready, num_starting=len(self.starting), cpu=None, wait_s=None)
        last = slice(end - SCRAPE_S, end)
        cores = sum(self.cores_T[last]) / max(1, sum(self.ready_T[last]))
        waits = slice(max(0, end - self.autoscaler.policy.wait_window_s), end)
        served = sum(self.served_T[waits])
        waited = sum(wait * number for wait, number in zip(self.wait_s_T[waits], self.served_T[waits], strict=True))
        return Seen(
            num_ready=self.num_ready, num_starting=len(self.starting), cpu=cores / self.setting.replica.cores,
            wait_s=waited / served if served else 0.0,
        )  # fmt: skip

    def _serve(self, number: float) -> tuple[float, float]:
        """Requests of this second that are too late or refused, and those refused."""
        table, most, before = self.table, self.num_ready * self.table.max_per_s, self.backlog
        served = min(before + number, most)
        refused = min(number, max(0.0, before + number - served - most * self.setting.deadline_ms / 1000))
        self.backlog = before + number - served - refused
        wait_ms = 1000 * (before + self.backlog) / 2 / most if most else self.setting.deadline_ms
        full = table.step(number / most) if most else STEPS
        self.cores_T.append(self.num_ready * table.cores[table.step(served / most) if most else 0])
        self.ready_T.append(self.num_ready)
        self.wait_s_T.append((wait_ms + table.random_ms[full]) / 1000)
        self.served_T.append(served)
        return (number - refused) * table.late(full, wait_ms) + refused, refused


class Table:
    """What a replica does at each `STEPS`-th part of what it takes, so that a day takes a second to simulate."""

    def __init__(self, setting: Setting) -> None:
        """Waits at the last step are those of `SHORTEST_BUSY`."""
        self.setting = setting
        self.max_per_s = setting.replica.max_per_s
        rates = [self.max_per_s * step / STEPS for step in range(STEPS + 1)]
        self.rates = [min(rate, SHORTEST_BUSY * self.max_per_s) for rate in rates]
        self.cores = [setting.replica.cores_used(rate) for rate in rates]
        self.random_ms = [setting.replica.mean_wait_ms(rate, setting.arrival_scv) for rate in self.rates]
        self._late: dict[tuple[int, int], float] = {}

    def step(self, share: float) -> int:
        """The nearest step."""
        return min(STEPS, round(share * STEPS))

    def late(self, full: int, backlog_ms: float) -> float:
        """Share of the requests that are too late at a step, behind a backlog."""
        latency_ms = self.setting.objectives.latency_ms
        key = (full, math.ceil(backlog_ms / latency_ms * STEPS))
        if key[1] >= STEPS:
            return 1.0
        if key not in self._late:
            backlog_ms = key[1] / STEPS * latency_ms
            self._late[key] = self.setting.replica.slow_share(
                self.rates[full], latency_ms, self.setting.arrival_scv, backlog_ms=backlog_ms
            )
        return self._late[key]


def foreseen_core_hours(day: Day, setting: Setting, num_needed: Sequence[int]) -> float:
    """Of an autoscaler that knows each minute's rate before it begins."""
    seconds = np.full(len(num_needed), MINUTE_S)
    seconds[-1] = len(day.num_T) - MINUTE_S * (len(num_needed) - 1)
    return float((np.asarray(num_needed) * seconds).sum() * setting.replica.cores / 3600)
