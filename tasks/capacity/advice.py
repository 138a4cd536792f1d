"""Replicas times threads times workers for a rate and a promise, with what each layout costs."""

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.capacity.replica import Replica, highest_per_s, layouts, num_needed
from tasks.monitor.objectives import ObjectivesConfig

SECONDS_AN_HOUR = 3_600


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One way to serve the rate; None where it cannot be served."""

    replicas: int | None
    replicas_with_a_spare: int | None
    """So many that the promise holds when one is lost."""
    cores: int
    """Of a replica."""
    threads: int
    workers: int
    max_per_s: float
    """One replica, busy without a pause."""
    good_per_s: float
    """One replica, within the promise."""
    utilisation: float | None
    """Of each replica at the rate."""
    utilisation_with_a_spare: float | None
    latency_p50_ms: float | None
    latency_promised_ms: float | None
    """At the promised share, as p99."""
    cost_per_million: float | None
    """Of requests, without the spare."""
    cost_per_million_with_a_spare: float | None


def advise(
    replica: Replica, per_s: float, objectives: ObjectivesConfig, *, core_hour_price: float, arrival_scv: float = 1.0
) -> Sequence[Layout]:
    """The layouts, the cheapest with a spare first, those that cannot serve last."""
    found = [_layout(each, per_s, objectives, core_hour_price, arrival_scv) for each in layouts(replica)]
    return sorted(found, key=lambda layout: (layout.cost_per_million_with_a_spare or float("inf"), layout.cores))


def cost_per_million(num_cores: float, per_s: float, core_hour_price: float) -> float:
    """Of one million requests."""
    return num_cores * core_hour_price / (per_s * SECONDS_AN_HOUR) * 1e6


def _layout(
    replica: Replica, per_s: float, objectives: ObjectivesConfig, core_hour_price: float, arrival_scv: float
) -> Layout:
    promise = (objectives.latency_ms, objectives.latency_share, arrival_scv)
    needed = num_needed(replica, per_s, *promise)
    each_per_s = per_s / needed if needed else 0.0
    costs = [
        cost_per_million(number * replica.cores, per_s, core_hour_price) if needed else None
        for number in (needed or 0, (needed or 0) + 1)
    ]
    return Layout(
        replicas=needed,
        replicas_with_a_spare=needed + 1 if needed else None,
        cores=replica.cores,
        threads=replica.threads,
        workers=replica.workers,
        max_per_s=replica.max_per_s,
        good_per_s=highest_per_s(replica, *promise),
        utilisation=replica.utilisation(each_per_s) if needed else None,
        utilisation_with_a_spare=replica.utilisation(per_s / (needed + 1)) if needed else None,
        latency_p50_ms=replica.latency_ms(each_per_s, 0.5, arrival_scv) if needed else None,
        latency_promised_ms=replica.latency_ms(each_per_s, objectives.latency_share, arrival_scv) if needed else None,
        cost_per_million=costs[0],
        cost_per_million_with_a_spare=costs[1],
    )
