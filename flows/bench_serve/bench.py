"""What all parts of the benchmark share: the model, a stream of texts, how much is measured, and the tuned peers."""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import psutil

from bento.errors import RetortError
from flows.bench_serve.contenders import contenders
from flows.bench_serve.load import Plan
from flows.bench_serve.systems import Absent, Running, System, in_processes, running, service
from flows.bench_serve.traffic import Outcome, Texts, send

log = logging.getLogger("retort.bench")

Found = TypeVar("Found")

CONNECTIONS = 32
ONE_PROCESS = "Retort, one process"
"""The service with its defaults, beside the one with a process for each core."""
MAX_CONNECTIONS = 4096
"""Open at once in an open loop: as many as come within the longest wait, or the generator would hold requests back."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much is measured."""

    repeats: int = 5
    num_requests: int = 10_000
    """Of one repeat, after the warm-up."""
    num_warm: int = 1_000
    num_tuning: int = 2_000
    max_settings: int | None = None
    """How many settings of each peer are tried; None: all."""
    probe_s: float = 10.0
    """Of one rate in the search for the highest."""
    num_probes: int = 7
    open_repeats: int = 5
    overload_s: float = 60.0
    change_s: float = 20.0
    """Of each change under load."""
    soak_minutes: float = 0.0


QUICK = Effort(
    repeats=2, num_requests=3_000, num_warm=500, num_tuning=500, max_settings=2, probe_s=3.0, num_probes=6,
    open_repeats=1, overload_s=10.0, change_s=8.0,
)  # fmt: skip


class Bench:
    """One run of the benchmark."""

    def __init__(self, model: Path, texts: Sequence[str], effort: Effort) -> None:
        """Measure the model folder `model` on `texts`."""
        self.model = model
        self.effort = effort
        self.texts = Texts(texts)
        self.rng = np.random.default_rng(0)
        self.service = service(model)
        """With its defaults: one process."""
        self.parallel = in_processes(self.service, os.cpu_count() or 1)
        """With a process for each core, as it is run where much is asked."""
        self.details: dict[str, Any] = {}
        """Part -> what its rows are made of, for the JSON and the plots."""

    @cached_property
    def peers(self) -> dict[str, System | Absent]:
        """Each peer with the setting that answered most requests a second, or why it is not measured."""
        return {name: self._best(name, found) for name, found in contenders(self.model).items()}

    @property
    def systems(self) -> dict[str, System]:
        """The service first, with its defaults too where that is another setting, then the peers that are there."""
        present = {name: system for name, system in self.peers.items() if isinstance(system, System)}
        default = {} if self.parallel == self.service else {ONE_PROCESS: self.service}
        return {self.parallel.name: self.parallel} | default | present

    def closed_loop(self, server: Running, number: int, *, texts: Sequence[str] | None = None) -> Outcome:
        """`number` requests from 32 connections that each send one after the other."""
        return send(self.plan(server, texts or self.texts.take(number), connections=CONNECTIONS))

    def open_loop(self, server: Running, arrivals_s: list[float], timeout_s: float = 10.0) -> Outcome:
        """Requests that come when they are due, whatever the answers do."""
        texts = self.texts.take(len(arrivals_s))
        return send(
            self.plan(server, texts, connections=MAX_CONNECTIONS, arrivals_s=arrivals_s, timeout_s=timeout_s)
        )  # fmt: skip

    def plan(self, server: Running, texts: Sequence[str], **settings: object) -> Plan:
        """A plan for one server."""
        bodies = [server.system.body(text) for text in texts]
        fields = {"ports": (server.port,), "path": server.system.path, "bodies": bodies, **settings}
        return Plan.model_validate(fields)

    def warm(self, server: Running) -> Outcome:
        """Requests before those that count."""
        return self.closed_loop(server, self.effort.num_warm)

    def _best(self, name: str, found: list[System] | Absent) -> System | Absent:
        if isinstance(found, Absent):
            log.warning("%s is not measured: %s", name, found.reason)
            return found
        rates: list[tuple[float, System]] = []
        reason = "it was not tried"
        for system in found[: self.effort.max_settings]:
            try:
                rates.append((self._tuning_rate(system), system))
                log.info("%s: %.0f/s", system.title, rates[-1][0])
            except RetortError as error:
                reason = str(error)
                log.warning("%s is left out: %s", system.title, reason)
        return max(rates, key=lambda rate: rate[0])[1] if rates else Absent(reason=reason)

    def _tuning_rate(self, system: System) -> float:
        with running(system) as server:
            self.closed_loop(server, self.effort.num_tuning // 4)
            found = self.closed_loop(server, self.effort.num_tuning)
        if found.num_failed:
            raise RetortError(f"{system.title}: expected 200 for all requests, got {found.statuses()}")
        return found.answered_per_s


def in_turns(bench: Bench, repeats: int, measure: Callable[[Running], Found]) -> dict[str, list[Found]]:
    """What `measure` finds of each system in each repeat, all in turns, so that a change of the machine hits all.

    A peer that fails is absent from then on. Raises: RetortError when the service fails.
    """
    found: dict[str, list[Found]] = {name: [] for name in bench.systems}
    for repeat in range(repeats):
        for name, system in bench.systems.items():
            log.info("repeat %d of %d: %s", repeat + 1, repeats, system.title)
            try:
                with running(system) as server:
                    found[name].append(measure(server))
            except (RetortError, psutil.Error) as error:
                if name in (bench.parallel.name, ONE_PROCESS):
                    raise
                log.warning("%s is left out: %s", system.title, error)
                bench.peers[name] = Absent(reason=f"it failed: {error}")
    return found
