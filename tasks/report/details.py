"""The report's details as finished text: classes, data, stages, lineage."""

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.data.retrain import retrain_words
from tasks.report.theme import change_of_share, is_number, percent, seconds

NUM_WEAKEST = 12
FEW_ENOUGH = 16  # classes that are shown all at once

Views = list[dict[str, Any]]


def class_views(per_class: Sequence[Mapping[str, Any]]) -> tuple[Views, Views]:
    """Classes by rising F1 of the candidate: those shown at once, and the rest."""
    views = [
        {
            "label": str(item.get("label")),
            "candidate": percent(item.get("f1_candidate")),
            "teacher": percent(item.get("f1_teacher")),
            "candidate_width": _width(item.get("f1_candidate")),
            "teacher_width": _width(item.get("f1_teacher")),
            "change": change_of_share(item.get("f1_teacher"), item.get("f1_candidate")),
            "support": f"{item.get('support', 0):,}",
        }
        for item in sorted(per_class, key=lambda item: (item.get("f1_candidate") or 0.0, str(item.get("label"))))
    ]
    shown = len(views) if len(views) <= FEW_ENOUGH else NUM_WEAKEST
    return views[:shown], views[shown:]


def _width(share: Any) -> float:
    return round(100 * min(max(share, 0.0), 1.0), 1) if is_number(share) else 0.0


def stage_views(stages: Sequence[Mapping[str, Any]]) -> tuple[Views, str]:
    """Each stage with its share of the run, and the time of all together."""
    total_s = sum(stage.get("seconds") or 0.0 for stage in stages)
    views = [
        {
            "name": str(stage.get("name")),
            "cached": bool(stage.get("cached")),
            "seconds": seconds(stage.get("seconds")),
            "width": _width((stage.get("seconds") or 0.0) / total_s if total_s else 0.0),
        }
        for stage in stages
    ]
    return views, seconds(total_s)


def lineage_views(lineage: Sequence[Mapping[str, Any]]) -> Views:
    """Each artifact with its parents by step name where they are of this build, else by digest."""
    name_of = {str(item.get("sha256")): str(item.get("step")) for item in lineage}
    return [
        {
            "step": str(item.get("step")),
            "sha256": str(item.get("sha256", "")),
            "parents": [
                {"sha256": str(parent), "name": name_of.get(str(parent), str(parent)[:16])}
                for parent in item.get("parents") or ()
            ],
        }
        for item in lineage
    ]


def lineage_chain(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    """From the sources to the Bento: every artifact that the model descends from, in the order they were made.

    Each has `name` and `sha256`, or a tag in its place.
    """
    items = list(summary.get("lineage") or ())
    needed = {str(summary.get("model_sha256"))}
    chain: list[dict[str, str]] = []
    for item in reversed(items):
        if item.get("sha256") in needed:
            needed |= set(item.get("parents") or ())
            chain.insert(0, {"name": str(item.get("step")), "sha256": str(item["sha256"])})
    if not chain:
        return []
    if summary.get("version"):
        chain.append({"name": "registered", "sha256": f"version {summary['version']}"})
    if summary.get("bento"):
        chain.append({"name": "Bento", "sha256": str(summary["bento"])})
    return chain


def example_call(summary: Mapping[str, Any]) -> str:
    """Python that asks the registered model, whose input is a list of texts, or a table of pairs."""
    model = f"models:/{summary.get('name', 'model')}/{summary.get('version') or 'VERSION'}"
    texts = '["a text"]'
    if summary.get("pairs"):
        texts = 'pandas.DataFrame({"text": ["one text"], "text_pair": ["another"]})'
    return f'mlflow.pyfunc.load_model("{model}").predict({texts})'


def data_view(report: Mapping[str, Any]) -> dict[str, Any]:
    """Row counts of the splits and the findings of the validation; empty if there is no report."""
    if not report:
        return {}
    return {
        "source": report.get("source", ""),
        "synthetic": bool(report.get("synthetic")),
        "num_labels": report.get("num_labels"),
        "splits": [_split_view(name, split) for name, split in (report.get("splits") or {}).items()],
        "findings": [_finding_view(finding) for finding in report.get("findings") or ()],
        "retrain": retrain_words(report["retrain"]) if report.get("retrain") else "",
    }


def _split_view(name: str, split: Any) -> dict[str, Any]:
    values = split if isinstance(split, Mapping) else {"num_rows": split}
    return {
        "name": name,
        "num_rows": _count(values.get("num_rows")),
        "num_read": _count(values.get("num_read")),
        "num_feedback": _count(values.get("num_feedback_rows")),
        "made": bool(values.get("made_from_train")),
    }


def _count(value: Any) -> str:
    return f"{value:,}" if is_number(value) else ""


def _finding_view(finding: Any) -> dict[str, Any]:
    if not isinstance(finding, Mapping):
        return {"message": str(finding), "action": "", "examples": []}
    return {
        "message": str(finding.get("message") or finding.get("kind")),
        "action": str(finding.get("action") or ""),
        "examples": [str(example) for example in finding.get("examples") or ()],
    }
