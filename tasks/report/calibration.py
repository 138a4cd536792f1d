"""The report's section on calibration and abstention."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from tasks.report import charts
from tasks.report.figures import reliability_figure
from tasks.report.theme import LIGHT, MISSING, percent, significant

SHARES = (
    ("coverage", "answered"),
    ("risk", "wrong among the answered"),
    ("risk_without", "wrong if all were answered"),
    ("coverage_in_scope", "answered of the input in scope"),
    ("abstained_out_of_scope", "abstained from of the input out of scope"),
)

LOSSES: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("calibration_error", "expected calibration error", partial(percent, digits=2)),
    ("brier_loss", "Brier loss", significant),
)


def calibration_view(summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """Figures, reliability and coverage-risk curves and the chosen threshold; None where nothing was analysed."""
    analysis = summary.get("analysis") or {}
    found, reliability = analysis.get("calibration"), summary.get("reliability")
    if not found and not reliability:
        return None
    rule = analysis.get("abstention")
    curve = (analysis.get("tables") or {}).get("coverage") or []
    return {
        "temperature": significant(found["temperature"]) if found else None,
        "rows": [
            {"label": label, "before": show(found[f"{key}_before"]), "after": show(found[key])}
            for key, label, show in LOSSES
        ]
        if found
        else [],
        "errors": [(name, percent(_error(curve), digits=2)) for name, curve in (reliability or {}).items()],
        "reliability": charts.inline(reliability_figure(reliability), "reliability") if reliability else None,
        "chart": charts.inline(coverage_figure(curve, rule), "coverage") if curve else None,
        "threshold": significant(rule["threshold"]) if rule else None,
        "labels": ", ".join(rule["labels"]) if rule else "",
        "shares": [{"label": label, **_share(rule[key])} for key, label in SHARES if rule[key]] if rule else [],
    }


def coverage_figure(curve: Sequence[Mapping[str, float]], rule: Mapping[str, Any] | None) -> Figure:
    """Share of wrong answers against the share of texts that are answered; the dot is the chosen threshold."""
    with matplotlib.rc_context(charts.STYLE):
        figure = Figure(figsize=(5.2, 3.2), layout="constrained")
        axes = figure.add_subplot()
        coverage = [point["coverage"] for point in curve]
        axes.plot(coverage, [point["risk"] for point in curve], color=LIGHT["candidate"], linewidth=1.8)
        if rule and rule["risk"]:
            axes.plot(rule["coverage"]["value"], rule["risk"]["value"], "o", color=LIGHT["candidate"], markersize=7)
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
        axes.set_xlabel("answered")
        axes.set_ylabel("wrong among the answered")
        axes.set_xlim(0, 1.02)
        axes.set_ylim(bottom=0)
        axes.grid(True)
    return figure


def _error(curve: Mapping[str, Sequence[float]]) -> float | None:
    """The calibration error that a reliability curve sums; None without an answer."""
    bins = list(zip(curve["confidence"], curve["accuracy"], curve["num_answers"], strict=True))
    total = sum(num for *_, num in bins)
    return sum(num * abs(said - right) for said, right, num in bins) / total if total else None


def _share(found: Mapping[str, Any] | None) -> dict[str, str]:
    if not found:
        return {"value": MISSING, "interval": "", "n": ""}
    interval = f"{percent(found['low'])} to {percent(found['high'])}"
    return {"value": percent(found["value"]), "interval": interval, "n": f"{found['n']:,}"}
