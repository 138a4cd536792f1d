"""What a look says of the service: right figures from scrapes and from Prometheus, and never "ok" without metrics."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import httpx
import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from bento.metrics import Metrics
from bento.processes import merged
from tasks.monitor.config import MonitorConfig
from tasks.monitor.objectives import ObjectivesConfig
from tasks.monitor.performance import PerformanceEvidence, read_performance
from tasks.monitor.scrapes import Scrape, increase, total
from tasks.monitor.series import quantile
from tests import prometheus
from tests.live import live

OBJECTIVES = ObjectivesConfig()
NOW = time.time()
HOUR_S = 3_600.0
GONE = "http://127.0.0.1:9/metrics"


class Replica:
    """A service that exposes the real metrics, with a traffic of its own making."""

    def __init__(self, name: str = "tiny") -> None:
        self.name = name
        self.key = ""
        self.url = ""
        self.restart()

    def restart(self) -> None:
        self.metrics = Metrics()
        labels = {"name": self.name, "version": "1", "model_sha256": "0", "bento": "b", "arm": "champion"}
        self.metrics.model_info.labels(**labels).set(1)

    def answer(self, num: int, *, ms: float = 4.0, status: int = 200) -> None:
        """`num` answers to /predict that took so long, and one look at a page, which counts for nothing here."""
        outcome = "ok" if status < 400 else "failed"
        for _ in range(num):
            self.metrics.latency.labels(route="/predict", outcome=outcome).observe(ms / 1000)
            self.metrics.queue_wait.observe(ms / 10_000)
        self.metrics.requests.labels(route="/predict", status=str(status)).inc(num)
        self.metrics.latency.labels(route="/", outcome="ok").observe(9.0)
        self.metrics.requests.labels(route="/", status="200").inc()

    def show(self, request: Request) -> Response:
        if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
            return PlainTextResponse("no key", 401)
        return PlainTextResponse(self.metrics.exposition())


@contextlib.contextmanager
def serving(*replicas: Replica) -> Iterator[tuple[str, ...]]:
    with contextlib.ExitStack() as stack:
        for replica in replicas:
            app = Starlette(routes=[Route("/metrics", replica.show)])
            replica.url = f"{stack.enter_context(live(app))}/metrics"
        yield tuple(replica.url for replica in replicas)


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_HOME", str(tmp_path))
    monkeypatch.delenv("RETORT_METRICS_URL", raising=False)
    monkeypatch.delenv("RETORT_METRICS_KEY", raising=False)


def read(*urls: str, now: float = NOW, objectives: ObjectivesConfig = OBJECTIVES) -> PerformanceEvidence:
    return read_performance("tiny", MonitorConfig(metrics=urls), objectives, now=now)


def test_two_looks_show_what_happened_between_them_on_all_replicas() -> None:
    first, second = Replica(), Replica()
    with serving(first, second) as urls:
        first.answer(500)
        read(*urls, now=NOW)
        first.answer(2_000)
        second.answer(1_590)
        second.answer(10, ms=80)
        found = read(*urls, now=NOW + HOUR_S)
    assert (found.num_replicas, found.num_requests, found.statuses) == (2, 3_600, {"200": 3_600})
    assert (found.seconds, found.per_s) == (HOUR_S, 1.0)
    assert found.latency_ms["p50"] == pytest.approx(4, abs=1)
    assert 3 < (found.latency_ms["p99"] or 0) <= 5
    assert 0 < (found.queue_ms_p99 or 0) <= 0.5
    assert (found.memory_bytes or 0) > 1e6
    assert found.core_ms_per_request is not None
    assert found.state == "ok", found.reason
    assert found.budgets["latency"]["num_requests"] == 4_100
    assert found.budgets["latency"]["spent"] == pytest.approx(10 / 41)


def test_slow_answers_spend_the_budget_and_are_said_in_words() -> None:
    replica = Replica()
    with serving(replica) as urls:
        replica.answer(980)
        replica.answer(20, ms=51)
        found = read(*urls)
    assert found.state == "spent"
    assert found.reason.startswith("latency: broken: 2.0 times the budget of 30 days is spent")


def test_failures_burn_the_budget_before_it_is_spent() -> None:
    replica = Replica()
    with serving(replica) as urls:
        replica.answer(100_000)
        read(*urls)
        replica.answer(990)
        replica.answer(10, status=503)
        found = read(*urls, now=NOW + HOUR_S)
    assert (found.state, found.statuses) == ("burning", {"200": 990, "503": 10})
    assert "availability: 90% of the budget of 30 days left" in found.reason
    assert "burns 10.0 times too fast" in found.reason


def test_a_replica_that_began_again_counts_from_zero() -> None:
    replica = Replica()
    with serving(replica) as urls:
        replica.answer(900)
        read(*urls)
        replica.restart()
        replica.answer(300)
        found = read(*urls, now=NOW + HOUR_S)
    assert found.num_requests == 300
    assert found.budgets["availability"]["num_requests"] == 1_200


def test_of_several_processes_behind_one_url_only_the_one_that_began_again_counts_from_zero() -> None:
    one, other = Replica(), Replica()

    def show(_: Request) -> Response:
        return PlainTextResponse(merged({"1": one.metrics.exposition(), "2": other.metrics.exposition()}))

    with live(Starlette(routes=[Route("/metrics", show)])) as address:
        url = f"{address}/metrics"
        one.answer(900)
        other.answer(700)
        read(url)
        one.restart()
        one.answer(300)
        other.answer(50)
        found = read(url, now=NOW + HOUR_S)
    assert (found.num_replicas, found.num_requests) == (1, 350)
    assert found.budgets["availability"]["num_requests"] == 1_950


def test_a_new_process_is_noticed_even_when_it_has_counted_more() -> None:
    before, after = (
        Scrape(url="u", at=NOW + at, started_at=NOW + at - 10, counters={"cpu_s": value}, gauges={})
        for at, value in ((0, 5.0), (100, 7.0))
    )
    assert increase(before, after) == {"cpu_s": 7.0}
    assert total([before, after], NOW - 50) == {"cpu_s": 12.0}
    assert total([before, after], NOW) == {"cpu_s": 7.0}, "the first process began before the window"


def test_what_is_older_than_the_window_is_not_counted() -> None:
    replica = Replica()
    with serving(replica) as urls:
        replica.answer(1_000, ms=80)
        read(*urls)
        read(*urls, now=NOW + HOUR_S)
        replica.answer(200)
        found = read(*urls, now=NOW + 31 * 24 * HOUR_S)
    assert found.budgets["latency"]["num_requests"] == 200
    assert found.state == "ok"


def test_a_service_that_cannot_be_reached_is_unknown_and_never_ok() -> None:
    found = read(GONE)
    assert (found.state, found.num_replicas, found.per_s) == ("unknown", 0, None)
    assert found.reason.startswith(f"not known: {GONE}: ")
    assert asdict(found)["budgets"]["latency"]["state"] == "too_few"


def test_one_replica_of_two_that_cannot_be_reached_is_unknown_and_the_other_s_figures_are_shown() -> None:
    replica = Replica()
    with serving(replica) as urls:
        replica.answer(1_000)
        found = read(*urls, GONE)
    assert (found.state, found.num_replicas, found.num_requests) == ("unknown", 1, 1_000)
    assert GONE in found.reason


def test_a_broken_promise_is_told_even_if_a_replica_cannot_be_reached() -> None:
    replica = Replica()
    with serving(replica) as urls:
        replica.answer(1_000, ms=80)
        found = read(*urls, GONE)
    assert found.state == "spent"
    assert GONE in found.reason


def test_nobody_asking_is_neither_good_nor_bad() -> None:
    with serving(Replica()) as urls:
        found = read(*urls)
    assert (found.state, found.reason) == ("too_few", "0 requests are too few to judge (at least 100)")
    assert found.latency_ms == {"p50": None, "p95": None, "p99": None}


def test_the_metrics_of_another_model_are_not_taken_for_this_one_s() -> None:
    with serving(Replica("other")) as urls:
        found = read(*urls)
    assert found.state == "unknown"
    assert "expected a service of tiny, got one of other" in found.reason


def test_a_page_that_is_no_metrics_is_unknown() -> None:
    app = Starlette(routes=[Route("/metrics", lambda _: PlainTextResponse("<html>{hello"))])
    with live(app) as url:
        assert read(f"{url}/metrics").state == "unknown"
        found = read(f"{url}/nope")
    assert "expected metrics, got HTTP 404" in found.reason


def test_a_key_is_asked_for_and_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    replica = Replica()
    replica.key = "a-key-of-sixteen-characters"
    with serving(replica) as urls:
        assert "set RETORT_METRICS_KEY here" in read(*urls).reason
        monkeypatch.setenv("RETORT_METRICS_KEY", replica.key)
        assert read(*urls).state == "too_few"


def test_the_address_comes_from_the_environment_where_the_config_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Replica()) as urls:
        monkeypatch.setenv("RETORT_METRICS_URL", urls[0])
        assert read().sources == urls


def test_a_clock_that_went_back_gives_no_rates_and_loses_no_counts() -> None:
    replica = Replica()
    with serving(replica) as urls:
        replica.answer(200)
        read(*urls)
        replica.answer(300)
        found = read(*urls, now=NOW - HOUR_S)
    assert (found.per_s, found.num_requests) == (None, 300)


def test_a_quantile_of_buckets_is_that_of_prometheus_linear_within_a_bucket() -> None:
    assert quantile({"1": 50, "2": 100, "+Inf": 100}, 0.5) == 1
    assert quantile({"1": 50, "2": 100, "+Inf": 100}, 0.75) == 1.5
    assert quantile({"1": 50, "2": 90, "+Inf": 100}, 0.99) == 2, "no more is known than that it is above"
    assert quantile({"1": 0, "+Inf": 0}, 0.5) is None
    rng = np.random.default_rng(0)
    values, bounds = rng.exponential(size=20_000), [*np.linspace(0.05, 10, 200), np.inf]
    buckets = {str(bound): float((values <= bound).sum()) for bound in bounds}
    assert quantile(buckets, 0.9) == pytest.approx(np.quantile(values, 0.9), abs=0.05)


@pytest.mark.skipif(prometheus.program() is None, reason="expected prometheus; apt-get install prometheus brings it")
def test_prometheus_gives_the_same_figures_and_says_who_is_down(tmp_path: Path) -> None:
    up, other = Replica(), Replica("other")
    with serving(up, other) as urls:
        targets = [url.removeprefix("http://").removesuffix("/metrics") for url in urls]
        config = {
            "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms"},
            "scrape_configs": [{"job_name": "retort", "static_configs": [{"targets": targets}]}],
        }
        with prometheus.running(tmp_path, config) as server:
            server.wait_for(f'count_over_time(retort_ready{{instance="{targets[0]}"}}[1m]) > 1')
            up.answer(990)
            up.answer(10, status=503)
            other.answer(5_000, ms=80)
            server.wait_for("sum(retort_requests_total) > 5999")
            server.wait_for("min(count_over_time(retort_requests_total[1m])) > 20")
            where = str(server.http.base_url)
            found = read_performance("tiny", MonitorConfig(prometheus=where), OBJECTIVES)
            up.restart()
            up.name = "gone"
            up.restart()
            up.key = "nobody-knows-this"
            server.wait_for(f'up{{instance="{targets[0]}"}} == 0')
            down = read_performance("tiny", MonitorConfig(prometheus=where), OBJECTIVES)
    assert (found.num_replicas, found.state) == (1, "spent")
    assert found.num_requests == pytest.approx(1_000, rel=0.1), "twenty scrapes and half of one at either end"
    assert found.budgets["availability"]["num_bad"] / found.budgets["availability"]["num_requests"] == pytest.approx(
        0.01, rel=0.01
    )
    assert found.budgets["latency"]["num_bad"] == 0, "the slow ones are another model's"
    assert 3 < (found.latency_ms["p95"] or 0) <= 5
    assert down.unread == (f"{where}: 1 of 1 replicas of tiny cannot be scraped",)


def test_a_prometheus_that_is_away_or_knows_nothing_is_unknown() -> None:
    gone = read_performance("tiny", MonitorConfig(prometheus="http://127.0.0.1:9"), OBJECTIVES, now=NOW)
    assert (gone.state, gone.num_replicas) == ("unknown", 0)
    assert "expected a Prometheus server" in gone.reason
    answers = {"status": "success", "data": {"result": []}}
    app = Starlette(routes=[Route("/api/v1/query", lambda _: Response(httpx.Response(200, json=answers).content))])
    with live(app) as url:
        empty = read_performance("tiny", MonitorConfig(prometheus=url), OBJECTIVES, now=NOW)
    assert (empty.state, empty.unread) == ("unknown", (f"{url}: knows no replica that serves tiny",))
