"""The figures of a look by one name each, with their units, so that looks compare wherever they are logged."""

from collections.abc import Iterator, Mapping
from typing import Any

STATE_LEVELS = {"no_drift": 0, "mix_only": 1, "suspect": 2, "harm": 3}
"""States by gravity, for a line over time."""
PERFORMANCE = ("per_s", "num_requests", "cpu_cores", "core_ms_per_request", "queue_ms_p99", "cache_hit_share")
"""Fields of the performance evidence that are plain numbers."""


def measures(evidence: Mapping[str, Any], *, spent: float, num_looks: int) -> dict[str, float]:
    """Name -> value of what was measured; measure and unit before the slash, where they stand together in a chart.

    `evidence` is that of `evidence_json` with `performance`; `spent` the chance of a false alarm so far.
    """
    known = {
        "look/state_level": STATE_LEVELS[evidence["state"]],
        "look/number": num_looks,
        "look/false_alarm_share_spent": spent,
        **dict(_drift(evidence["drift"])),
        **dict(_harm(evidence["harm"])),
        **dict(_service(evidence["performance"])),
    }
    return {name: float(value) for name, value in known.items() if value is not None}


def _drift(drift: Mapping[str, Any]) -> Iterator[tuple[str, float | None]]:
    yield "rows/window", drift["num_rows"]
    yield "rows/unreadable", drift["num_unreadable"]
    yield "drift_p/level", drift["alpha"]
    for name, test in drift["tests"].items():
        yield f"drift_p/{name}", test["p_holm"]
        yield f"drift_statistic/{name}", test["statistic"]


def _harm(harm: Mapping[str, Any]) -> Iterator[tuple[str, float | None]]:
    yield "labels/audited", harm["num_labels"]
    yield "labels/waiting", harm["num_waiting"]
    yield "accuracy/at_the_gate", harm["baseline_accuracy"]
    for name, found in (("audited", harm["accuracy"]), ("estimated", harm["estimate"])):
        for key in ("value", "low", "high") if found else ():
            yield f"accuracy/{name}" + ("" if key == "value" else f"_{key}"), found[key]
    yield "harm_p/exact", harm["p_value"]
    yield "harm_p/level", harm["alpha"]
    yield "harm_e_value/now", harm["e_value"]
    yield "harm_e_value/level", harm["e_level"]
    yield "harm_rise/after_drift", harm["rise"] if harm["rise_level"] is not None else None
    yield "harm_rise/level", harm["rise_level"]
    for guess in harm["triage"]:
        yield f"accuracy_guess/{guess['method']}", guess["now"]


def _service(found: Mapping[str, Any]) -> Iterator[tuple[str, float | None]]:
    for name in PERFORMANCE:
        yield f"service/{name}", found[name]
    for name, value in found["latency_ms"].items():
        yield f"latency_ms/{name}", value
    memory = found["memory_bytes"]
    yield "service/memory_mb", None if memory is None else memory / 1e6
    for name, budget in found["budgets"].items():
        yield f"error_budget_share_spent/{name}", budget["spent"]
