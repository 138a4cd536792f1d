"""The alert rules: valid, each tested by promtool with its fault planted, and about metrics that exist."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from bento.gpu_metrics import GpuCollector
from bento.loop_metrics import LoopMetrics
from bento.metrics import Metrics

FOLDER = Path(__file__).parents[2] / "configs" / "prometheus"
SUFFIXES = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_count", "_sum"),
    "gauge": ("",),
}
METRIC = re.compile(r"\b(?:retort|process|python)_\w+")

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="expected promtool; apt-get install prometheus brings it"
)


def existing_metrics() -> set[str]:
    """Every name that a service can expose, those of a database and a GPU too."""
    metrics = Metrics()
    loop = LoopMetrics(lambda: None, metrics.loop_errors)
    families = [*metrics.registry.collect(), *loop.describe(), *GpuCollector().describe()]
    return {family.name + suffix for family in families for suffix in SUFFIXES.get(family.type, ())}


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def unknown_metrics(expression: str) -> set[str]:
    """Names in a query that no service exposes; those of recording rules have a colon and are promtool's to check."""
    return set(METRIC.findall(re.sub(r'"[^"]*"|retort:\S+', "", expression))) - existing_metrics()


def promtool(*arguments: str, folder: Path = FOLDER) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *arguments], cwd=folder, capture_output=True, text=True)


def test_every_metric_of_a_rule_exists() -> None:
    assert {name for rule in rules() for name in unknown_metrics(rule["expr"])} == set()


def test_every_recorded_series_of_a_rule_is_recorded() -> None:
    used = {name for rule in rules() for name in re.findall(r"retort:\w+:\w+", rule["expr"])}
    assert used == {rule["record"] for rule in rules() if "record" in rule}


@pytest.mark.parametrize(
    ("expression", "unknown"),
    [
        ("rate(retort_requets_total[5m]) > 0", {"retort_requets_total"}),
        ("retort_requests > 0", {"retort_requests"}),
        ("retort_ready == 0 and retort_queue_wait_seconds > 1", {"retort_queue_wait_seconds"}),
        ("retort:slow_requests:ratio_rate5m > process_open_fds", set()),
        ('retort_gpu_memory_used_bytes{route="retort_nothing"} + retort_drift_p_value', set()),
    ],
)
def test_a_metric_that_does_not_exist_is_caught(expression: str, unknown: set[str]) -> None:
    assert unknown_metrics(expression) == unknown


def test_every_alert_says_how_urgent_it_is_and_what_to_do() -> None:
    for rule in rules():
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]
            assert set(rule["annotations"]) == {"summary", "description"}, rule["alert"]


def test_every_alert_has_a_case_in_which_it_fires() -> None:
    tests = yaml.safe_load((FOLDER / "alerts_test.yaml").read_text(encoding="utf-8"))["tests"]
    samples = [
        sample["labels"]
        for test in tests
        for each in test["promql_expr_test"]
        for sample in each.get("exp_samples", ())
    ]
    fired = {name for labels in samples for name in re.findall(r'alertname="(\w+)"', labels)}
    assert fired == {rule["alert"] for rule in rules() if "alert" in rule}


@needs_promtool
def test_rules_and_example_configuration_are_valid() -> None:
    for check in (("check", "rules", "alerts.yaml"), ("check", "config", "prometheus.yml")):
        done = promtool(*check)
        assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_each_alert_fires_at_its_fault_and_none_on_a_healthy_service() -> None:
    done = promtool("test", "rules", "alerts_test.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_an_alert_with_a_wrong_limit_is_caught(tmp_path: Path) -> None:
    rules_text = (FOLDER / "alerts.yaml").read_text(encoding="utf-8")
    assert rules_text.count("> 0.025") == 1
    (tmp_path / "alerts.yaml").write_text(rules_text.replace("> 0.025", "> 0.25"), encoding="utf-8")
    planted = yaml.safe_load((FOLDER / "alerts_test.yaml").read_text(encoding="utf-8"))
    planted["tests"] = [test for test in planted["tests"] if test["name"] == "requests wait"]
    (tmp_path / "alerts_test.yaml").write_text(yaml.safe_dump(planted), encoding="utf-8")
    done = promtool("test", "rules", "alerts_test.yaml", folder=tmp_path)
    assert done.returncode == 1
    assert 'alertname="RetortQueueWait"' in done.stdout + done.stderr
