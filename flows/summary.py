"""The summary of a build: what `retort run --json` prints and what the report is drawn from."""

import json
import math
import platform
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bento import settings
from bento.entities import entity_types
from bento.manifest import ONNX_FILE, file_sha256
from tasks.analysis import read_analysis
from tasks.analysis.flips import confusion_counts
from tasks.behaviour import read_behaviour, read_shown_failures
from tasks.confidences import answered
from tasks.data import read_labels, read_report
from tasks.data.retrain import retrain_words
from tasks.data.truths import read_entities
from tasks.evaluate import read_predictions
from tasks.floor import floor_words
from tasks.metrics import TITLES, metrics_of, terms_of
from tasks.report.page import markdown_cell
from tasks.stats.calibration import reliability_curve
from tasks.types import AnyPredictions, EntityPredictions, GateReport, Predictions, Scores, SigmoidPredictions, Verdict

if TYPE_CHECKING:
    from flows.chain import Built
    from flows.config import Config
    from tasks.release.ledger import Champion


def summarise(
    config: "Config", built: "Built", report: GateReport, champion: "Champion | None", *, command: str
) -> dict[str, Any]:
    """JSON-able: outcome still open, everything else as measured."""
    analysis = read_analysis(built.analysis.path)
    return {
        "outcome": "failed",
        "name": config.name,
        "task": config.data.task,
        "pairs": config.data.text_pair is not None,
        "version": None,
        "champion": champion.version if champion else None,
        "bento": None,
        "model_path": str(built.model.path),
        "model_sha256": built.model.sha256,
        "onnx_sha256": file_sha256(built.model.path / ONNX_FILE),
        "data_sha256": built.data.sha256,
        "report": None,
        "stages": [
            {"name": step.name, "cached": step.cached, "seconds": round(step.seconds, 3)} for step in built.steps
        ],
        "scores": {name: score_row(built.scores[name]) for name in ("teacher", "candidate", "floor")},
        "floor": floor_words(config.data.task, pairs=config.data.text_pair is not None),
        "verdicts": verdict_rows(report.verdicts),
        "steps": [
            {"name": name, "stages": built.techniques.get(name, [])} | score_row(built.scores[name])
            for name in built.chain
        ],
        "lineage": [
            {"step": step.name, "sha256": step.artifact.sha256, "parents": list(step.artifact.parents)}
            for step in built.steps
        ],
        "search": _search(built),
        "calibration": analysis.get("calibration"),
        "abstention": analysis.get("abstention"),
        "behaviour": [asdict(found) for found in read_behaviour(built.behaviour.path)],
        "data": read_report(built.data.path),
        "retrain": read_report(built.data.path).get("retrain"),
        "environment": _environment(),
        "card": _card(config),
        "command": command,
        "config_yaml": _yaml(config),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _card(config: "Config") -> dict[str, Any]:
    """The config's section, and the hub's names of data and teacher where they come from there."""
    model = config.teacher.model
    is_hub_model = re.fullmatch(r"[\w.-]+/[\w.-]+", model) is not None and not Path(model).exists()
    return config.card.model_dump(mode="json") | {
        "dataset": config.data.source if config.data.kind == "hub" else None,
        "base_model": model if is_hub_model else None,
    }


def _search(built: "Built") -> dict[str, Any] | None:
    """What the search looked at and why it chose what it chose; null where the chain was given."""
    return asdict(built.found) if built.found is not None else None


def score_row(scores: Scores) -> dict[str, Any]:
    """Flat and JSON-able; what was not measured is null."""
    row: dict[str, Any] = asdict(scores)
    for metric, found in row.pop("metrics").items():
        row |= {metric: found["value"], f"{metric}_interval": [found["low"], found["high"]]}
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in row.items()}


def verdict_rows(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """One JSON-able row a verdict."""
    rows = []
    for verdict in verdicts:
        row = asdict(verdict)
        rows.append(
            {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in row.items()}
        )
    return rows


def write_report(summary: Mapping[str, Any], built: "Built") -> Path:
    """HTML report, model card, picture, summary and every table in `RETORT_HOME/reports/NAME-DIGEST/`."""
    from tasks.report.build import picture, write_build_report
    from tasks.report.card import write_model_card

    folder = _report_folder(summary)
    folder.mkdir(parents=True, exist_ok=True)
    details = dict(summary) | read_details(built)
    (folder / "summary.json").write_text(json.dumps(dict(summary), indent=1), encoding="utf-8")
    for table in tables(built):
        shutil.copyfile(table, folder / table.name)
    picture(details, folder / "picture.png")
    write_model_card(details, folder)
    return write_build_report(details, folder)


def write_card(summary: Mapping[str, Any], built: "Built") -> Path:
    """The model card alone, for the package."""
    from tasks.report.card import write_model_card

    return write_model_card(dict(summary) | read_details(built), _report_folder(summary))


def _report_folder(summary: Mapping[str, Any]) -> Path:
    return settings.home() / "reports" / f"{summary['name']}-{summary['model_sha256'][:16]}"


def evaluation_tables(built: "Built", details: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """What MLflow shows and compares as tables: scores by class, every error and flip, or answers that are off."""
    import pandas as pd

    paths = [built.analysis.path / f"{name}.csv" for name in ("errors", "flips", "answers")]
    found = [path for path in paths if path.is_file()]
    read = {path.stem: pd.read_csv(path, keep_default_na=False).to_dict("records") for path in found}
    return {"per_class": details["per_class"], **read}


def tables(built: "Built") -> list[Path]:
    """The CSV files of the build's evidence."""
    return sorted(path for artifact in (built.analysis, built.behaviour) for path in artifact.path.glob("*.csv"))


def figures(details: Mapping[str, Any]) -> dict[str, Any]:
    """Figures for MLflow by file name, of a summary with its details."""
    from tasks.report.charts import latency_figure, marks_of, tradeoff_figure
    from tasks.report.figures import class_figure, confusion_figure, reliability_figure

    judged, _ = metrics_of(details["scores"]["candidate"])
    found = {
        f"{judged}_latency.png": tradeoff_figure(marks_of(details)),
        "latency.png": latency_figure(details["latency_ms"]),
    }
    if details["per_class"]:
        found["f1_by_class.png"] = class_figure(details["per_class"])
    if "confusion" in details:
        found["confusion.png"] = confusion_figure(details["confusion"]["counts"], details["confusion"]["labels"])
    if "reliability" in details:
        found["reliability.png"] = reliability_figure(details["reliability"])
    return found


def read_details(built: "Built") -> dict[str, Any]:
    """Per-class scores, latencies and the tables' beginnings, which the report shows and the JSON does not."""
    teacher = read_predictions(built.evaluation.path, "teacher")
    candidate = read_predictions(built.evaluation.path, built.chain[-1])
    labels, shown = read_labels(built.data.path), {"teacher": teacher, "candidate": candidate}
    return _class_details(labels, shown) | {
        "per_class": _per_class(labels, teacher, candidate),
        "analysis": read_analysis(built.analysis.path),
        "behaviour_failures": read_shown_failures(built.behaviour.path),
        "latency_ms": {name: found.latency_ms_N.tolist() for name, found in shown.items()},
    }


def _class_details(labels: Sequence[str], shown: Mapping[str, AnyPredictions]) -> dict[str, Any]:
    """Reliability of what has a confidence, and the confusions of models of one class a text."""
    given = {name: said for name, found in shown.items() if (said := answered(found)) is not None}
    curves = {name: reliability_curve(said.confidence_M, said.right_M) for name, said in given.items()}
    details: dict[str, Any] = {"reliability": curves} if curves else {}
    candidate = shown["candidate"]
    if isinstance(candidate, Predictions):
        counts = confusion_counts(candidate, len(labels)).tolist()
        details["confusion"] = {"labels": list(labels), "counts": counts}
    return details


def _per_class(labels: Sequence[str], teacher: AnyPredictions, candidate: AnyPredictions) -> list[dict[str, Any]]:
    """Each class's F1 and number of test rows, each type's and of entities; nothing for scores."""
    if candidate.task == "score":
        return []
    names = entity_types(labels) if candidate.task == "entities" else labels
    (before, _), (after, support) = (_f1_and_support(found, len(labels)) for found in (teacher, candidate))
    return [
        {"label": label, "f1_teacher": float(was), "f1_candidate": float(is_now), "support": int(number)}
        for label, was, is_now, number in zip(names, before, after, support, strict=True)
    ]


def _f1_and_support(predictions: AnyPredictions, num_classes: int) -> tuple[Any, Any]:
    """f1_C, and how often each class is true."""
    from sklearn.metrics import f1_score

    if isinstance(predictions, EntityPredictions):
        hits_C, sizes_C = terms_of(predictions).sum(axis=0).reshape(2, -1)
        support = Counter(name for row in predictions.truth for _, _, name in read_entities(row))
        return hits_C / sizes_C.clip(1), [support[name] for name in predictions.types]
    if isinstance(predictions, SigmoidPredictions):
        truth_NC, chosen_NC = predictions.truth_NC.astype(int), predictions.chosen_NC.astype(int)
    else:
        one_hot_CC = np.eye(num_classes, dtype=int)
        truth_NC, chosen_NC = one_hot_CC[predictions.labels_N], one_hot_CC[predictions.probabilities_NC.argmax(axis=1)]
    return f1_score(truth_NC, chosen_NC, average=None, zero_division=0), truth_NC.sum(axis=0)


def markdown(result: Mapping[str, Any], heading: str) -> str:
    """The build in a few lines, for the pages of Prefect and MLflow and for the approval form.

    Behind the verdicts stands what passes every gate and yet asks for a look, such as a floor that is no lower.
    """
    from tasks.report.findings import findings_view
    from tasks.report.theme import SIGNS

    lines = [f"# {result['name']}: {heading}", ""]
    if result["version"]:
        lines += [f"Version {result['version']}, Bento `{result['bento']}`, model `{result['model_sha256'][:16]}`.", ""]
    first, second = metrics_of(result["scores"]["candidate"])
    lines += [
        f"| model | {TITLES[first]} | 95 % interval | {TITLES[second]} | size | one sentence |",
        "|---|---|---|---|---|---|",
    ]
    for model, row in result["scores"].items():
        low, high = row[f"{first}_interval"]
        lines.append(
            f"| {model} | {row[first]:.4f} | {low:.3f}-{high:.3f} | {row[second]:.4f} "
            f"| {row['size_bytes'] / 1e6:.1f} MB | {row['latency_ms_p50']:.2f} ms |"  # MLflow sets cells without a gap
        )
    if result.get("search"):
        lines += ["", result["search"]["words"]]
    if result.get("retrain"):
        lines += ["", markdown_cell(retrain_words(result["retrain"]))]
    verdicts = [
        f"- **{markdown_cell(v['gate'])}**: {v['outcome']}. {markdown_cell(v['reason'])}" for v in result["verdicts"]
    ]
    asked = [
        f"- **{row['area']}**: worth a look. {markdown_cell(row['text'])}"
        for row in findings_view(result)
        if row["sign"] == SIGNS["inconclusive"] and row["link"] != "#gate"  # that is what the verdicts say
    ]
    return "\n".join([*lines, "", *verdicts, *asked])


def _environment() -> dict[str, Any]:
    from importlib.metadata import version

    packages = ("prefect", "mlflow", "bentoml", "torch", "transformers", "optimum-onnx", "onnxruntime", "numpy")
    return {"python": platform.python_version(), "platform": platform.platform(), "cpu": _cpu()} | {
        package: version(package) for package in packages
    }


def _cpu() -> str:
    import os

    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def _yaml(config: "Config") -> str:
    import yaml

    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
