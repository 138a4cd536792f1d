"""A day under several policies: the shipped autoscaler, fixed capacity for the peak, and for the mean."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bento.errors import UserError
from flows.capacity import Measurement
from flows.config import ServeConfig
from tasks.capacity.advice import cost_per_million
from tasks.capacity.policy import Policy, fixed, read_policy
from tasks.capacity.replica import Replica, highest_per_s, num_needed
from tasks.capacity.simulate import Outcome, Setting, foreseen_core_hours, simulate
from tasks.capacity.traffic import MINUTE_S, Day, logged, read_day, synthetic

KUBERNETES = Path(__file__).parents[1] / "configs" / "kubernetes"
SHIPPED = (KUBERNETES / "horizontalpodautoscaler.yaml", KUBERNETES / "keda" / "scaledobject.yaml")
BUSIEST_SHARE = 0.8
"""The synthetic busiest minute takes so much of what the most replicas can do in time."""


def shipped(paths: Sequence[Path] | None) -> list[Policy]:
    """The policies of these files, or those that Retort comes with. Raises: UserError where those are not installed."""
    if not paths and not SHIPPED[0].is_file():
        raise UserError(f"autoscale: expected the shipped policy at {SHIPPED[0]}; name one with --policy FILE")
    return [read_policy(path) for path in paths or SHIPPED]


def make_day(
    name: str,
    path: Path | None,
    *,
    from_log: bool,
    busiest: float | None,
    replica: Replica,
    serve: ServeConfig,
    policies: Sequence[Policy],
    rng: np.random.Generator,
) -> Day:
    """The day that was asked for; a synthetic one suits the largest fleet unless `busiest` says otherwise."""
    if path is not None:
        return read_day(path)
    if from_log:
        return logged(name)
    good_per_s = highest_per_s(replica, serve.objectives.latency_ms, serve.objectives.latency_share, 1.0)
    most = max(policy.max_replicas for policy in policies)
    return synthetic(busiest or BUSIEST_SHARE * most * good_per_s, rng)


def compare(
    day: Day, policies: Sequence[Policy], found: Measurement, serve: ServeConfig, *, startup_s: float
) -> dict[str, Any]:
    """Every policy, and fixed capacity. Raises: UserError where no number of replicas keeps the promise."""
    objectives = serve.objectives
    setting = Setting(
        replica=found.replica, objectives=objectives, startup_s=startup_s, arrival_scv=day.dispersion
    )  # fmt: skip
    promise = (objectives.latency_ms, objectives.latency_share, setting.arrival_scv)
    by_minute = day.by_minute()
    needed = [num_needed(found.replica, max(rate, 1e-9), *promise) for rate in by_minute]
    enough = [number for number in needed if number is not None]
    if len(enough) < len(needed):
        raise UserError(
            f"autoscale: a lone request takes longer than {objectives.latency_ms:g} ms too often, so that no number of "
            "replicas helps; raise serve.objectives.latency_ms or promote a faster model"
        )
    mean = num_needed(found.replica, day.mean_per_s, *promise) or 1
    tried = [*policies, fixed(max(enough), "fixed, peak"), fixed(mean, "fixed, mean")]
    return {
        "day": day.source,
        "num_requests": float(day.num_T.sum()),
        "mean_per_s": day.mean_per_s,
        "busiest_per_s": day.busiest_per_s,
        "dispersion": day.dispersion,
        "pod_max_per_s": found.replica.max_per_s,
        "pod_good_per_s": highest_per_s(found.replica, *promise),
        "startup_s": startup_s,
        "latency_ms": objectives.latency_ms,
        "latency_share": objectives.latency_share,
        "core_hour_price": serve.core_hour_price,
        "per_s_by_minute": by_minute.tolist(),
        "foreseen_core_hours": foreseen_core_hours(day, setting, enough),
        "policies": [_row(simulate(day, policy, setting), day, serve) for policy in tried],
    }


def _row(outcome: Outcome, day: Day, serve: ServeConfig) -> dict[str, Any]:
    allowed = 1 - serve.objectives.latency_share
    starts = np.arange(0, len(day.num_T), MINUTE_S)
    mean_cores = outcome.core_hours * 3600 / len(day.num_T)
    return {
        "policy": outcome.policy,
        "mean_replicas": float(outcome.replicas_T.mean()),
        "most_replicas": int(outcome.replicas_T.max()),
        "num_changes": outcome.num_changes,
        "core_hours": outcome.core_hours,
        "cost_per_million": cost_per_million(mean_cores, day.mean_per_s, serve.core_hour_price),
        "slow_share": outcome.slow_share,
        "refused": outcome.refused,
        "bad_minutes": outcome.bad_minutes(allowed),
        "met": outcome.slow_share <= allowed,
        "replicas_by_minute": np.maximum.reduceat(outcome.replicas_T, starts).tolist(),
        "slow_by_minute": np.add.reduceat(outcome.slow_T, starts).tolist(),
    }
