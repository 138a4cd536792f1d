"""The report of one build: the verdict first, then its evidence, in one HTML file and one picture.

A section whose key the summary lacks is left out. Everything shown comes from the summary; nothing is measured here.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.metrics import TITLES, metrics_of
from tasks.report import charts
from tasks.report.behaviour import behaviour_view
from tasks.report.calibration import calibration_view
from tasks.report.details import class_views, data_view, example_call, lineage_chain, lineage_views, stage_views
from tasks.report.errors import errors_view
from tasks.report.figures import class_figure, confusion_figure, confusion_words
from tasks.report.findings import findings_view
from tasks.report.page import write_page
from tasks.report.search import search_view, step_notes
from tasks.report.theme import (
    LIGHT,
    MISSING,
    OUTCOMES,
    SIGNS,
    VERDICTS,
    change_of_measure,
    compared,
    in_gate_unit,
    is_number,
    measure,
    milliseconds,
    readable_time,
    seconds,
    significant,
    size,
)

REPORT_FILE = "report.html"
COLUMNS = ("teacher", "candidate", "floor")
CONTENTS = (
    ("result", "Result", ("rows",)),
    ("gate", "Gate", ("gates",)),
    ("classes", "Errors", ("classes", "errors")),
    ("behaviour", "Behaviour", ("behaviour",)),
    ("calibration", "Calibration", ("calibration",)),
    ("steps", "Compression", ("steps",)),
    ("search", "Search", ("search",)),
    ("data", "Data", ("data",)),
    ("lineage", "Lineage", ("lineage",)),
    ("again", "Reproduce", ("command", "config_yaml", "environment")),
)
"""Anchor of each section, its word in the contents, and the parts of the view that it shows."""
PLAIN = (
    "command",
    "config_yaml",
    "model_path",
    "model_sha256",
    "data_sha256",
    "bento",
    "floor",
    "task",
    "mlflow_run_id",
)
"""Keys of the summary that are shown as they are."""
WHISKER_WIDTH = 144
WHISKER_MARGIN = 10


def write_build_report(summary: Mapping[str, Any], out: Path) -> Path:
    """Write `out/report.html` from the summary of `retort run` and return its path.

    The page is self-contained, so that it can be mailed, archived and attached to a run; it links to the tables beside
    it.
    """
    return write_page("build.html", _view(summary), out / REPORT_FILE)


def picture(summary: Mapping[str, Any], out: Path) -> Path:
    """Write the 1200 x 600 PNG of the trade-off that a README or an MLflow run shows."""
    out.parent.mkdir(parents=True, exist_ok=True)
    charts.picture_figure(summary).savefig(out, format="png", facecolor=LIGHT["paper"], metadata={"Software": None})
    return out


def _view(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What the template shows, as finished text."""
    view = _sections(summary)
    return view | {"contents": [(key, title) for key, title, needs in CONTENTS if any(view[name] for name in needs)]}


def _sections(summary: Mapping[str, Any]) -> dict[str, Any]:
    scores = summary.get("scores", {})
    tone, word, text = OUTCOMES.get(str(summary.get("outcome")), ("unsure", str(summary.get("outcome", "unknown")), ""))
    classes, more_classes = class_views(summary.get("per_class") or ())
    stages, total_seconds = stage_views(summary.get("stages") or ())
    return {
        "name": summary.get("name", "model"),
        "version": summary.get("version"),
        "created_at": readable_time(summary.get("created_at")),
        "verdict": {"tone": tone, "word": word, "text": text},
        "reasons": _reasons(summary),
        "tiles": _tiles(scores),
        **result_view(scores),
        "charts": _charts(summary),
        "gates": [gate_view(verdict) for verdict in summary.get("verdicts") or ()],
        "steps": _step_views(summary),
        "notes": step_notes(summary),
        "search": search_view(summary.get("search")),
        "findings": findings_view(summary),
        "example": example_call(summary),
        "class_charts": _class_charts(summary),
        "classes": classes,
        "more_classes": more_classes,
        "errors": errors_view(summary.get("analysis") or {}),
        "behaviour": behaviour_view(summary),
        "calibration": calibration_view(summary),
        "data": data_view(summary.get("data") or {}),
        "stages": stages,
        "total_seconds": total_seconds,
        "lineage": lineage_views(summary.get("lineage") or ()),
        "chain": lineage_chain(summary),
        "environment": list((summary.get("environment") or {}).items()),
    } | {key: summary.get(key) for key in PLAIN}


def _reasons(summary: Mapping[str, Any]) -> list[str]:
    """Why it was not a plain pass, in a line each."""
    lines = [
        f"{verdict.get('gate')}: {verdict.get('reason') or verdict.get('outcome')}"
        for verdict in summary.get("verdicts") or ()
        if verdict.get("outcome") != "pass"
    ]
    if summary.get("boot"):
        lines.append(f"boot check: {summary['boot']}")
    if summary.get("approval"):
        lines.append(f"approval: {summary['approval']}")
    if summary.get("rolled_back"):
        lines.append(str(summary["rolled_back"]))
    if summary.get("unchanged"):
        lines.append("This very model is the champion already.")
    return lines


def _tiles(scores: Mapping[str, Any]) -> list[dict[str, str]]:
    teacher, candidate = scores.get("teacher", {}), scores.get("candidate", {})
    tiles = []
    for key, better, worse, show in (
        ("size_bytes", "smaller", "larger", size),
        ("latency_ms_p50", "faster", "slower", milliseconds),
    ):
        ratio = charts.ratio(teacher.get(key), candidate.get(key))
        if ratio is not None:
            value = compared(ratio, better, worse)
            tiles.append({"value": value, "label": f"{show(teacher[key])} to {show(candidate[key])}"})
    judged, _ = metrics_of(candidate)
    if is_number(candidate.get(judged)):
        label = f"test {TITLES[judged]}; teacher {measure(judged, teacher.get(judged))}"
        tiles.append({"value": measure(judged, candidate[judged]), "label": label})
    if is_number(candidate.get("throughput_per_s")):
        label = "sentences a second in batches of 32"
        tiles.append({"value": significant(candidate["throughput_per_s"]), "label": label})
    return tiles


def result_view(scores: Mapping[str, Any]) -> dict[str, Any]:
    """`columns`, `rows` and `num_rows` of the table of results."""
    columns = [name for name in COLUMNS if name in scores]
    return {
        "columns": columns,
        "rows": _result_rows(scores, columns),
        "num_rows": _count(scores.get("candidate", {}).get("num_rows")),
        "judged": TITLES[metrics_of(scores.get("candidate", {}))[0]],
    }


def _result_rows(scores: Mapping[str, Any], columns: Sequence[str]) -> list[dict[str, Any]]:
    rows = [
        *(_metric_row(name, scores, columns) for name in metrics_of(scores.get("candidate", {}))),
        _ratio_row("size", "size_bytes", size, "smaller", "larger", scores, columns),
        _ratio_row("p50 latency", "latency_ms_p50", milliseconds, "faster", "slower", scores, columns),
        _ratio_row("p95 latency", "latency_ms_p95", milliseconds, "faster", "slower", scores, columns),
        _ratio_row("sentences a second", "throughput_per_s", significant, "fewer", "more", scores, columns),
    ]
    return [row for row in rows if any(cell["text"] != MISSING for cell in row["cells"])]


def _metric_row(metric: str, scores: Mapping[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    cells = []
    for name in columns:
        bounds = scores[name].get(f"{metric}_interval") or ()
        interval = " to ".join(measure(metric, bound).removesuffix(" %") for bound in bounds)
        cells.append({"text": measure(metric, scores[name].get(metric)), "interval": interval})
    change = change_of_measure(metric, *(scores.get(name, {}).get(metric) for name in ("teacher", "candidate")))
    return {"label": TITLES[metric], "note": "", "cells": cells, "change": change}


def _ratio_row(
    label: str, key: str, show: Any, better: str, worse: str, scores: Mapping[str, Any], columns: Sequence[str]
) -> dict[str, Any]:
    cells = [{"text": show(scores[name].get(key)), "interval": ""} for name in columns]
    ratio = charts.ratio(scores.get("teacher", {}).get(key), scores.get("candidate", {}).get(key))
    note = "one sentence" if "latency" in key else ""
    return {
        "label": label,
        "note": note,
        "cells": cells,
        "change": MISSING if ratio is None else compared(ratio, better, worse),
    }


def _charts(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The task's metric against latency and size, and the distribution of the latencies."""
    found = []
    marks = charts.marks_of(summary)
    if marks:
        caption = "Up and left is better; the area of a disc is the size of the model. The line joins the Pareto front: models that no other beats in both."  # noqa: E501
        found.append({"svg": charts.inline(charts.tradeoff_figure(marks), "tradeoff"), "caption": caption})
    latency_ms = {name: values for name, values in (summary.get("latency_ms") or {}).items() if len(values)}
    if latency_ms:
        caption = "How many of the timed sentences were answered within a time, one at a time."
        found.append({"svg": charts.inline(charts.latency_figure(latency_ms), "latency"), "caption": caption})
    return found


def _class_charts(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """F1 of all classes against the teacher's, and the confusion matrix."""
    found = []
    per_class = [row for row in summary.get("per_class") or () if is_number(row.get("f1_teacher"))]
    if per_class:
        caption = (
            "A dot a class, larger with more rows. Below the line, in red, the candidate is worse than its teacher."
        )
        found.append({"svg": charts.inline(class_figure(per_class), "classes"), "caption": caption, "wide": False})
    confusion = summary.get("confusion")
    if confusion:
        drawing = charts.inline(confusion_figure(confusion["counts"], confusion["labels"]), "confusion")
        found.append({"svg": drawing, "caption": confusion_words(len(confusion["labels"])), "wide": True})
    return found


def gate_view(verdict: Mapping[str, Any]) -> dict[str, Any]:
    """One verdict as finished text, and the positions of its whisker."""
    gate, outcome = str(verdict.get("gate")), str(verdict.get("outcome"))
    bounds = verdict.get("interval")
    interval = f"{in_gate_unit(gate, bounds[0])} to {in_gate_unit(gate, bounds[1])}" if bounds else ""
    return {
        "gate": gate,
        "outcome": outcome,
        "tone": VERDICTS.get(outcome, "unsure"),
        "sign": SIGNS.get(outcome, "?"),
        "observed": in_gate_unit(gate, verdict.get("observed")),
        "limit": in_gate_unit(gate, verdict.get("limit")),
        "interval": interval,
        "whisker": _whisker(verdict),
        "n": _count(verdict.get("n")),
        "needed_n": _count(verdict.get("needed_n")),
        "reason": verdict.get("reason") or "",
    }


def _whisker(verdict: Mapping[str, Any]) -> dict[str, float | None] | None:
    """Positions of limit, observed value and interval on a scale of the row's own."""
    values: dict[str, Any] = {"observed": verdict.get("observed"), "limit": verdict.get("limit")}
    bounds = verdict.get("interval") or (None, None)
    values |= {"low": bounds[0], "high": bounds[1]}
    known = [value for value in values.values() if is_number(value)]
    if not (is_number(values["observed"]) and is_number(values["limit"])):
        return None
    least, span = min(known), (max(known) - min(known)) or 1.0
    room = WHISKER_WIDTH - 2 * WHISKER_MARGIN
    return {
        name: round(WHISKER_MARGIN + room * (value - least) / span, 1) if is_number(value) else None
        for name, value in values.items()
    }


def _count(value: Any) -> str:
    return f"{value:,}" if is_number(value) else ""


def _step_seconds(step: Mapping[str, Any], taken_s: Mapping[Any, Any]) -> float | None:
    """Its own `seconds`, else those of its stages that this run made."""
    if is_number(step.get("seconds")):
        return float(step["seconds"])
    found = [taken_s[name] for name in step.get("stages") or (step.get("name"),) if name in taken_s]
    return sum(found) if found else None


def _step_views(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    steps = list(summary.get("steps") or ())
    taken_s = {
        stage.get("name"): stage.get("seconds") for stage in summary.get("stages") or () if not stage.get("cached")
    }
    views = []
    for at, step in enumerate(steps):
        before = steps[at - 1] if at else {}
        smaller = charts.ratio(before.get("size_bytes"), step.get("size_bytes"))
        faster = charts.ratio(before.get("latency_ms_p50"), step.get("latency_ms_p50"))
        judged, _ = metrics_of(step)
        change = change_of_measure(judged, before.get(judged), step.get(judged))
        views.append(
            {
                "name": charts.step_name(step),
                "stages": ", ".join(step.get("stages") or ()),
                "metric": measure(judged, step.get(judged), 2),
                "metric_change": "" if change == MISSING else change,
                "size": size(step.get("size_bytes")),
                "size_change": "" if smaller is None else compared(smaller, "smaller", "larger"),
                "latency": milliseconds(step.get("latency_ms_p50")),
                "latency_change": "" if faster is None else compared(faster, "faster", "slower"),
                "seconds": seconds(_step_seconds(step, taken_s)),
            }
        )
    return views
