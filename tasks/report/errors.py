"""The report's section on errors: flips, dear confusions, weak slices, doubtful labels, inputs, and time."""

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.report.behaviour import cut
from tasks.report.theme import MISSING, percent, significant

Rows = list[dict[str, Any]]


def errors_view(analysis: Mapping[str, Any]) -> dict[str, Any] | None:
    """The beginning of every table as finished text; None where nothing was analysed."""
    tables = analysis.get("tables")
    if not tables:
        return None
    periods = [row | {"period": f"{row['from']} to {row['to']}"} for row in tables.get("over_time", ())]
    return {
        "num": {name: f"{number:,}" for name, number in analysis["num"].items()},
        "num_lost": f"{analysis['num_lost']:,}",
        "num_gained": f"{analysis['num_gained']:,}",
        "weighed": analysis["weighed"],
        "mean_cost": {name: significant(value) for name, value in analysis["mean_cost"].items()},
        "num_label_rows": f"{analysis['num_label_rows']:,}",
        "flips": [_flip(row) for row in tables["flips"]],
        "confusions": [row | {"example": cut(row["example"]), "total_cost": significant(row["total_cost"])}
                       for row in tables["confusions"]],
        "slices": [_slice(row) for row in tables["slices"] if row["confirmed"]],
        "unconfirmed": [_slice(row) for row in tables["slices"] if not row["confirmed"]],
        "label_errors": [row | {"text": cut(row["text"]), "probability": percent(row["probability_suggested"])}
                         for row in tables["label_errors"]],
        "inputs": _accuracies(tables["inputs"], "group"),
        "over_time": _accuracies(periods, "period"),
        "trend_p": significant(analysis["trend_p"]),
        "neighbours": [_neighbour(row) for row in tables["errors"]],
    }  # fmt: skip


def answers_view(analysis: Mapping[str, Any]) -> dict[str, Any] | None:
    """The first wrong answers of label sets, scores or entities; None for classes."""
    if "answers" not in analysis:
        return None
    rows = [row | {name: cut(row[name]) for name in ("text", "truth", "teacher", "candidate")}
            for row in analysis["answers"]]  # fmt: skip
    return {
        "rows": rows,
        "num": f"{analysis['num']['answers']:,}",
        "flips": {name: f"{analysis[name]:,}" for name in ("num_lost", "num_gained") if name in analysis},
    }


def _flip(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "flip": row["flip"],
        "text": cut(row["text"]),
        "label": row["label"],
        "teacher": f"{row['teacher']} {percent(row['teacher_probability'], 0)}",
        "candidate": f"{row['candidate']} {percent(row['candidate_probability'], 0)}",
    }


def _slice(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "slice": row["slice"],
        "rows": f"{row['rows']:,}",
        "rate": percent(row["error_rate"]),
        "elsewhere": percent(row["error_rate_elsewhere"]),
        "p_holm": significant(row["p_holm"]) if row["p_holm"] >= 0.001 else "< 0.001",
    }


def _accuracies(rows: Sequence[Mapping[str, Any]], name: str) -> Rows:
    found = []
    for row in rows:
        cells: dict[str, Any] = {"name": row[name], "rows": f"{row['rows']:,}"}
        for model in ("candidate", "teacher"):
            cells[model] = percent(row[f"{model}_accuracy"])
            bounds = percent(row[f"{model}_low"]), percent(row[f"{model}_high"])
            cells[f"{model}_interval"] = "" if MISSING in bounds else " to ".join(bounds)
        found.append(cells)
    return found


def _neighbour(row: Mapping[str, Any]) -> dict[str, str]:
    """One error and the training text that is most like it."""
    near = row["nearest_1"]
    return {
        "text": cut(row["text"]),
        "label": row["label"],
        "candidate": f"{row['candidate']} {percent(row['candidate_probability'], 0)}",
        "nearest": f"{cut(near)} ({row['nearest_label_1']})" if near else MISSING,
    }
