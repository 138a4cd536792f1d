"""Limits on what a model does beside being right: failures, slow answers, abstentions.

Each is an e-process on its counts, so looks are free here too; a model passes one only on enough requests.
"""

from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa

from bento import database
from bento.arm_counts import read_counts
from bento.arms import CHALLENGER, SHADOW
from tasks.experiment.table import Experiment, Phase
from tasks.stats.proportion import wilson
from tasks.stats.sequential import log_wealth_of_count
from tasks.types import Outcome

ARM: dict[Phase, str] = {"shadow": SHADOW, "ab": CHALLENGER, "watch": "champion"}
"""In which arm the new model stands."""
NUM_GUARDRAILS = 3
"""At most so many at once, which alpha is shared by."""


@dataclass(frozen=True, kw_only=True)
class Guardrail:
    """One share that must not be above its limit."""

    name: str
    num_bad: int
    n: int
    limit: float
    log_e: float
    """Of the process against "the share is at most the limit"."""
    outcome: Outcome
    """fail: surely above; pass: enough requests and not above; else inconclusive."""


def judge(
    name: str, new: tuple[int, int], old: tuple[int, int], limit: float, *, min_n: int, alpha: float
) -> Guardrail:
    """`new` and `old` are (bad, n). Where the old model does worse than the limit, its rate is the limit: what ails
    both is not the new one's fault."""
    (num_bad, n), (old_bad, old_n) = new, old
    if old_n >= min_n:
        limit = min(0.99, max(limit, wilson(old_bad, old_n).high if old_bad / old_n > limit else 0.0))
    log_e = log_wealth_of_count(num_bad, n, limit) if n else 0.0
    outcome: Outcome = "inconclusive"
    if log_e >= np.log(NUM_GUARDRAILS / alpha):
        outcome = "fail"
    elif n >= min_n and num_bad / n <= limit:
        outcome = "pass"
    return Guardrail(name=name, num_bad=num_bad, n=n, limit=limit, log_e=log_e, outcome=outcome)


def read_guardrails(experiment: Experiment) -> tuple[Guardrail, ...]:
    """Those that the config asks for and the phase can show."""
    config = experiment.config.guardrails
    found = {"error_rate": (config.error_rate, *_failures(experiment))}
    if config.abstained_share is not None:
        found["abstained_share"] = (config.abstained_share, *_abstentions(experiment))
    if config.latency_ms is not None and experiment.phase != "shadow":
        found["slow_share"] = (config.slow_share, *_slow(experiment, config.latency_ms))
    return tuple(
        judge(name, new, old, limit, min_n=experiment.config.min_requests, alpha=experiment.config.alpha)
        for name, (limit, new, old) in found.items()
    )


def _counts(experiment: Experiment) -> tuple[dict[str, int], dict[str, int]]:
    """Of the new model since its phase began, and of the old one as champion since the start."""
    new = read_counts(
        experiment.name, version=experiment.challenger.version, arm=ARM[experiment.phase], since=_since(experiment)
    )
    old = read_counts(experiment.name, version=experiment.champion.version, arm="champion", since=experiment.started_at)
    return new, old


def _since(experiment: Experiment) -> float:
    """A share that grows begins nothing new; each step moves `phase_at`."""
    return experiment.started_at if experiment.phase == "ab" else experiment.phase_at


def _failures(experiment: Experiment) -> tuple[tuple[int, int], tuple[int, int]]:
    new, old = ((one["failed"], one["failed"] + one["answered"]) for one in _counts(experiment))
    return new, old


def _abstentions(experiment: Experiment) -> tuple[tuple[int, int], tuple[int, int]]:
    new, old = ((one["abstained"], one["texts"]) for one in _counts(experiment))
    return new, old


def _slow(experiment: Experiment, objective_ms: float) -> tuple[tuple[int, int], tuple[int, int]]:
    new = _slower(experiment.name, experiment.challenger.model_sha256, _since(experiment), objective_ms)
    old = _slower(experiment.name, experiment.champion.model_sha256, experiment.started_at, objective_ms)
    return new, old


def _slower(name: str, sha256: str, since: float, objective_ms: float) -> tuple[int, int]:
    """Requests that took longer than the objective, and all."""
    requests = database.requests
    slow = sa.func.sum(sa.case((requests.c.latency_ms > objective_ms, 1), else_=0))
    statement = sa.select(sa.func.coalesce(slow, 0), sa.func.count()).where(
        requests.c.name == name, requests.c.model_sha256 == sha256, requests.c.item == 0,
        requests.c.received_at >= since,
    )  # fmt: skip
    with database.engine().connect() as connection:
        num_slow, n = connection.execute(statement).one()
    return int(num_slow), int(n)
