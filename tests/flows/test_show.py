"""What a terminal shows of the service's performance, and of what happened."""

import io
from dataclasses import asdict

from rich.console import Console

from flows.show import _scores_table, show_performance, show_status
from tasks.monitor.objectives import ObjectivesConfig
from tasks.monitor.performance import Usage, judge

RECENT = {
    "latency|0.05": 990.0, "latency|+Inf": 1_000.0, "outcome|ok": 1_000.0, "outcome|failed": 5.0, "status|200": 1_000.0,
    "status|503": 5.0, "cpu_s": 2.01, "cache|memory|hit": 250.0, "cache|memory|miss": 750.0,
}  # fmt: skip


def shown(usages, unread=()):
    console = Console(width=80, record=True)
    show_performance(asdict(judge(usages, ObjectivesConfig(), sources=("u",), unread=unread)), console)
    return " ".join(console.export_text().split())


def test_figures_have_their_units_and_the_budgets_are_told():
    gauges = {"memory_bytes": 2e8, "gpu_ratio": 0.5}
    text = shown([Usage(seconds=7_200, recent=RECENT, long=RECENT, gauges=gauges)])
    assert text.startswith("service spent: availability: broken: 5.0 times the budget of 30 days is spent")
    for words in (
        "1 replica, the last 2.0 hours", "predictions 1,005", "200: 1,000, 503: 5", "core-ms a request 2", "MB 200",
        "answers from a cache 25.0%", "gpu ratio 0.5", "cores used 0.000",
    ):  # fmt: skip
        assert words in text


def test_a_service_that_cannot_be_read_is_unknown_without_a_table():
    assert shown([], ["u: Connection refused"]) == "service unknown: not known: u: Connection refused"


def test_a_candidate_that_is_larger_or_slower_is_called_so() -> None:
    teacher = {
        "accuracy": 0.9, "accuracy_interval": [0.88, 0.92], "macro_f1": 0.9, "size_bytes": 6e6, "latency_ms_p50": 2.0,
        "latency_ms_p95": 3.0, "throughput_per_s": 100.0,
    }  # fmt: skip
    for size_bytes, ms, told in (
        (9e6, 0.2, "time 10× faster, size 1.5× larger"),
        (3e6, 4.0, "time 2.0× slower, size 2.0× smaller"),
        (6e6, 2.0, "time the same, size the same"),
    ):
        candidate = teacher | {"size_bytes": size_bytes, "latency_ms_p50": ms}
        found = str(_scores_table({"teacher": teacher, "candidate": candidate, "floor": teacher}).caption)
        assert found.startswith(f"The candidate against its teacher: {told}.")


def test_what_happened_is_told_the_newest_first() -> None:
    entry = {"at": 1.8e9, "action": "promote", "version": "1", "who": "ada", "why": "a [first] model"}
    look = {"at": 1.8e9 + 60, "state": "no_drift", "action": "none", "reason": "quiet"}
    model = {"name": "bank", "champion": None, "arms": {}, "versions": [], "ledger": [entry], "looks": [look]}
    console = Console(width=100, record=True, file=io.StringIO())
    show_status([model], console)
    lines = [line.split() for line in console.export_text().splitlines() if line.strip()]
    assert lines[-2:] == [
        ["2027-01-15", "08:01:00", "look:", "no_drift,", "none", "quiet"],
        ["2027-01-15", "08:00:00", "promote", "version", "1", "ada", "a", "[first]", "model"],
    ]
