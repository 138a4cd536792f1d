"""The page of one monitoring look: verdict and decision first, then what they rest on."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.report.charts import inline
from tasks.report.experiment import EXPERIMENT_STATES, experiment_facts
from tasks.report.look_changes import change_views
from tasks.report.look_findings import findings
from tasks.report.look_harm import harm_views
from tasks.report.look_service import service_view
from tasks.report.page import write_page
from tasks.report.theme import MISSING, STATES, is_number, percent, readable_time, sentence, significant
from tasks.report.timeline import timeline_figure

REPORT_FILE = "report.html"
MOST_LOOKS = 30
SECTIONS = {
    "timeline": "Timeline",
    "tests": "Input",
    "changes": "What changed",
    "harm": "Does it hurt?",
    "service": "Service",
    "experiment": "Experiment",
    "looks": "Looks",
    "evidence": "Evidence",
}
"""Section of the page -> its name in the contents."""
TESTS = {
    "embedding": "meaning (embeddings)",
    "probabilities": "the model's probabilities",
    "predicted_labels": "predicted classes",
    "descriptors": "properties of the text",
}


def write_monitor_report(page: Mapping[str, Any], out: Path) -> Path:
    """Write `out/report.html` of one look and return its path.

    `page` has `name`, `state` (no_drift, mix_only, suspect, harm) and, all optional: `champion` (version), `action`,
    `reason`, `created_at`, `evidence` (`drift`, `harm`, `balance`, `performance`, as a look stores them), `budget`
    (`false_alarm_budget`, `looks`, `num_looks`, `spent`), `min_labels`, `changes` (of `tasks.monitor.changes`),
    `experiment` (of `flows.experiment.read_now`), and `looks` and `marks` as `timeline_figure` takes them.
    """
    return write_page("monitor.html", _view(page), out / REPORT_FILE)


def _view(page: Mapping[str, Any]) -> dict[str, Any]:
    tone, word, text = STATES[page["state"]]
    evidence = page.get("evidence") or {}
    drift, harm, budget = evidence.get("drift") or {}, evidence.get("harm") or {}, page.get("budget") or {}
    looks = page.get("looks") or []
    sections = {
        "timeline": inline(timeline_figure(looks, page.get("marks") or ()), "t") if looks else "",
        "tests": [_test_view(name, test, drift["alpha"]) for name, test in (drift.get("tests") or {}).items()],
        "changes": change_views(page.get("changes"), drift),
        "harm": harm_views(harm, evidence.get("balance")) if harm else None,
        "service": service_view(evidence.get("performance")),
        "experiment": _experiment(page.get("experiment")),
        "looks": [_look_view(look) for look in looks[: -MOST_LOOKS - 1 : -1]],
        "evidence": json.dumps(evidence, indent=1, default=str) if evidence else "",
    }
    return {
        "name": page["name"],
        "champion": page.get("champion"),
        "created_at": readable_time(page.get("created_at")),
        "verdict": {"tone": tone, "word": word, "text": text},
        "action": str(page.get("action") or "none").replace("_", " "),
        "reason": sentence(str(page.get("reason") or "")),
        "contents": [(key, title) for key, title in SECTIONS.items() if sections[key]],
        "tiles": _tiles(drift, harm, budget),
        "findings": findings(page),
        "budget": budget_words(budget),
        "level": _level(drift),
        **sections,
    }


def _tiles(drift: Mapping[str, Any], harm: Mapping[str, Any], budget: Mapping[str, Any]) -> list[dict[str, str]]:
    tiles = []
    if harm:
        accuracy = harm["estimate"] or harm["accuracy"]
        spread = f", {percent(accuracy['low'])} to {percent(accuracy['high'])}" if accuracy else ""
        tiles += [
            {"value": percent(accuracy and accuracy["value"]), "label": f"audited accuracy{spread}"},
            {"value": percent(harm["baseline_accuracy"]), "label": "accuracy at the gate"},
            {"value": f"{harm['num_labels']:,}", "label": "audited labels that count"},
        ]
    if drift:
        tiles.append({"value": f"{drift['num_rows']:,}", "label": f"texts against {drift['num_reference']:,}"})
    if budget:
        tiles.append({"value": f"{budget['num_looks']:,} of {budget['looks']:,}", "label": "looks of the budget used"})
    return tiles


def _test_view(name: str, test: Mapping[str, Any], alpha: float) -> dict[str, str]:
    changed = test["p_holm"] <= alpha
    return {
        "name": TESTS.get(name, name.replace("_", " ")),
        "tone": "bad" if changed else "good",
        "answer": "✗ changed" if changed else "✓ no change seen",
        "statistic": significant(test.get("statistic")),
        "p_value": p_value(test["p_holm"]),
        "alpha": p_value(alpha),
    }


def p_value(value: Any) -> str:
    """A p-value in two digits, a small one by its power of ten."""
    if not is_number(value):
        return MISSING
    return f"{value:.2g}" if value < 0.1 else f"{value:.2f}"


def _level(drift: Mapping[str, Any]) -> str:
    """Where the level of the tests comes from."""
    if not drift.get("tests"):
        return ""
    held = f"p is corrected for the {len(drift['tests'])} tests (Holm); level of this look: {drift['alpha_source']}"
    dependence = "texts that resemble their neighbours in time count as fewer"
    return f"{held}; {drift['num_permutations']:,} permutations; {dependence}."


def budget_words(budget: Mapping[str, Any]) -> str:
    """What the looks at this champion may have cost in false alarms."""
    if not budget:
        return ""
    number, looks, share = budget["num_looks"], budget["looks"], percent(budget["spent"], 2)
    whole = percent(budget["false_alarm_budget"])
    if number > looks:
        return (
            f"{number:,} looks at this champion are more than the {looks:,} that share the budget of {whole}: the "
            f"chance that any was a false alarm is {share} at most by now. Raise monitor.looks for a longer life."
        )
    return (
        f"Look {number:,} of the {looks:,} that share the budget: the chance that any so far was a false alarm is "
        f"{share} at most, {whole} after all of them."
    )


def _experiment(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not found:
        return None
    tone, word, text = EXPERIMENT_STATES[found["state"]]
    evidence = found["evidence"]
    return {
        "tone": tone,
        "word": word,
        "text": text,
        "title": f"Version {found['challenger']} against {found['champion']}",
        "reason": sentence(found["reason"]),
        "facts": experiment_facts(evidence, found["config"], found["phase"]) if evidence else [],
    }


def _look_view(look: Mapping[str, Any]) -> dict[str, str]:
    tone, word, _ = STATES[look["state"]]
    return {
        "at": readable_time(datetime.fromtimestamp(look["at"], UTC).isoformat()),
        "tone": tone,
        "word": word,
        "action": str(look["action"]).replace("_", " "),
        "reason": sentence(look["reason"]),
    }
