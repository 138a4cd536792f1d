"""MLflow: one parent run a build with a nested run a stage, and the registered version that tells the story."""

import contextlib
import json
import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NOTE

import bento
from bento import settings
from bento.errors import ReleaseError
from bento.manifest import Manifest
from bento.task_types import Task
from tasks.data import FRESH, has_fresh, read_report
from tasks.metrics import CORRELATIONS
from tasks.release.package import RUNTIME_PACKAGES, pinned_requirements
from tasks.search import Found
from tasks.store import Step
from tasks.types import SPLITS, BehaviourResult, GateReport, Scores

log = logging.getLogger("retort.tracking")

KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Opens the experiment's page on its training runs, not on traces of language models."""
MODEL_DESCRIPTION = (
    "Text model built, gated and registered by Retort. `champion` serves; `challenger` passed its gate last, or "
    "answers a share of the requests; `shadow` is asked again about some of them."
)
PAIR_COLUMNS = ("text", "text_pair")
ENTITY = {"type": "object", "properties": {
    "text": {"type": "string", "required": True}, "label": {"type": "string", "required": True},
    "start": {"type": "long", "required": True}, "end": {"type": "long", "required": True},
    "score": {"type": "double", "required": True},
}}  # fmt: skip
"""One entity, as MLflow's signatures write types."""
REPORT_FOLDER = "report"
LINKED = {"report": ("report", "report.html"), "model card": ("model_card", "README.md")}
"""Title of a link -> the tag of the same and the file in `REPORT_FOLDER`."""
MODEL_FILE = Path(__file__).with_name("mlflow_model.py")


@dataclass(frozen=True, kw_only=True)
class Version:
    """A registered version."""

    name: str
    version: str
    model_sha256: str
    run_id: str


@contextlib.contextmanager
def build_run(name: str, *, tags: Mapping[str, str], started_at: float, what: str = "build") -> Iterator[str]:
    """The parent run of one build, or of `what`, in the experiment `name`; yields its id. A raised error marks it
    failed.

    `started_at` is in seconds since the epoch: a run is logged when its build is done, but shows the build's time.
    """
    connect()
    with mlflow.start_run(run_id=create_run(experiment_id_of(name), f"{what} {name}", started_at, tags)) as run:
        yield run.info.run_id


def experiment_id_of(name: str) -> str:
    """The experiment of this name, made where there is none."""
    experiment = mlflow.get_experiment_by_name(name)
    if experiment:
        return str(experiment.experiment_id)
    location = None if _remote() else (settings.home() / "mlartifacts" / name).as_uri()
    return str(mlflow.create_experiment(name, location, tags=KIND))


def create_run(experiment_id: str, title: str, started_at: float, tags: Mapping[str, str]) -> str:
    """Id of a new run that began earlier, which `mlflow.start_run` cannot make."""
    from mlflow.tracking.context.registry import resolve_tags

    run = MlflowClient().create_run(
        experiment_id, start_time=round(started_at * 1e3), tags=resolve_tags(dict(tags)), run_name=title
    )
    return str(run.info.run_id)


def find_run(name: str, *, tags: Mapping[str, str]) -> str | None:
    """Id of the finished run in the experiment `name` that has all these tags."""
    connect()
    experiment = mlflow.get_experiment_by_name(name)
    if experiment is None:
        return None
    wanted = [f"tags.`{key}` = '{value}'" for key, value in tags.items()]
    query = " and ".join(["attributes.status = 'FINISHED'", *wanted])
    found = MlflowClient().search_runs([experiment.experiment_id], query, max_results=1)
    return str(found[0].info.run_id) if found else None


def connect() -> None:
    """Have MLflow talk to the server, or the file, of the settings."""
    settings.home().mkdir(parents=True, exist_ok=True)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    mlflow.set_tracking_uri(settings.tracking_uri())


def _remote() -> bool:
    return settings.tracking_uri().startswith(("http://", "https://", "databricks"))


def log_config(config: Mapping[str, Any]) -> None:
    """The whole config as flat params, and as a file."""
    flat = dict(_flatten("", config))
    mlflow.log_params({key: str(value)[:500] for key, value in flat.items() if value is not None})
    mlflow.log_dict(dict(config), "config.yaml")


def log_data(folder: Path, sha256: str) -> None:
    """The splits as MLflow dataset inputs, and our own digest, since MLflow's reads the first 10,000 rows only."""
    import pandas as pd

    for split in (*SPLITS, *([FRESH] if has_fresh(folder) else [])):
        frame = pd.read_parquet(folder / f"{split}.parquet")[["id", "text", "label"]]
        with _quiet():
            dataset = mlflow.data.from_pandas(
                frame, source=str(folder / f"{split}.parquet"), name=split, targets="label"
            )
        mlflow.log_input(dataset, context=split)
        mlflow.log_metric(f"num_rows/{split}", len(frame))
    mlflow.set_tag("retort.data_sha256", sha256)
    mlflow.log_artifact(str(folder / "report.json"), "data")
    counts = read_report(folder).get("retrain", {})
    mlflow.log_metrics({f"retrain/{key}": counts[key] for key in counts if key.startswith("num_")})


def log_stage(step: Step) -> None:
    """A nested run: the digest, its parents, the seconds, and the training history where there is one."""
    parent = mlflow.active_run()
    tags = {"retort.sha256": step.artifact.sha256, "retort.cached": str(step.cached).lower(), "retort.stage": step.name}
    tags |= {MLFLOW_PARENT_RUN_ID: parent.info.run_id}
    run_id = create_run(parent.info.experiment_id, step.name, step.started_at, tags)
    with mlflow.start_run(run_id=run_id, nested=True):
        mlflow.log_params({"kind": step.artifact.kind, "parents": ",".join(p[:16] for p in step.artifact.parents)})
        mlflow.log_metric("stage_seconds", step.seconds)
        history = step.artifact.path / "history.json"
        if history.is_file():
            for epoch in json.loads(history.read_text(encoding="utf-8")):
                number = epoch.pop("epoch")
                mlflow.log_metrics(epoch, step=number)
    MlflowClient().set_terminated(run_id, end_time=round((step.started_at + step.seconds) * 1e3))


def log_scores(scores: Mapping[str, Scores]) -> None:
    """`accuracy/candidate`, `accuracy/teacher`, `latency_ms_p50/candidate`, ...: measure and unit before the slash.

    MLflow puts what stands before a slash into one section, so the models stand side by side in a run, and runs
    compare by the same names.
    """
    for name in ("teacher", "candidate", "floor"):
        for key, value in _row(scores[name]).items():
            if value == value:
                mlflow.log_metric(f"{key}/{name}", float(value))
    teacher, candidate = scores["teacher"], scores["candidate"]
    judged = next(iter(candidate.metrics))
    change = candidate.metrics[judged].value - teacher.metrics[judged].value
    mlflow.log_metrics(
        {
            **(
                {f"against_teacher/{judged}": change}
                if judged in CORRELATIONS
                else {f"against_teacher/{judged}_points": 100 * change}
            ),
            "against_teacher/times_smaller": teacher.size_bytes / candidate.size_bytes,
            "against_teacher/times_faster_p50": teacher.latency_ms_p50 / candidate.latency_ms_p50,
        }
    )
    log_tables({"scores": [{"model": name} | _row(values) for name, values in scores.items()]})


def log_tables(tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Rows by name as `NAME.json`, which the run's evaluation page shows and compares across runs; an empty one is
    left out."""
    for name, rows in tables.items():
        if rows:
            mlflow.log_table({key: [row[key] for row in rows] for key in rows[0]}, f"{name}.json")


def _row(scores: Scores) -> dict[str, Any]:
    values = asdict(scores)
    del values["metrics"]
    return values | _metric_columns(scores)


def _metric_columns(scores: Scores) -> dict[str, float]:
    columns: dict[str, float] = {}
    for name, found in scores.metrics.items():
        columns |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
    return columns


def log_gate(report: GateReport) -> None:
    """The verdicts as a table, what they observed as metrics, and the outcome as a tag."""
    mlflow.set_tag("retort.gate", report.outcome)
    observed = {f"gate/{_metric_name(verdict.gate)}": verdict.observed for verdict in report.verdicts}
    mlflow.log_metrics({name: float(value) for name, value in observed.items() if math.isfinite(value)})
    log_tables({"gate": [asdict(verdict) | {"interval": str(verdict.interval)} for verdict in report.verdicts]})


def _metric_name(text: str) -> str:
    """With the characters alone that MLflow takes."""
    return re.sub(r"[^\w.-]+", "_", text, flags=re.ASCII)


def log_evidence(calibration: Mapping[str, float], abstention: Mapping[str, Any] | None,
                 behaviour: Sequence[BehaviourResult]) -> None:  # fmt: skip
    """Calibration, abstention and behavioural tests as metrics, and the tests as a table."""
    metrics = {f"calibration/{key}": float(value) for key, value in calibration.items()}
    shares = {key: found["value"] for key, found in (abstention or {}).items() if isinstance(found, Mapping)}
    metrics |= {f"abstention/{key}": float(value) for key, value in shares.items()}
    for result in behaviour:
        if result.num_cases:
            section = f"failure_share_{_metric_name(result.test)}"
            metrics[f"{section}/candidate"] = result.candidate_failures / result.num_cases
            metrics[f"{section}/teacher"] = result.teacher_failures / result.num_cases
    mlflow.log_metrics(metrics)
    log_tables({"behaviour": [asdict(result) for result in behaviour]})


def log_search(found: Found) -> None:
    """Every point of the search as a table, and why one was chosen as a text."""
    names = list(dict.fromkeys(name for trial in found.trials for name in trial.point))
    rows = [
        {"number": trial.number, "state": trial.state, "chosen": trial.number == found.chosen}
        | {name: str(trial.point.get(name)) for name in names}
        | {key: value for key, value in asdict(trial).items() if key not in ("number", "state", "point")}
        for trial in found.trials
    ]
    log_tables({"search": rows})
    mlflow.log_text(found.words, "search.txt")


def log_correction(rows: Sequence[Mapping[str, Any]], description: str) -> None:
    """Old and new mix of the active run: a table, a metric a class, and the description (Markdown) on its page."""
    log_tables({"prior": rows})
    for row in rows:
        name = _metric_name(row["label"])
        mlflow.log_metrics({f"prior_{which}/{name}": float(row[which]) for which in ("old", "new", "window")})
    mlflow.set_tag(MLFLOW_RUN_NOTE, description)


def tag_outcome(run_id: str, outcome: str) -> None:
    """How a run that was logged before ended."""
    MlflowClient().set_tag(run_id, "retort.outcome", outcome)


def log_outcome(run_id: str, outcome: str, description: str, files: Sequence[Path]) -> None:
    """How a build that was logged before ended: a tag, the description (Markdown) on its page, and `files`: report,
    model card, and the CSV files that the report links to."""
    client = MlflowClient()
    client.set_tag(run_id, "retort.outcome", outcome)
    client.set_tag(run_id, MLFLOW_RUN_NOTE, f"{description}\n\n{_links(client, run_id)}")
    for path in files:
        client.log_artifact(run_id, str(path), REPORT_FOLDER)


def describe_version(name: str, version: str, *, run_id: str, description: str, tags: Mapping[str, str]) -> None:
    """The story on the registered version's page: description (Markdown), links to its report, card and run, tags."""
    connect()
    client = MlflowClient()
    client.update_model_version(name, version, description=f"{description}\n\n{_links(client, run_id)}")
    files = {f"retort.{key}": f"runs:/{run_id}/{REPORT_FOLDER}/{file}" for key, file in LINKED.values()}
    tag_version(name, version, files | dict(tags))


def _links(client: MlflowClient, run_id: str) -> str:
    """Markdown links within MLflow's UI, wherever it is served."""
    run = f"#/experiments/{client.get_run(run_id).info.experiment_id}/runs/{run_id}"
    links = [f"[{title}]({run}/artifacts/{REPORT_FOLDER}/{file})" for title, (_, file) in LINKED.items()]
    return " · ".join([*links, f"[run]({run})"])


def log_figures(figures: Mapping[str, Any]) -> None:
    """Matplotlib figures by file name."""
    for name, figure in figures.items():
        mlflow.log_figure(figure, name)


def register(name: str, model: Path, *, sha256: str, run_id: str, tags: Mapping[str, str], description: str,
             examples: Sequence[Any]) -> Version:  # fmt: skip
    """Log the model folder as a LoggedModel, register it, and give it the alias `challenger`.

    `examples` are texts, or pairs of them, that the model's page shows as its input.
    """
    import pandas as pd

    connect()
    manifest = Manifest.read(model)
    signature = mlflow.models.ModelSignature.from_dict(_signature(manifest.pairs, manifest.target.task))
    example = pd.DataFrame(examples, columns=PAIR_COLUMNS) if manifest.pairs else list(examples)
    with _quiet(), mlflow.start_run(run_id=run_id):
        info = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(MODEL_FILE),
            artifacts={"model": str(model)},
            code_paths=[str(next(iter(bento.__path__)))],
            pip_requirements=pinned_requirements(
                tuple(set(RUNTIME_PACKAGES) & {"numpy", "onnxruntime", "pydantic", "tokenizers"})
            ) + pinned_requirements(("mlflow", "pandas")),
            signature=signature,
            input_example=example,
            registered_model_name=name,
            metadata={"model_sha256": sha256, "labels": list(manifest.labels)},
        )  # fmt: skip
    client = MlflowClient()
    version = str(info.registered_model_version)
    client.update_registered_model(name, MODEL_DESCRIPTION)
    client.update_model_version(name, version, description=description)
    for key, value in ({"retort.model_sha256": sha256} | dict(tags)).items():
        client.set_model_version_tag(name, version, key, value)
    client.set_registered_model_alias(name, "challenger", version)
    return Version(name=name, version=version, model_sha256=sha256, run_id=run_id)


def _signature(pairs: bool, task: Task) -> dict[str, str]:
    """One column of texts, whatever its name, or the two named ones of pairs; what the task answers out."""
    text = {"type": "string", "required": True}
    inputs = [text | {"name": name} for name in PAIR_COLUMNS] if pairs else [text]
    outputs: dict[Task, list[dict[str, Any]]] = {
        "single_label": [{"type": "string", "name": "label"}, {"type": "double", "name": "probability"},
                         {"type": "boolean", "name": "abstained"}],
        "multi_label": [{"type": "array", "items": {"type": "string"}, "name": "labels"},
                        {"type": "array", "items": {"type": "double"}, "name": "label_probabilities"}],
        "score": [{"type": "double", "name": "score"}],
        "entities": [{"type": "array", "items": ENTITY, "name": "entities"}],
    }  # fmt: skip
    return {
        "inputs": json.dumps(inputs),
        "outputs": json.dumps([column | {"required": True} for column in outputs[task]]),
    }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def tag_version(name: str, version: str, tags: Mapping[str, str]) -> None:
    """Add tags to a registered version."""
    connect()
    client = MlflowClient()
    for key, value in tags.items():
        client.set_model_version_tag(name, version, key, value)


def find_version(name: str, *, tags: Mapping[str, str]) -> Version | None:
    """The newest registered version that has all these tags, so that a killed release goes on where it was."""
    connect()
    client = MlflowClient()
    try:
        versions = client.search_model_versions(f"name = '{name}'", order_by=["version_number DESC"])
    except MlflowException as error:
        raise ReleaseError(f"MLflow at {shown_uri()} could not be read: {error.message}") from error
    for found in versions:
        if all(found.tags.get(key) == value for key, value in tags.items()):
            sha256 = found.tags.get("retort.model_sha256", "")
            return Version(name=name, version=str(found.version), model_sha256=sha256, run_id=found.run_id or "")
    return None


def list_versions(name: str) -> list[dict[str, Any]]:
    """All registered versions, newest first: version, aliases, tags."""
    connect()
    client = MlflowClient()
    found = client.search_model_versions(f"name = '{name}'", order_by=["version_number DESC"])
    aliases = client.get_registered_model(name).aliases if found else {}
    return [
        {
            "version": str(item.version),
            "aliases": sorted(alias for alias, version in aliases.items() if str(version) == str(item.version)),
            "tags": dict(item.tags),
            "run_id": item.run_id,
        }
        for item in found
    ]


def point_alias(name: str, version: str) -> None:
    """Let the alias `champion` follow the ledger, and take `challenger` from that version."""
    connect()
    client = MlflowClient()
    client.set_registered_model_alias(name, "champion", version)
    if str(client.get_registered_model(name).aliases.get("challenger")) == version:
        client.delete_registered_model_alias(name, "challenger")


def set_alias(name: str, alias: str, version: str) -> None:
    """Point `challenger` or `shadow` at a version."""
    connect()
    MlflowClient().set_registered_model_alias(name, alias, version)


def drop_aliases(name: str, versions: Mapping[str, str]) -> None:
    """Take each alias (alias -> version) from its version; one that points elsewhere by now stays."""
    if not versions:
        return
    connect()
    client = MlflowClient()
    aliases = client.get_registered_model(name).aliases
    for alias, version in versions.items():
        if str(aliases.get(alias)) == version:
            client.delete_registered_model_alias(name, alias)


def repair_alias(name: str, version: str) -> None:
    """Move the alias `champion` where a kill between the pointer's move and the alias's kept it back."""
    for found in list_versions(name):
        if found["version"] == version and "champion" not in found["aliases"]:
            log.warning("the alias champion of %s had not followed to version %s; it does now", name, version)
            point_alias(name, version)


def shown_uri() -> str:
    """The tracking URI without credentials."""
    return settings.tracking_uri().rsplit("@", 1)[-1]


def _flatten(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, child in value.items():
            yield from _flatten(f"{prefix}.{key}" if prefix else str(key), child)
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        for at, child in enumerate(value):
            yield from _flatten(f"{prefix}.{at}", child)
    else:
        yield prefix, value
