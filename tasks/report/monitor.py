"""The report of one monitoring look: state, evidence and decision in one HTML file."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.report.page import write_page
from tasks.report.theme import MISSING, STATES, change_of_share, is_number, percent, readable_time, significant

REPORT_FILE = "report.html"
MOST_LABELS = 20
SHOWN = {
    "name",
    "state",
    "action",
    "reason",
    "created_at",
    "at",
    "num_rows",
    "num_reference",
    "tests",
    "false_alarm_budget",
    "looks",
    "label_mix",
    "baseline_accuracy",
    "audited_accuracy",
    "prior_looks",
}
"""Keys that have a place of their own on the page."""


def write_monitor_report(evidence: Mapping[str, Any], out: Path) -> Path:
    """Write `out/report.html` from the evidence of one look and return its path.

    Keys, all optional: `name`, `state` (no_drift, mix_only, suspect, harm), `action`, `reason`, `created_at` or `at`,
    `num_rows`, `num_reference`, `tests` (each `name`, `p_value`, `alpha`, `statistic`), `false_alarm_budget`, `looks`,
    `label_mix` (label -> [reference share, window share]), `baseline_accuracy`, `audited_accuracy` (`value`, `low`,
    `high`, `n`), `prior_looks` (each `at`, `state`, `action`, `reason`). Everything else is shown as it is.
    """
    return write_page("monitor.html", _view(evidence), out / REPORT_FILE)


def _view(evidence: Mapping[str, Any]) -> dict[str, Any]:
    state = str(evidence.get("state", "unknown"))
    tone, word, text = STATES.get(state, ("unsure", state, ""))
    labels = _label_views(evidence.get("label_mix") or {})
    rest = {key: value for key, value in evidence.items() if key not in SHOWN}
    return {
        "name": evidence.get("name", "model"),
        "created_at": _time(evidence.get("created_at") or evidence.get("at")),
        "verdict": {"tone": tone, "word": word, "text": text},
        "action": evidence.get("action"),
        "reason": evidence.get("reason") or "",
        "facts": _facts(evidence),
        "tests": [_test_view(test) for test in evidence.get("tests") or ()],
        "budget": _budget(evidence),
        "labels": labels[:MOST_LABELS],
        "num_more_labels": max(0, len(labels) - MOST_LABELS),
        "accuracy": _accuracy_views(evidence),
        "looks": [_look_view(look) for look in evidence.get("prior_looks") or ()],
        "rest": json.dumps(rest, indent=1, default=str) if rest else "",
    }


def _time(value: Any) -> str:
    """A time from seconds since the epoch or ISO 8601."""
    return readable_time(datetime.fromtimestamp(value, UTC).isoformat() if is_number(value) else value)


def _facts(evidence: Mapping[str, Any]) -> list[dict[str, str]]:
    named = (("num_rows", "requests in the window"), ("num_reference", "reference rows"))
    return [{"value": f"{evidence[key]:,}", "label": label} for key, label in named if is_number(evidence.get(key))]


def _test_view(test: Mapping[str, Any]) -> dict[str, str]:
    p_value, alpha = test.get("p_value"), test.get("alpha")
    known = is_number(p_value) and is_number(alpha)
    changed = known and float(p_value or 0) <= float(alpha or 0)
    return {
        "name": str(test.get("name")),
        "tone": "bad" if changed else "good" if known else "unsure",
        "answer": "✗ changed" if changed else "✓ no change seen" if known else "? not tested",
        "statistic": significant(test.get("statistic")),
        "p_value": _p(p_value),
        "alpha": _p(alpha),
    }


def _p(value: Any) -> str:
    if not is_number(value):
        return MISSING
    return f"{value:.2g}" if value < 0.1 else f"{value:.2f}"


def _budget(evidence: Mapping[str, Any]) -> str:
    budget, looks = evidence.get("false_alarm_budget"), evidence.get("looks")
    if not (is_number(budget) and is_number(looks)):
        return ""
    return f"Over {looks:,} looks at unchanged traffic, an alarm has a probability of {budget:g} at most."


def _label_views(label_mix: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """Labels by falling change of their share."""
    largest = max((max(shares) for shares in label_mix.values()), default=0.0) or 1.0
    ordered = sorted(label_mix.items(), key=lambda item: -abs(item[1][1] - item[1][0]))
    return [
        {
            "label": label,
            "reference": percent(reference),
            "window": percent(window),
            "change": change_of_share(reference, window),
            "reference_width": round(100 * reference / largest, 1),
            "window_width": round(100 * window / largest, 1),
        }
        for label, (reference, window) in ordered
    ]


def _accuracy_views(evidence: Mapping[str, Any]) -> list[dict[str, str]]:
    rows = []
    audited = evidence.get("audited_accuracy")
    if isinstance(audited, Mapping) and is_number(audited.get("value")):
        low, high, n = audited.get("low"), audited.get("high"), audited.get("n")
        interval = f"{percent(low)} to {percent(high)}" if is_number(low) and is_number(high) else MISSING
        num_labels = f"{n:,}" if is_number(n) else ""
        rows.append({"name": "audited now", "value": percent(audited["value"]), "interval": interval, "n": num_labels})
    if is_number(evidence.get("baseline_accuracy")):
        baseline = percent(evidence["baseline_accuracy"])
        rows.append({"name": "baseline, at the gate", "value": baseline, "interval": MISSING, "n": ""})
    return rows


def _look_view(look: Mapping[str, Any]) -> dict[str, str]:
    state = str(look.get("state", "unknown"))
    tone, word, _ = STATES.get(state, ("unsure", state, ""))
    return {
        "at": _time(look.get("at")),
        "tone": tone,
        "word": word,
        "action": str(look.get("action") or "none"),
        "reason": str(look.get("reason") or ""),
    }
