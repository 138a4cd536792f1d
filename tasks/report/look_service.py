"""Of a look's page: how the service fares, and what is left of its error budgets."""

from collections.abc import Iterator, Mapping
from typing import Any

from tasks.report.theme import MISSING, is_number, milliseconds, percent, seconds, sentence, significant, size

TONES = {"ok": "good", "burning": "bad", "spent": "bad", "too_few": "unsure", "unknown": "unsure"}
ANSWERS = {
    "ok": "✓ kept", "burning": "✗ burns too fast", "spent": "✗ broken", "too_few": "? too few requests",
    "unknown": "? not known",
}  # fmt: skip


def service_view(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What the template shows; None without evidence."""
    if not found:
        return None
    return {
        "tone": TONES[found["state"]],
        "answer": ANSWERS[found["state"]],
        "reason": sentence(found["reason"]),
        "budgets": [_budget(name, budget) for name, budget in found["budgets"].items() if budget["num_requests"]],
        "rows": [{"name": name, "value": value} for name, value in _rows(found)] if found["seconds"] else [],
        "sources": ", ".join(found["sources"]),
    }


def _budget(name: str, budget: Mapping[str, Any]) -> dict[str, str]:
    burn = budget["burn_rate"]
    return {
        "name": name,
        "tone": TONES[budget["state"]],
        "answer": ANSWERS[budget["state"]],
        "target": percent(budget["target"], 2),
        "good": percent(1 - budget["num_bad"] / budget["num_requests"], 3),
        "n": f"{budget['num_requests']:,.0f}",
        "spent": percent(budget["spent"], 0),
        "burn": f"{burn:.1f}×" if is_number(burn) else MISSING,
    }


def _rows(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    replicas = f"{found['num_replicas']:,} replica{'s' * (found['num_replicas'] != 1)}"
    yield "requests", f"{found['num_requests']:,} in {seconds(found['seconds'])} by {replicas}"
    yield "requests a second", significant(found["per_s"])
    yield "latency p50, p95, p99", ", ".join(milliseconds(value) for value in found["latency_ms"].values())
    yield "answers by status", ", ".join(f"{status}: {number:,}" for status, number in found["statuses"].items())
    yield "CPU cores used", significant(found["cpu_cores"])
    yield "CPU time a request", milliseconds(found["core_ms_per_request"])
    yield "memory of the largest replica", size(found["memory_bytes"])
    yield "wait in the queue, p99", milliseconds(found["queue_ms_p99"])
    yield "answers from a cache", percent(found["cache_hit_share"])
    yield "texts a run", significant(found["texts_per_run"])
    for name, value in (found["gpu"] or {}).items():
        yield name.replace("_", " ").replace("gpu", "GPU"), significant(value)
