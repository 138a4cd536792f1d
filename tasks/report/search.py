"""The report's section on a search, and what has to be said of single techniques."""

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.report import charts
from tasks.report.theme import milliseconds, percent, seconds, size

FATES = {"beyond_limits": "beyond a limit", "cannot_win": "could not win", "failed": "failed"}
NOTES = {
    "prune_weights": "prune_weights sets single weights to zero. That makes the stored file smaller once it is packed; "
    "a dense runtime such as ONNX Runtime multiplies the zeros all the same, so it gains no speed from them.",
    "pack": "pack stores sparse weights compressed. ONNX Runtime restores the dense model when it loads the file, so "
    "only storage, transfer and the time to load change, not the memory or the speed of an answer.",
}
"""Technique -> what a reader of its row could get wrong."""


def step_notes(summary: Mapping[str, Any]) -> list[str]:
    """Notes on the techniques of this chain."""
    names = {stage for step in summary.get("steps") or () for stage in step.get("stages") or ()}
    return [note for technique, note in NOTES.items() if any(name.startswith(technique) for name in names)]


def search_view(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Words, chart and rows of a search; None where there was none."""
    if not found:
        return None
    trials = found["trials"]
    varied = [name for name in trials[0]["point"] if len({str(one["point"].get(name)) for one in trials}) > 1]
    trained = sorted((one for one in trials if one["state"] == "trained"), key=lambda one: one["latency_ms"])
    others = [one for one in trials if one["state"] != "trained"]
    return {
        "words": found["words"],
        "chart": charts.inline(charts.search_figure(trained, found["chosen"]), "search") if trained else None,
        "trained": _rows(trained, varied, found["chosen"]),
        "others": _rows(others, varied, found["chosen"]),
    }


def _rows(trials: Sequence[Mapping[str, Any]], varied: Sequence[str], chosen: int) -> list[dict[str, str]]:
    """One row a trial; of the point only what differs between trials is told."""
    return [
        {
            "number": str(trial["number"]),
            "point": ", ".join(f"{name} {value}" for name, value in trial["point"].items() if name in varied),
            "accuracy": percent(trial["accuracy"], 2),
            "latency": milliseconds(trial["latency_ms"]),
            "size": size(trial["size_mb"] * 1e6) if trial["size_mb"] is not None else "",
            "seconds": seconds(trial["seconds"]),
            "fate": _fate(trial, chosen),
        }
        for trial in trials
    ]


def _fate(trial: Mapping[str, Any], chosen: int) -> str:
    if trial["number"] == chosen:
        return "chosen"
    if trial["state"] == "trained":
        return "on the front" if trial["on_front"] else "beaten"
    return f"{FATES[trial['state']]}: {trial['why']}"
