"""The report's section on errors: flips, dear confusions or mistakes by label, weak slices, inputs, time, and doubtful
labels."""

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.data.rows import listed
from tasks.report.behaviour import cut
from tasks.report.theme import MISSING, percent, significant

Rows = list[dict[str, Any]]


MOST_WORSE = 6
RATES = {
    "accuracy": "{model}'s accuracy",
    "exact_match": "{model} exactly right",
    "within_bound": "{model} within {bound}",
}
"""What a share of right answers is called, by the analysis' measure."""


def errors_view(analysis: Mapping[str, Any]) -> dict[str, Any] | None:
    """The beginning of every table as finished text; None where nothing was analysed."""
    tables = analysis.get("tables")
    if not tables:
        return None
    measure, bound = analysis["measure"], significant(analysis.get("bound"))
    periods = [row | {"period": f"{row['from']} to {row['to']}"} for row in tables.get("over_time", ())]
    return {
        "num": {name: f"{number:,}" for name, number in analysis["num"].items()},
        "flips": {name: f"{analysis[name]:,}" for name in ("num_lost", "num_gained") if name in analysis},
        "bound": bound,
        "rates": {model: RATES[measure].format(model=model, bound=bound) for model in ("candidate", "teacher")},
        "slices": [_slice(row) for row in tables["slices"] if row["confirmed"]],
        "unconfirmed": [_slice(row) for row in tables["slices"] if not row["confirmed"]],
        "inputs": _rates(tables["inputs"], "group", measure),
        "over_time": _rates(periods, "period", measure),
        "trend_p": significant(analysis["trend_p"]),
        "classes": _classes(analysis, tables) if "errors" in tables else None,
        "answers": [_answer(row) for row in tables.get("answers", ())],
        "mistakes": _mistakes(analysis, tables) if "mistakes" in tables else None,
    }


def _classes(analysis: Mapping[str, Any], tables: Mapping[str, Rows]) -> dict[str, Any]:
    """What only models of one class a text have."""
    return {
        "weighed": analysis["weighed"],
        "mean_cost": {name: significant(value) for name, value in analysis["mean_cost"].items()},
        "num_label_rows": f"{analysis['num_label_rows']:,}",
        "flips": [_flip(row) for row in tables["flips"]],
        "confusions": [row | {"example": cut(row["example"]), "total_cost": significant(row["total_cost"])}
                       for row in tables["confusions"]],
        "label_errors": [row | {"text": cut(row["text"]), "probability": percent(row["probability_suggested"])}
                         for row in tables["label_errors"]],
        "neighbours": [_neighbour(row) for row in tables["errors"]],
    }  # fmt: skip


def _answer(row: Mapping[str, Any]) -> dict[str, str]:
    """One answer that is off, beside the training text that is most like it."""
    cells = {name: cut(row[name]) or "none" for name in ("text", "truth", "teacher", "candidate")}
    return cells | {"nearest": _near(row["nearest_1"], row["nearest_truth_1"])}


def _mistakes(analysis: Mapping[str, Any], tables: Mapping[str, Rows]) -> dict[str, Any]:
    """Each kind of mistake, a row a label, and all labels together."""
    total = analysis["mistakes"]
    kinds = [name.removeprefix("candidate_") for name in total if name.startswith("candidate_")]
    rows = [*tables["mistakes"], total] if len(tables["mistakes"]) > 1 else tables["mistakes"]
    return {
        "kinds": [kind.replace("_", " ") for kind in kinds],
        "worse": worse_words(total),
        "rows": [
            {
                "label": row["label"],
                "true": f"{row['true']:,}",
                "counts": [
                    {model: f"{row[f'{model}_{kind}']:,}" for model in ("candidate", "teacher")} for kind in kinds
                ],
            }
            for row in rows
        ],
    }


def worse_words(mistakes: Mapping[str, Any]) -> str:
    """The mistakes that a candidate makes more often than its teacher and not by chance."""
    return listed(mistakes["worse"], most=MOST_WORSE)


def _flip(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "flip": row["flip"],
        "text": cut(row["text"]),
        "label": row["label"],
        "teacher": f"{row['teacher']} {percent(row['teacher_probability'], 0)}",
        "candidate": f"{row['candidate']} {percent(row['candidate_probability'], 0)}",
    }


def _slice(row: Mapping[str, Any]) -> dict[str, str]:
    cells = {
        "rows": f"{row['rows']:,}",
        "rate": percent(row["error_rate"]),
        "elsewhere": percent(row["error_rate_elsewhere"]),
        "p_holm": significant(row["p_holm"]) if row["p_holm"] >= 0.001 else "< 0.001",
    }
    return {"slice": row["slice"]} | {name: _unbroken(text) for name, text in cells.items()}


def _unbroken(text: str) -> str:
    """The text on one line, however narrow its column."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _rates(rows: Sequence[Mapping[str, Any]], name: str, measure: str) -> Rows:
    found = []
    for row in rows:
        cells: dict[str, Any] = {"name": row[name], "rows": f"{row['rows']:,}"}
        for model in ("candidate", "teacher"):
            cells[model] = percent(row[f"{model}_{measure}"])
            bounds = [_unbroken(percent(row[f"{model}_{end}"])) for end in ("low", "high")]
            cells[f"{model}_interval"] = "" if MISSING in bounds else " to ".join(bounds)
        found.append(cells)
    return found


def _neighbour(row: Mapping[str, Any]) -> dict[str, str]:
    """One error and the training text that is most like it."""
    return {
        "text": cut(row["text"]),
        "label": row["label"],
        "candidate": f"{row['candidate']} {percent(row['candidate_probability'], 0)}",
        "nearest": _near(row["nearest_1"], row["nearest_label_1"]),
    }


def _near(text: str, truth: str) -> str:
    return f"{cut(text)} ({truth or 'none'})" if text else MISSING
