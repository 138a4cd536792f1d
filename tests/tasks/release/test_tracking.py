"""What MLflow keeps of a model, and that the generic client gets the answers that the service gives."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest

from bento.entities import entity_tags
from bento.predictor import Predictor
from bento.task_types import Target
from tasks.release import tracking
from tasks.store import Step
from tasks.types import Artifact, BehaviourResult, GateReport, Interval, Scores, Verdict
from tests.tiny import write_tiny_model

LABELS = ("card_lost", "refund", "transfer")


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")


def register(model: Path, examples: list[Any]) -> Any:
    with tracking.build_run("tiny", tags={"retort.flow_run_id": "7"}, started_at=1.8e9) as run_id:
        mlflow.log_param("planted", "yes")
    version = tracking.register(
        "tiny", model, sha256="0" * 64, run_id=run_id, tags={"retort.gate": "pass"}, description="", examples=examples
    )
    assert version.run_id == run_id
    return mlflow.pyfunc.load_model("models:/tiny@challenger")


@pytest.mark.filterwarnings("default")
def test_the_registered_model_answers_strings_as_the_predictor_does(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = write_tiny_model(tmp_path / "model", labels=LABELS)
    registered = register(model, ["my card"])
    texts = ["my card is lost", "refund"]
    expected_NC = Predictor(model).predict(texts)
    for given in (texts, pd.DataFrame({"anything": texts}), pd.Series(texts)):
        found = registered.predict(given)
        assert found["label"].tolist() == [LABELS[best] for best in expected_NC.argmax(axis=1)]
        assert found["probability"].tolist() == pytest.approx(expected_NC.max(axis=1).tolist())
    assert "type hints" not in capfd.readouterr().err


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("target", "labels"),
    [
        (Target(task="multi_label"), LABELS),
        (Target(task="score", low=0, high=5), ("score",)),
        (Target(task="entities"), tuple(entity_tags(["LOC", "PER"]))),
    ],
    ids=["multi_label", "score", "entities"],
)
def test_a_model_of_another_task_answers_as_the_predictor_does(
    tmp_path: Path, target: Target, labels: tuple[str, ...]
) -> None:
    model = write_tiny_model(tmp_path / "model", labels=labels, target=target, seed=3)
    texts, predictor = ["my card is lost", "where, is my refund"], Predictor(model)
    found = register(model, ["my card"]).predict(texts)
    expected = predictor.answers(texts, predictor.predict(texts))
    assert {name: found[name].tolist() for name in found} == expected


@pytest.mark.filterwarnings("default")
def test_a_model_of_pairs_wants_both_columns(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "model", labels=LABELS, pairs=True)
    registered = register(model, [("my card", "refund")])
    frame = pd.DataFrame({"text": ["card", "money"], "text_pair": ["lost", "refund"]})
    expected_NC = Predictor(model).predict([("card", "lost"), ("money", "refund")])
    assert registered.predict(frame)["probability"].tolist() == pytest.approx(expected_NC.max(axis=1).tolist())
    with pytest.raises(mlflow.exceptions.MlflowException, match="text_pair"):
        registered.predict(frame[["text"]])


@pytest.mark.filterwarnings("default")
def test_a_finished_run_is_found_by_its_tags_and_its_outcome_is_added(tmp_path: Path) -> None:
    with tracking.build_run("tiny", tags={"retort.flow_run_id": "7"}, started_at=1.8e9) as run_id:
        assert tracking.find_run("tiny", tags={"retort.flow_run_id": "7"}) is None, "it is not finished yet"
    assert tracking.find_run("tiny", tags={"retort.flow_run_id": "7"}) == run_id
    assert tracking.find_run("tiny", tags={"retort.flow_run_id": "8"}) is None
    assert tracking.find_run("another", tags={"retort.flow_run_id": "7"}) is None
    report = tmp_path / "report.html"
    report.write_text("<p>promoted</p>", encoding="utf-8")
    table = tmp_path / "errors.csv"
    table.write_text("id,text\n", encoding="utf-8")
    tracking.log_outcome(run_id, "promoted", "# tiny: promoted", [report, table])
    client = mlflow.MlflowClient()
    files = [file.path for file in client.list_artifacts(run_id, "report")]
    assert files == ["report/errors.csv", "report/report.html"]
    run = client.get_run(run_id)
    assert (run.data.tags["retort.outcome"], run.info.status) == ("promoted", "FINISHED")
    assert run.info.start_time == 1_800_000_000_000
    note = run.data.tags["mlflow.note.content"]
    assert note.startswith("# tiny: promoted\n\n[report](#/experiments/1/runs/")
    assert f"/runs/{run_id}/artifacts/report/report.html) · [model card](" in note


@pytest.mark.filterwarnings("default")
def test_the_page_of_a_version_tells_how_it_went_and_leads_to_its_evidence(tmp_path: Path) -> None:
    register(write_tiny_model(tmp_path / "model", labels=LABELS), ["my card"])
    run_id = mlflow.MlflowClient().get_model_version("tiny", "1").run_id
    tracking.describe_version("tiny", "1", run_id=run_id, description="# tiny: promoted", tags={"retort.outcome": "x"})
    version = mlflow.MlflowClient().get_model_version("tiny", "1")
    assert version.description.startswith("# tiny: promoted\n\n[report](#/experiments/")
    assert version.tags == {
        "retort.gate": "pass",
        "retort.model_card": f"runs:/{run_id}/report/README.md",
        "retort.model_sha256": "0" * 64,
        "retort.outcome": "x",
        "retort.report": f"runs:/{run_id}/report/report.html",
    }


def scores(accuracy: float, latency_ms: float, throughput_per_s: float = 9.0) -> Scores:
    interval = Interval(value=accuracy, low=accuracy - 0.1, high=accuracy + 0.1)
    return Scores(
        metrics={"accuracy": interval, "macro_f1": interval}, num_rows=100, size_bytes=int(1e6 * latency_ms),
        latency_ms_p50=latency_ms, latency_ms_p95=2 * latency_ms, throughput_per_s=throughput_per_s,
    )  # fmt: skip


@pytest.mark.filterwarnings("default")
def test_models_stand_side_by_side_under_the_name_of_the_measure_with_its_unit() -> None:
    measured = {"teacher": scores(0.8, 10), "candidate": scores(0.75, 2), "floor": scores(0.5, 1, float("nan"))}
    gate = Verdict(gate="size mb, at most", outcome="pass", observed=2.0, limit=3.0, n=1)
    missing = replace(gate, gate="superiority", observed=float("nan"))
    with tracking.build_run("tiny", tags={}, started_at=1.8e9) as run_id:
        tracking.log_scores(measured)
        tracking.log_gate(GateReport(verdicts=(gate, missing)))
        tracking.log_tables({"errors": [{"text": "my card", "candidate_probability": 0.9}], "flips": []})
    run = mlflow.MlflowClient().get_run(run_id)
    found = run.data.metrics
    assert {name: found[f"latency_ms_p50/{name}"] for name in measured} == {"teacher": 10, "candidate": 2, "floor": 1}
    assert (found["accuracy_low/teacher"], found["size_bytes/candidate"]) == (pytest.approx(0.7), 2e6)
    assert "throughput_per_s/floor" not in found
    assert found["against_teacher/accuracy_points"] == pytest.approx(-5)
    assert (found["against_teacher/times_smaller"], found["against_teacher/times_faster_p50"]) == (5, 5)
    assert {name: value for name, value in found.items() if name.startswith("gate/")} == {"gate/size_mb_at_most": 2.0}
    logged = {json.loads(run.data.tags["mlflow.loggedArtifacts"])[at]["path"] for at in range(3)}
    assert logged == {"scores.json", "gate.json", "errors.json"}
    table = mlflow.MlflowClient().load_table(run.info.experiment_id, "errors.json", run_ids=[run_id])
    assert table["text"].tolist() == ["my card"]


@pytest.mark.filterwarnings("default")
def test_a_stage_is_a_nested_run_with_its_own_time_and_its_training_history(tmp_path: Path) -> None:
    (tmp_path / "history.json").write_text('[{"epoch": 1, "train_loss": 2.5}, {"epoch": 2, "train_loss": 1.5}]')
    artifact = Artifact(kind="torch", path=tmp_path, sha256="5" * 64, parents=("6" * 64,), made_by="teacher")
    step = Step(name="teacher", artifact=artifact, cached=False, started_at=1.8e9, seconds=61.5)
    with tracking.build_run("tiny", tags={}, started_at=1.8e9) as parent:
        tracking.log_stage(step)
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("tiny")
    (run,) = client.search_runs([experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'")
    assert (run.info.status, run.info.end_time - run.info.start_time) == ("FINISHED", 61_500)
    assert [point.value for point in client.get_metric_history(run.info.run_id, "train_loss")] == [2.5, 1.5]
    assert run.data.tags["retort.sha256"] == "5" * 64


@pytest.mark.filterwarnings("default")
def test_an_alias_that_a_kill_kept_back_follows_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    register(write_tiny_model(tmp_path / "model", labels=LABELS), ["my card"])
    assert tracking.list_versions("tiny")[0]["aliases"] == ["challenger"]
    tracking.repair_alias("tiny", "1")
    assert tracking.list_versions("tiny")[0]["aliases"] == ["champion"]
    assert "had not followed" in caplog.text
    caplog.clear()
    tracking.repair_alias("tiny", "1")
    tracking.repair_alias("nobody", "1")
    assert caplog.text == ""


@pytest.mark.filterwarnings("default")
def test_calibration_abstention_and_behaviour_are_metrics_that_runs_compare_by() -> None:
    result = BehaviourResult(
        test="lost it?", kind="directional", num_cases=10, teacher_failures=1, candidate_failures=3, only_candidate=2
    )
    never = replace(result, test="names", num_cases=0)
    share = {"value": 0.9, "low": 0.8, "high": 1.0, "n": 40}
    with tracking.build_run("tiny", tags={}, started_at=1.8e9) as run_id:
        tracking.log_evidence(
            {"temperature": 0.5}, {"threshold": 0.7, "coverage": share, "risk": None}, [result, never]
        )
    assert mlflow.MlflowClient().get_run(run_id).data.metrics == {
        "calibration/temperature": 0.5,
        "abstention/coverage": 0.9,
        "failure_share_lost_it_/candidate": 0.3,
        "failure_share_lost_it_/teacher": 0.1,
    }
