"""How the service fares, as the loop sees it: latency, throughput, errors and resources since the last look, and what
is left of the error budgets.

Metrics that cannot be read are `unknown`, which is never taken for good.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tasks.monitor import prometheus, scrapes
from tasks.monitor.config import MonitorConfig
from tasks.monitor.objectives import ErrorBudget, ObjectivesConfig
from tasks.monitor.series import Values, parts, quantile

State = Literal["ok", "burning", "spent", "too_few", "unknown"]

DEFAULT_URL = "http://127.0.0.1:3000/metrics"
"""Where `retort serve` listens unless told otherwise."""
DAY_S = 86_400.0
FIRST_PERIOD_S = 3_600.0
"""Of a Prometheus server at the first look."""


@dataclass(frozen=True, kw_only=True)
class PerformanceEvidence:
    """One look at the service. Shares are 0 to 1; what was not measured is None or empty."""

    state: State
    reason: str
    sources: tuple[str, ...]
    unread: tuple[str, ...]
    """Why sources could not be read."""
    num_replicas: int
    seconds: float
    """Since the last look, or since the service began."""
    num_requests: int
    """Predictions asked for in that time."""
    per_s: float | None
    latency_ms: dict[str, float | None]
    """p50, p95 and p99 of good answers."""
    statuses: dict[str, int]
    """Predictions by HTTP status."""
    cpu_cores: float | None
    """Used on average, by all replicas."""
    core_ms_per_request: float | None
    memory_bytes: float | None
    """Resident, of the largest replica."""
    queue_ms_p99: float | None
    queue_texts: float | None
    cache_hit_share: float | None
    texts_per_run: float | None
    padding_share: float | None
    """Of the computed tokens."""
    gpu: dict[str, float] | None
    """Utilisation and memory of the busiest; None where there is none."""
    budgets: dict[str, dict[str, Any]]
    """Of each objective: target, num_requests, num_bad, spent, burn_rate, empty_in_days, state, words."""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What was read of one source."""

    seconds: float
    recent: Values
    """Counted since the last look."""
    long: Values
    """Counted in the objectives' window."""
    gauges: Values
    num_replicas: int = 1


def read_performance(
    name: str,
    config: MonitorConfig,
    objectives: ObjectivesConfig,
    *,
    last_look_at: float | None = None,
    now: float | None = None,
) -> PerformanceEvidence:
    """Read the metrics of the replicas that serve `name`; plain ones are stored for the next look.

    Times are in seconds since the epoch; `last_look_at` begins the period that a Prometheus server is asked for.
    """
    now = time.time() if now is None else now
    if config.prometheus:
        sources: Sequence[str] = (config.prometheus,)
        usages, unread = _from_prometheus(name, config.prometheus, objectives, last_look_at, now)
    else:
        sources = config.metrics or (os.environ.get("RETORT_METRICS_URL", DEFAULT_URL),)
        usages, unread = _from_replicas(name, sources, objectives, now)
    return judge(usages, objectives, sources=sources, unread=unread)


def _from_replicas(
    name: str, urls: Sequence[str], objectives: ObjectivesConfig, now: float
) -> tuple[list[Usage], list[str]]:
    usages, unread = [], []
    window_s = objectives.window_days * DAY_S
    for url in urls:
        try:
            read = scrapes.scrape(url, name, now)
        except scrapes.ScrapeError as error:
            unread.append(str(error))
            continue
        for number, found in enumerate(read):
            before = scrapes.stored(name, found.url, now - window_s)
            last = before[-1] if before else None
            long = scrapes.total([*before, found], now - window_s)
            since = last.at if last else found.started_at
            recent = scrapes.increase(last, found)
            own = int(number == 0)  # the others are processes of the same replica
            usage = Usage(seconds=now - since, recent=recent, long=long, gauges=found.gauges, num_replicas=own)
            usages.append(usage)
            scrapes.store(name, found, keep_s=window_s)
    return usages, unread


def _from_prometheus(
    name: str, url: str, objectives: ObjectivesConfig, last_look_at: float | None, now: float
) -> tuple[list[Usage], list[str]]:
    window_s = objectives.window_days * DAY_S
    seconds = min(window_s, now - last_look_at) if last_look_at and last_look_at < now else FIRST_PERIOD_S
    try:
        up, down = prometheus.num_replicas(url, name, seconds=seconds, at=now)
        recent = prometheus.counters(url, name, seconds=seconds, at=now)
        long = prometheus.counters(url, name, seconds=window_s, at=now, only=("latency", "outcome"))
        gauges = prometheus.gauges(url, name, seconds=seconds, at=now)
    except prometheus.PrometheusError as error:
        return [], [str(error)]
    unread = [f"{url}: {down} of {up + down} replicas of {name} cannot be scraped"] if down else []
    if not up:
        unread = unread or [f"{url}: knows no replica that serves {name}"]
    usage = Usage(seconds=seconds, recent=recent, long=long, gauges=gauges, num_replicas=up)
    return [usage] if recent else [], unread


def judge(
    usages: Sequence[Usage], objectives: ObjectivesConfig, *, sources: Sequence[str], unread: Sequence[str]
) -> PerformanceEvidence:
    """Figures, budgets and state of what was read."""
    recent = scrapes.add(usage.recent for usage in usages)
    long = scrapes.add(usage.long for usage in usages)
    gauges = {key: max(u.gauges.get(key, 0.0) for u in usages) for usage in usages for key in usage.gauges}
    found = budgets(recent, long, objectives)
    state, reason = _state(found, unread, read=bool(usages))
    outcomes, latency = parts(recent, "outcome"), parts(recent, "latency")
    num_requests = round(sum(outcomes.values()))
    cpu_cores = _rate(usages, "cpu_s")
    hits, lookups = _cache(recent)
    queue_p99 = quantile(parts(recent, "queue"), 0.99)
    return PerformanceEvidence(
        state=state,
        reason=reason,
        sources=tuple(sources),
        unread=tuple(unread),
        num_replicas=sum(usage.num_replicas for usage in usages),
        seconds=max((usage.seconds for usage in usages), default=0.0),
        num_requests=num_requests,
        per_s=_rate(usages, "outcome"),
        latency_ms={f"p{round(100 * share)}": _ms(quantile(latency, share)) for share in (0.5, 0.95, 0.99)},
        statuses={status: round(count) for status, count in sorted(parts(recent, "status").items()) if round(count)},
        cpu_cores=cpu_cores,
        core_ms_per_request=1000 * recent.get("cpu_s", 0.0) / num_requests if num_requests else None,
        memory_bytes=gauges.get("memory_bytes"),
        queue_ms_p99=_ms(queue_p99),
        queue_texts=gauges.get("queue_texts"),
        cache_hit_share=hits / lookups if lookups else None,
        texts_per_run=_ratio(recent, "texts", "runs"),
        padding_share=_ratio(recent, "padding", "tokens"),
        gpu={key: value for key, value in gauges.items() if key.startswith("gpu_")} or None,
        budgets={budget.objective: _as_dict(budget) for budget in found},
    )


def budgets(recent: Values, long: Values, objectives: ObjectivesConfig) -> tuple[ErrorBudget, ErrorBudget]:
    """Latency of the good answers, and failures of all requests, as the alerts count them."""
    (slow_recent, ok_recent), (slow, ok) = (_slow(values, objectives.latency_ms) for values in (recent, long))
    failed_recent, failed = (parts(values, "outcome").get("failed", 0.0) for values in (recent, long))
    all_recent, all_long = (sum(parts(values, "outcome").values()) for values in (recent, long))
    return (
        ErrorBudget(
            objective="latency", target=objectives.latency_share, window_days=objectives.window_days,
            num_requests=ok, num_bad=slow, num_recent=ok_recent, num_recent_bad=slow_recent,
        ),
        ErrorBudget(
            objective="availability", target=objectives.availability, window_days=objectives.window_days,
            num_requests=all_long, num_bad=failed, num_recent=all_recent, num_recent_bad=failed_recent,
        ),
    )  # fmt: skip


def _slow(values: Values, latency_ms: float) -> tuple[float, float]:
    """Slow answers, and all."""
    buckets = {float(bound): count for bound, count in parts(values, "latency").items()}
    if not buckets:
        return 0.0, 0.0
    num = buckets[float("inf")]
    return num - buckets[latency_ms / 1000], num


def _state(found: Sequence[ErrorBudget], unread: Sequence[str], *, read: bool) -> tuple[State, str]:
    """The worst that is known for sure; what is not known is never good."""
    states: dict[State, list[str]] = {"spent": [], "burning": [], "too_few": [], "ok": []}
    for budget in found:
        states[budget.state].append(f"{budget.objective}: {budget.words}")
    missing = "; ".join(unread)
    for bad in ("spent", "burning"):
        if states[bad]:
            return bad, "; ".join([*states[bad], *unread])
    if missing or not read:
        return "unknown", f"not known: {missing or 'no metrics were read'}"
    if states["too_few"]:
        return "too_few", states["too_few"][0].partition(": ")[2]
    return "ok", "; ".join(states["ok"])


def _as_dict(budget: ErrorBudget) -> dict[str, Any]:
    shown = (
        "target",
        "window_days",
        "num_requests",
        "num_bad",
        "spent",
        "burn_rate",
        "empty_in_days",
        "state",
        "words",
    )
    return {key: getattr(budget, key) for key in shown}


def _rate(usages: Sequence[Usage], name: str) -> float | None:
    """A second, each replica over its own time; None where a clock went back, or without a replica."""
    if not usages or any(usage.seconds <= 0 for usage in usages):
        return None
    return sum(
        sum(value for key, value in usage.recent.items() if key.partition("|")[0] == name) / usage.seconds
        for usage in usages
    )


def _cache(values: Values) -> tuple[float, float]:
    """Answers found in any tier, and lookups: each begins in memory."""
    found = parts(values, "cache")
    hits = sum(count for key, count in found.items() if key.endswith("|hit"))
    return hits, found.get("memory|hit", 0.0) + found.get("memory|miss", 0.0)


def _ratio(values: Values, above: str, below: str) -> float | None:
    return values.get(above, 0.0) / values[below] if values.get(below) else None


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds
