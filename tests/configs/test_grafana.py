"""The dashboard: its form, and its every query, and every alert, against a real Prometheus that scrapes a real app."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from bento.app import Server, create_app
from bento.serve_settings import ServeSettings
from tasks.monitor.looks import store_look
from tasks.release.ledger import Champion, swap_champion
from tests import prometheus
from tests.configs.test_kubernetes import scaling_queries
from tests.configs.test_prometheus import FOLDER as RULES
from tests.configs.test_prometheus import rules, unknown_metrics
from tests.live import live
from tests.tiny import write_tiny_model

FOLDER = Path(__file__).parents[2] / "configs" / "grafana"
ROWS = (
    "Traffic", "Latency", "Errors", "Batching", "Cache", "Model and arms", "Predictions and confidence",
    "Drift and audit", "Resources", "Request log",
)  # fmt: skip
VARIABLES = {"$__rate_interval": "5s", "$job": "retort", "$instance": ".*"}
CORE_PANELS = {"row", "timeseries", "stat", "heatmap", "table", "state-timeline"}
"""Part of every Grafana since version 10, so that no plugin has to be installed."""


def dashboard() -> dict[str, Any]:
    read: dict[str, Any] = json.loads((FOLDER / "retort.json").read_text(encoding="utf-8"))
    return read


def queries(board: dict[str, Any]) -> list[str]:
    """Of all panels and annotations, the variables filled in."""
    found = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    found += [each["expr"] for each in board["annotations"]["list"]]
    for name, value in VARIABLES.items():
        found = [query.replace(name, value) for query in found]
    return found


def test_each_subject_has_its_row_in_order() -> None:
    assert tuple(panel["title"] for panel in dashboard()["panels"] if panel["type"] == "row") == ROWS


def test_panels_are_of_every_grafana_and_have_ids_of_their_own() -> None:
    panels = dashboard()["panels"]
    assert {panel["type"] for panel in panels} <= CORE_PANELS
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert dashboard()["schemaVersion"] >= 36


def test_panels_fill_the_grid_without_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    assert {x for x, _ in taken} == set(range(24))


def test_every_target_asks_the_chosen_data_source() -> None:
    for panel in dashboard()["panels"]:
        sources = [target["datasource"] for target in panel.get("targets", ())]
        assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources), panel["title"]
        assert len({target["refId"] for target in panel.get("targets", ())}) == len(sources), panel["title"]


def test_every_variable_of_a_query_is_defined() -> None:
    board = dashboard()
    defined = {each["name"] for each in board["templating"]["list"]} | {"__rate_interval", "__all"}
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(board))) <= defined


def test_every_metric_of_a_query_exists() -> None:
    assert {name for query in queries(dashboard()) for name in unknown_metrics(query)} == set()


def test_grafana_is_told_where_prometheus_and_the_dashboard_are() -> None:
    files = {path.parent.name: yaml.safe_load(path.read_text()) for path in FOLDER.glob("provisioning/*/*.yaml")}
    assert files["datasources"]["datasources"][0]["type"] == "prometheus"
    assert files["dashboards"]["providers"][0]["type"] == "file"


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[prometheus.Prometheus]:
    """A Prometheus that has scraped a service with traffic, errors, labels, a promotion and a look."""
    if prometheus.program() is None:
        pytest.skip("expected prometheus; apt-get install prometheus brings it")
    folder = tmp_path_factory.mktemp("prometheus")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETORT_HOME", str(folder / "home"))
        server = Server(ServeSettings(model=write_tiny_model(folder / "model"), audit_rate=1.0))
        with (
            live(create_app(server)) as url,
            prometheus.running(folder, _config(url)) as found,
        ):
            _make_history(server)
            _make_traffic(server, url, found)
            yield found


def _config(url: str) -> dict[str, Any]:
    """The example's, scraping this service each second."""
    config: dict[str, Any] = yaml.safe_load((RULES / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(RULES / "alerts.yaml")]
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [url.removeprefix("http://")]
    return config


def _make_history(server: Server) -> None:
    identity = server.champion().identity
    new = Champion(
        name=identity.name, version="1", model_sha256=identity.model_sha256, model_path=Path("model"), bento=""
    )
    assert swap_champion(new, expected=None, action="promote", who="test", why="test", evidence={})
    tests = {"embedding": {"statistic": 0.1, "p_value": 0.01, "p_holm": 0.04}}
    evidence = {"drift": {"alpha": 0.0006, "tests": tests}, "harm": {"accuracy": {"value": 0.9}}}
    look = {"name": identity.name, "state": "harm", "action": "none", "reason": "", "key": "k", "evidence": evidence}
    assert store_look(look)


def _make_traffic(server: Server, url: str, scraping: prometheus.Prometheus) -> None:
    """Requests of every outcome until each has been scraped often enough for a rate."""
    with httpx.Client(base_url=url) as client:
        tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["refund please"]}
        until = time.monotonic() + 6
        while time.monotonic() < until:
            answer = client.post("/predict", json={"texts": ["my card is lost", "where is my refund"]}).json()
            client.post("/v2/models/tiny/infer", json={"inputs": [tensor]}).raise_for_status()
            client.post("/feedback", json={"request_id": answer["request_id"], "label": "refund", "item": 0})
            client.post("/predict", json={"text": ""})
            client.get("/nope")
            server.loop_metrics.read()
            time.sleep(0.05)
    scraping.wait_for('ALERTS{alertname="RetortHarm", alertstate="firing"}')


@pytest.mark.slow
def test_every_query_of_the_dashboard_has_a_result(scraped: prometheus.Prometheus) -> None:
    for query in queries(dashboard()):
        if "retort_gpu" not in query:
            scraped.wait_for(query)  # on a busy machine a window may hold one sample only
        assert scraped.series(query) or "retort_gpu" in query, query


@pytest.mark.slow
def test_the_figures_are_those_of_the_traffic(scraped: prometheus.Prometheus) -> None:
    def value(query: str) -> float:
        (series,) = scraped.series(query)
        return float(series["value"][1])

    assert value('sum(retort_arm_requests_total{arm="champion"})') == value(
        'sum(retort_request_seconds_count{route=~"/predict|/v2/models/.+/infer", outcome="ok"})'
    )
    assert value('retort_drift_state{state="harm"}') == 1
    assert value("retort_errors_total{code='empty_text'}") == value("retort_errors_total{code='not_found'}")
    assert 0 < value("retort_audit_labelled_ratio") < 1


@pytest.mark.slow
def test_every_alert_and_recording_rule_is_evaluated_without_an_error(scraped: prometheus.Prometheus) -> None:
    for rule in rules():
        scraped.series(rule["expr"])
    evaluated = [rule for group in scraped.get("rules")["groups"] for rule in group["rules"]]
    assert {rule["health"] for rule in evaluated} == {"ok"}
    assert len(evaluated) == len(rules())


@pytest.mark.slow
def test_the_planted_harm_raises_its_alarm_and_nothing_else_does(scraped: prometheus.Prometheus) -> None:
    firing = scraped.series('ALERTS{alertstate="firing"}')
    assert {series["metric"]["alertname"] for series in firing} == {"RetortHarm"}


@pytest.mark.slow
def test_a_query_that_prometheus_refuses_is_caught(scraped: prometheus.Prometheus) -> None:
    with pytest.raises(AssertionError, match="parse error"):
        scraped.series("sum(rate(retort_requests_total[5s])")


@pytest.mark.slow
def test_the_queries_by_which_kubernetes_scales_have_a_result(scraped: prometheus.Prometheus) -> None:
    for query in scaling_queries():
        query = query.replace("[2m]", "[5s]")
        scraped.wait_for(query)
        (series,) = scraped.series(query)
        assert 0 <= float(series["value"][1]) < 1
