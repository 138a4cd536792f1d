"""The model card: what the model is, what it was shown to do, and where it falls short, in the form of the model hub.

Source: Mitchell 2019 (arXiv:1810.03993); metadata as in https://huggingface.co/docs/hub/model-cards.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from bento.task_types import Task
from tasks.metrics import metrics_of
from tasks.types import Section

HUB_TASKS: dict[Task, tuple[str, str]] = {
    "single_label": ("text-classification", "Text Classification"),
    "multi_label": ("text-classification", "Multi-label Text Classification"),
    "score": ("sentence-similarity", "Sentence Similarity"),
    "entities": ("token-classification", "Token Classification"),
}
"""The hub's name of each task, and how it is written."""
HUB_METRICS = {
    "accuracy": ("accuracy", "Accuracy"), "macro_f1": ("f1", "Macro F1"), "micro_f1": ("f1", "Micro F1"),
    "spearman": ("spearmanr", "Spearman"), "pearson": ("pearsonr", "Pearson"),
    "entity_f1": ("f1", "Entity F1"),
}  # fmt: skip
CARD_FILE = "README.md"
"""The hub's name of a card."""
NUM_WEAKEST = 5


class CardConfig(Section):
    """What the model card says that no measurement can."""

    license: str = Field(default="unknown", pattern=r"^[a-z0-9.-]+$")
    """The hub's identifier of the model's licence, such as apache-2.0; it follows from those of teacher and data."""
    language: list[str] = Field(default=[])
    """ISO 639 codes of the text, such as en."""
    intended_use: str = ""
    """What the model is for, and what it is not for."""


def write_model_card(summary: Mapping[str, Any], out: Path) -> Path:
    """Write `out/README.md` from the summary of `retort run` and return its path.

    Keys of the summary as for the HTML report, and `card`: the fields of `CardConfig` with `dataset` and `base_model`,
    hub ids or null.
    """
    from tasks.report.page import write_page

    return write_page("card.md", _view(summary), out / CARD_FILE)


def _view(summary: Mapping[str, Any]) -> dict[str, Any]:
    from tasks.report.build import gate_view, result_view
    from tasks.report.details import class_views, data_view, example_call, lineage_chain
    from tasks.report.findings import findings_view
    from tasks.report.theme import OUTCOMES

    weakest, others = class_views(summary.get("per_class") or ())
    card = summary.get("card") or {}
    return {
        "metadata": _metadata(summary, card),
        "name": summary["name"],
        "outcome": OUTCOMES[str(summary["outcome"])][2],
        "base_model": card.get("base_model"),
        "intended_use": card.get("intended_use") or "",
        "kind": _kind(summary["task"], len(weakest) + len(others)),
        "adds": _adds(summary),
        "example": example_call(summary),
        **result_view(summary.get("scores") or {}),
        "gates": [gate_view(verdict) for verdict in summary.get("verdicts") or ()],
        "findings": findings_view(summary),
        "weakest": weakest[:NUM_WEAKEST],
        "chain": lineage_chain(summary),
        "data": data_view(summary.get("data") or {}),
        "environment": summary.get("environment") or {},
    } | {key: summary.get(key) for key in ("version", "bento", "floor", "command", "model_sha256", "data_sha256")}


def _kind(task: Task, num_classes: int) -> str:
    if task == "score":
        return "A model that gives texts a score"
    if task == "entities":
        return f"A model that finds entities of {num_classes} types in texts"
    of_classes = f" of {num_classes} classes" if num_classes else ""
    return f"A text classifier{of_classes}" + (", any number of them a text" if task == "multi_label" else "")


def _adds(summary: Mapping[str, Any]) -> str:
    if summary["task"] == "score":
        return "the scale of the scores"
    if summary["task"] == "multi_label":
        return "the calibrated temperature and the threshold of the labels"
    return "the calibrated temperature" + (" and the threshold of abstention" if summary.get("abstention") else "")


def _metadata(summary: Mapping[str, Any], card: Mapping[str, Any]) -> str:
    """The YAML head without its dashes."""
    from huggingface_hub import EvalResult, ModelCardData

    candidate = (summary.get("scores") or {}).get("candidate") or {}
    source = str((summary.get("data") or {}).get("source") or "unknown")
    dataset, (hub_task, task_name) = card.get("dataset"), HUB_TASKS[summary["task"]]
    measured = [name for name in metrics_of(candidate) if candidate.get(name) is not None]
    results = [
        EvalResult(
            task_type=hub_task,
            task_name=task_name,
            dataset_type=dataset or "custom",
            dataset_name=source,
            dataset_split="test",
            metric_type=HUB_METRICS[name][0],
            metric_name=HUB_METRICS[name][1],
            metric_value=round(candidate[name], 4),
        )
        for name in measured
    ]
    data = ModelCardData(
        language=card.get("language") or None,
        license=card.get("license") or "unknown",
        library_name="optimum",
        pipeline_tag=hub_task,
        tags=[hub_task, "onnx", "compressed", "retort"],
        datasets=[dataset] if dataset else None,
        metrics=list(dict.fromkeys(HUB_METRICS[name][0] for name in metrics_of(candidate))),
        base_model=card.get("base_model"),
        model_name=summary["name"],
        eval_results=results or None,
    )
    return str(data.to_yaml())
