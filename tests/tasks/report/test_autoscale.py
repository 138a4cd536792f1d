"""The page of a simulated day."""

from pathlib import Path

from tasks.report.autoscale import write_autoscale_report
from tests.tasks.report.sample import HOSTILE
from tests.tasks.report.test_build import Reader


def policy(name: str, *, met: bool) -> dict[str, object]:
    return {
        "policy": name, "mean_replicas": 4.2, "most_replicas": 10, "num_changes": 60, "core_hours": 102.4,
        "cost_per_million": 0.0156, "slow_share": 0.0061 if met else 0.6, "refused": 0.0 if met else 1_234.0,
        "bad_minutes": 14, "met": met, "replicas_by_minute": [2] * 90, "slow_by_minute": [1.0] * 90,
    }  # fmt: skip


def result() -> dict[str, object]:
    return {
        "name": HOSTILE, "day": HOSTILE, "num_requests": 1e6, "mean_per_s": 100.0, "busiest_per_s": 400.0,
        "dispersion": 1.0, "pod_max_per_s": 1_500.0, "pod_good_per_s": 1_400.0, "startup_s": 30.0, "latency_ms": 50.0,
        "latency_share": 0.99, "core_hour_price": 0.04, "per_s_by_minute": [100.0] * 89 + [0.0],
        "foreseen_core_hours": 78.3, "policies": [policy("HPA", met=True), policy("fixed, mean", met=False)],
    }  # fmt: skip


def test_every_policy_has_a_row_that_says_whether_it_kept_the_promise(tmp_path: Path):
    page = Reader(write_autoscale_report(result(), tmp_path / "day.html").read_text(encoding="utf-8"))
    assert page.open == []
    for words in (
        "✓ kept",
        "✗ missed",
        "0.610 %",
        "60.000 %",
        "1,234",
        "102",
        "78.3",
        "99.00 % of the answers within 50.0 ms",
        "in 30 s",
    ):
        assert words in page.text
    assert "$" not in page.text, "no formula where a number should be"
    assert "script" not in page.tags
    assert "svg" in page.tags
