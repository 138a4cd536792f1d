"""Counters of replicas without a Prometheus: each look scrapes `/metrics` and keeps the sums, so that differences of
scrapes are what happened between looks, and those of `window_days` are what the error budgets count.

A counter that starts again (its process does, or it is smaller than before) counts from zero. What a replica counted
between its last scrape and its end is lost.
"""

import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import httpx
import sqlalchemy as sa

from bento.database import engine, metadata
from bento.errors import RetortError
from bento.processes import LABEL
from tasks.monitor.series import COUNTERS, GAUGES, Values

TIMEOUT_S = 5.0

scrapes = sa.Table(
    "scrapes",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(128), nullable=False),
    sa.Column("url", sa.String(512), nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("started_at", sa.Float, nullable=False),  # of the process that counted
    sa.Column("counters", sa.JSON, nullable=False),
    sa.Index("scrapes_by_url", "name", "url", "at"),
)


class ScrapeError(RetortError):
    """A replica's metrics cannot be read, or are another model's."""


@dataclass(frozen=True, kw_only=True)
class Scrape:
    """One replica at one moment, or one of its processes."""

    url: str
    at: float
    """Seconds since the epoch."""
    started_at: float
    counters: Values
    gauges: Values


def scrape(url: str, name: str, at: float) -> list[Scrape]:
    """Read the metrics of one replica that serves `name`, of each of its processes. Raises: ScrapeError."""
    key = os.environ.get("RETORT_METRICS_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        answer = httpx.get(url, headers=headers, timeout=TIMEOUT_S, follow_redirects=True)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ScrapeError(f"{url}: {error}") from error
    if answer.status_code == 401:
        raise ScrapeError(f"{url}: asks for a key; set RETORT_METRICS_KEY here, or RETORT_METRICS_OPEN there")
    if answer.status_code != 200:
        raise ScrapeError(f"{url}: expected metrics, got HTTP {answer.status_code}")
    return read_exposition(answer.text, url, name, at)


def read_exposition(text: str, url: str, name: str, at: float) -> list[Scrape]:
    """What counts of Prometheus' text format, a scrape for each process behind the URL, which is then named in it.

    Raises: ScrapeError where it is no such text, or of another model.
    """
    from prometheus_client.parser import text_string_to_metric_families

    try:
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    except ValueError as error:
        raise ScrapeError(f"{url}: expected Prometheus' text format, got: {error}") from error
    served = {sample.labels["name"] for sample in samples if sample.name == "retort_model_info"}
    if name not in served:
        raise ScrapeError(f"{url}: expected a service of {name}, got one of {', '.join(sorted(served)) or 'no model'}")
    processes: defaultdict[str, list[Any]] = defaultdict(list)
    for sample in samples:
        processes[sample.labels.get(LABEL, "")].append(sample)
    return [
        _read_process(found, f"{url}#{process}" if process else url, at) for process, found in sorted(processes.items())
    ]


def _read_process(samples: Iterable[Any], url: str, at: float) -> Scrape:
    started_at, gauges = 0.0, dict[str, float]()
    counters: defaultdict[str, float] = defaultdict(float)
    for sample in samples:
        if sample.name == "process_start_time_seconds":
            started_at = sample.value
        for counter, series in COUNTERS.items():
            if sample.name == series.sample and series.takes(sample.labels):
                counters[series.key(counter, sample.labels)] += sample.value
        for gauge, series in GAUGES.items():
            if sample.name == series.sample:
                gauges[gauge] = max(gauges.get(gauge, 0.0), sample.value)
    return Scrape(url=url, at=at, started_at=started_at, counters=dict(counters), gauges=gauges)


def store(name: str, found: Scrape, *, keep_s: float) -> None:
    """Keep a scrape for the looks to come, and forget what is older than they count."""
    row = {"name": name, "url": found.url, "at": found.at, "started_at": found.started_at, "counters": found.counters}
    with engine().begin() as connection:
        connection.execute(scrapes.insert().values(row))
        old = (scrapes.c.name == name) & (scrapes.c.at < found.at - 2 * keep_s)
        connection.execute(scrapes.delete().where(old))


def stored(name: str, url: str, since: float) -> list[Scrape]:
    """The scrapes of a replica in the order in which they were stored, from the last one before `since` on."""
    mine = (scrapes.c.name == name) & (scrapes.c.url == url)
    before = sa.select(sa.func.max(scrapes.c.id)).where(mine & (scrapes.c.at < since)).scalar_subquery()
    query = sa.select(scrapes).where(mine & (scrapes.c.id >= sa.func.coalesce(before, 0))).order_by(scrapes.c.id)
    with engine().connect() as connection:
        return [_scrape(row) for row in connection.execute(query).mappings()]


def _scrape(row: Any) -> Scrape:
    return Scrape(url=row["url"], at=row["at"], started_at=row["started_at"], counters=row["counters"], gauges={})


def increase(before: Scrape | None, after: Scrape) -> Values:
    """What a replica counted between two scrapes; without the first, since its process began."""
    again = before is None or before.started_at != after.started_at
    return {
        key: value if again or before is None or value < before.counters.get(key, 0.0)
        else value - before.counters.get(key, 0.0)
        for key, value in after.counters.items()
    }  # fmt: skip


def total(found: list[Scrape], since: float) -> Values:
    """What a replica counted since a time, given its scrapes in order; the first counts if its process is as young."""
    first = [increase(None, found[0])] if found and found[0].started_at >= since else []
    return add([*first, *(increase(before, after) for before, after in pairwise(found))])


def add(parts: Iterable[Values]) -> Values:
    """The sum by key."""
    summed: defaultdict[str, float] = defaultdict(float)
    for part in parts:
        for key, value in part.items():
            summed[key] += value
    return dict(summed)
