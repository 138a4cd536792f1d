"""The page of an experiment: where it stands, its two e-processes, guardrails, classes and looks in one HTML file."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from math import log
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tasks.report.charts import STYLE, inline
from tasks.report.page import write_page
from tasks.report.theme import LIGHT, MISSING, SIGNS, VERDICTS, is_number, percent, points, readable_time, significant

REPORT_FILE = "report.html"
MOST_SLICES = 12
LN10 = log(10)
LOWEST_SHOWN = -4
"""Power of ten below which a curve is off the chart."""
ANSWERS = {"pass": "pass", "fail": "above", "inconclusive": "not enough yet"}
EXPERIMENT_STATES = {
    "waiting": ("unsure", "Waits", "Another experiment runs; this one begins when it has ended."),
    "shadow": (
        "unsure",
        "In the shadow",
        "The challenger is asked what the champion was asked; nobody sees its answers.",
    ),
    "ab": ("unsure", "A/B", "The challenger answers a share of the requests."),
    "watch": (
        "good",
        "Promoted, watched",
        "The challenger serves. The model before it is its shadow and can come back.",
    ),
    "promoted": ("good", "Promoted", "The challenger serves and did no harm while it was watched."),
    "vetoed": ("bad", "Vetoed", "The challenger is not good enough. The champion has not moved."),
    "inconclusive": ("unsure", "Inconclusive", "The budget is used up without a verdict. The champion has not moved."),
    "rolled_back": ("bad", "Rolled back", "The promoted model did harm. The one before it serves again."),
    "stopped": ("unsure", "Stopped", "A person ended it."),
    "superseded": ("unsure", "Superseded", "The champion was moved, or a newer version took its place."),
}


def write_experiment_report(result: Mapping[str, Any], looks: Sequence[Mapping[str, Any]], out: Path) -> Path:
    """Write `out/report.html` from what `flows.experiment.describe` gives and the stored looks; returns its path."""
    return write_page("experiment.html", _view(result, looks), out / REPORT_FILE)


def _view(result: Mapping[str, Any], looks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    tone, word, text = EXPERIMENT_STATES[result["state"]]
    evidence, config = result["evidence"], result["config"]
    return {
        "name": result["name"],
        "result": result,
        "created_at": readable_time(datetime.now(UTC).isoformat(timespec="seconds")),
        "started_at": _time(result["started_at"]),
        "verdict": {"tone": tone, "word": word, "text": text},
        "delta": points(config["delta"]).lstrip("+"),
        "alpha": percent(config["alpha"], 0),
        "facts": experiment_facts(evidence, config, result["phase"]) if evidence else [],
        "figure": inline(process_figure(evidence), "e") if evidence and evidence["points"] else "",
        "guardrails": [_guardrail(rail) for rail in evidence["guardrails"]] if evidence else [],
        "slices": [_slice(one) for one in evidence["slices"][:MOST_SLICES]] if evidence else [],
        "unpaired": _unpaired(evidence) if evidence else [],
        "looks": [_look(look) for look in looks],
    }


def process_figure(evidence: Mapping[str, Any]) -> Figure:
    """Both e-processes over the texts that both models answered, and the line that decides; the axis is logarithmic."""
    threshold = evidence["threshold"] / LN10
    curves = {key: np.array(evidence[key]["curve"]) / LN10 for key in ("better", "worse")}
    low = max(min(curve.min() for curve in curves.values()), LOWEST_SHOWN) - 0.3
    high = min(max(threshold, *(curve.max() for curve in curves.values())), 2 * threshold) + 0.4
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 3.2), layout="constrained")
        axes = figure.add_subplot()
        for key, label, colour in (("better", "not worse", "good"), ("worse", "worse", "bad")):
            axes.plot(evidence["points"], np.clip(curves[key], low, high), color=LIGHT[colour], linewidth=1.8)
            end = (evidence["points"][-1], float(np.clip(curves[key][-1], low, high)))
            axes.annotate(
                label, end, (6, 0), textcoords="offset points", va="center", color=LIGHT[colour], fontweight="bold",
                annotation_clip=False,
            )  # fmt: skip
        axes.axhline(threshold, color=LIGHT["muted"], linewidth=1, linestyle="--")
        axes.annotate(
            f"decides: {10**threshold:.0f}", (0, threshold), (4, 4), textcoords="offset points", color=LIGHT["muted"],
            xycoords=("axes fraction", "data"),
        )  # fmt: skip
        axes.set_ylim(low, high)
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{10**value:,.12g}"))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.margins(x=0.02)
        axes.grid(True)
        axes.set_xlabel("texts that both models answered")
        axes.set_ylabel("evidence (e-value, log)")
    return figure


def e_value(log_e: float) -> str:
    """An e-value as a person reads it: `0.03`, `12`, `> 1,000,000`."""
    value = 10 ** (log_e / LN10) if log_e < 13 else float("inf")
    return "> 400,000" if value > 4e5 else "< 0.001" if value < 1e-3 else significant(value)


def experiment_facts(evidence: Mapping[str, Any], config: Mapping[str, Any], phase: str) -> list[dict[str, str]]:
    """What an experiment has counted so far, as tiles."""
    budget = config["watch_labels" if phase == "watch" else "max_labels"]
    needed = evidence["needed_labels"]
    return [
        {"value": f"{evidence['num_pairs']:,}", "label": "distinct texts, answered by both"},
        {"value": f"{evidence['num_disagreements']:,}", "label": "of them answered differently"},
        {"value": f"{evidence['num_labels']:,} of {budget:,}", "label": "labels used"},
        {"value": MISSING if needed is None else f"{needed:,}", "label": "labels needed, about, if equally good"},
        {"value": e_value(evidence["better"]["largest"]), "label": "evidence for “not worse”"},
        {"value": e_value(evidence["worse"]["largest"]), "label": "evidence for “worse”"},
    ]


def _guardrail(rail: Mapping[str, Any]) -> dict[str, str]:
    return {
        "name": rail["name"].replace("_", " "),
        "tone": VERDICTS[rail["outcome"]],
        "answer": f"{SIGNS[rail['outcome']]} {ANSWERS[rail['outcome']]}",
        "share": percent(rail["num_bad"] / rail["n"], 2) if rail["n"] else MISSING,
        "n": f"{rail['n']:,}",
        "limit": percent(rail["limit"], 2),
    }


def _slice(one: Mapping[str, Any]) -> dict[str, str]:
    tone, answer = ("unsure", "? not proven worse") if one["difference"] < 0 else ("good", "✓ no worse so far")
    return {
        "label": one["label"],
        "tone": "bad" if one["worse"] else tone,
        "answer": "✗ worse" if one["worse"] else answer,
        "difference": points(one["difference"]),
        "num_pairs": f"{one['num_pairs']:,}",
        "num_labels": f"{one['num_labels']:,}",
        "e": e_value(one["log_e"]),
    }


def _unpaired(evidence: Mapping[str, Any]) -> list[dict[str, str]]:
    """What A/B alone shows: the split and the differences between the arms."""
    rows, ratio, accuracy = [], evidence["ratio"], evidence["accuracy"]
    if ratio:
        total = ratio["num_new"] + ratio["num_old"]
        got = percent(ratio["num_new"] / total, 2) if total else MISSING
        p = f"p {ratio['p_value']:.2g}" if is_number(ratio["p_value"]) else "too few yet"
        rows.append(
            {
                "name": "challenger's share of the units",
                "value": got,
                "range": f"planned {percent(ratio['share'])}; {p}",
            }
        )
    if accuracy:
        span = f"{points(accuracy['low'])} to {points(accuracy['high'])}"
        rows.append(
            {"name": "audited accuracy, challenger less champion", "value": points(accuracy["value"]), "range": span}
        )
    if evidence["latency_ms"]:
        value, low, high = (f"{evidence['latency_ms'][key]:+.2f} ms" for key in ("value", "low", "high"))
        rows.append({"name": "mean latency, challenger less champion", "value": value, "range": f"{low} to {high}"})
    return rows


def _look(look: Mapping[str, Any]) -> dict[str, str]:
    tone, word, _ = EXPERIMENT_STATES[look["phase"]]
    return {"at": _time(look["at"]), "tone": tone, "word": word, "action": look["action"], "reason": look["reason"]}


def _time(seconds: float) -> str:
    return readable_time(datetime.fromtimestamp(seconds, UTC).isoformat())
