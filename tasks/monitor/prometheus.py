"""Counters of replicas from a Prometheus server, which knows the replicas that came and went between two looks too."""

from typing import Any

import httpx

from bento.errors import RetortError
from tasks.monitor.series import COUNTERS, GAUGES, Series, Values

TIMEOUT_S = 20.0


class PrometheusError(RetortError):
    """The server cannot be asked, or knows nothing of the model."""


def ask(url: str, query: str, at: float) -> list[dict[str, Any]]:
    """The result of an instant query: label sets with values. Raises: PrometheusError."""
    try:
        answer = httpx.get(f"{url.rstrip('/')}/api/v1/query", params={"query": query, "time": at}, timeout=TIMEOUT_S)
        found = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise PrometheusError(f"{url}: expected a Prometheus server, got: {error}") from error
    if not isinstance(found, dict) or found.get("status") != "success":
        said = found.get("error") if isinstance(found, dict) else found
        raise PrometheusError(f"{url}: expected the result of a query, got HTTP {answer.status_code}: {said}")
    result: list[dict[str, Any]] = found["data"]["result"]
    return result


def serving(name: str, seconds: float) -> str:
    """PromQL for the replicas that served `name` at any time of the last seconds."""
    return f'max by (job, instance) (max_over_time(retort_model_info{{name="{name}"}}[{_range(seconds)}]))'


def counters(url: str, name: str, *, seconds: float, at: float, only: tuple[str, ...] = tuple(COUNTERS)) -> Values:
    """Increases of the last seconds, resets handled by the server. Raises: PrometheusError."""
    found: Values = {}
    for counter in only:
        series = COUNTERS[counter]
        increase = f"increase({series.selector}[{_range(seconds)}])"
        found |= _values(url, counter, series, f"{increase} and on (job, instance) {serving(name, seconds)}", at, "sum")
    return found


def gauges(url: str, name: str, *, seconds: float, at: float) -> Values:
    """The largest values of the last seconds. Raises: PrometheusError."""
    found: Values = {}
    for gauge, series in GAUGES.items():
        largest = f"max_over_time({series.selector}[{_range(seconds)}])"
        found |= _values(url, gauge, series, f"{largest} and on (job, instance) {serving(name, seconds)}", at, "max")
    return found


def num_replicas(url: str, name: str, *, seconds: float, at: float) -> tuple[int, int]:
    """How many of those that served it in the last seconds answer now, and how many do not but should."""
    up, down = (ask(url, f"up == {value} and on (job, instance) {serving(name, seconds)}", at) for value in (1, 0))
    return len(up), len(down)


def _values(url: str, name: str, series: Series, expression: str, at: float, fold: str) -> Values:
    by = f" by ({', '.join(series.by)})" if series.by else ""
    rows = ask(url, f"{fold}{by} ({expression})", at)
    return {series.key(name, row["metric"]): float(row["value"][1]) for row in rows}


def _range(seconds: float) -> str:
    return f"{max(1, round(seconds))}s"
