"""The model card: what the model is, what it was shown to do, and where it falls short, in the form of the model hub.

Source: Mitchell 2019 (arXiv:1810.03993); metadata as in https://huggingface.co/docs/hub/model-cards.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from tasks.types import Section

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
    from tasks.report.details import class_views, data_view, lineage_chain
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
        "num_classes": len(weakest) + len(others),
        **result_view(summary.get("scores") or {}),
        "gates": [gate_view(verdict) for verdict in summary.get("verdicts") or ()],
        "findings": findings_view(summary),
        "weakest": weakest[:NUM_WEAKEST],
        "chain": lineage_chain(summary),
        "data": data_view(summary.get("data") or {}),
        "abstention": summary.get("abstention"),
        "environment": summary.get("environment") or {},
    } | {key: summary.get(key) for key in ("version", "bento", "command", "model_sha256", "data_sha256")}


def _metadata(summary: Mapping[str, Any], card: Mapping[str, Any]) -> str:
    """The YAML head without its dashes."""
    from huggingface_hub import EvalResult, ModelCardData

    candidate = (summary.get("scores") or {}).get("candidate") or {}
    source = str((summary.get("data") or {}).get("source") or "unknown")
    dataset = card.get("dataset")
    results = [
        EvalResult(
            task_type="text-classification",
            task_name="Text Classification",
            dataset_type=dataset or "custom",
            dataset_name=source,
            dataset_split="test",
            metric_type=metric,
            metric_name=name,
            metric_value=round(candidate[key], 4),
        )
        for metric, name, key in (("accuracy", "Accuracy", "accuracy"), ("f1", "Macro F1", "macro_f1"))
        if candidate.get(key) is not None
    ]
    data = ModelCardData(
        language=card.get("language") or None,
        license=card.get("license") or "unknown",
        library_name="optimum",
        pipeline_tag="text-classification",
        tags=["text-classification", "onnx", "compressed", "retort"],
        datasets=[dataset] if dataset else None,
        metrics=["accuracy", "f1"],
        base_model=card.get("base_model"),
        model_name=summary["name"],
        eval_results=results or None,
    )
    return str(data.to_yaml())
