"""What MLflow keeps of looks at the traffic."""

import os
import time
from pathlib import Path

import mlflow
import pytest

from bento.errors import TrackingError
from tasks.release import look_runs


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")


def log_look(look: int, tmp_path: Path, accuracy: float = 0.9) -> str:
    report = tmp_path / "report.html"
    report.write_text("<p>", encoding="utf-8")
    return look_runs.log_look(
        "tiny", look=look, at=1.8e9 + 3_600 * look, champion="2", step=look, report=report, figures={},
        metrics={"accuracy/audited": accuracy, "drift_p/embedding": float("nan")},
        tags={"state": "no_drift", "action": "none", "reason": "quiet"},
    )  # fmt: skip


def test_each_look_is_a_run_and_a_step_of_the_run_of_all_looks_at_its_champion(tmp_path: Path) -> None:
    first, second = log_look(1, tmp_path, 0.9), log_look(2, tmp_path, 0.8)
    client = mlflow.MlflowClient()
    run, other = client.get_run(first), client.get_run(second)
    assert (run.info.start_time, run.info.status) == ((1.8e9 + 3_600) * 1_000, "FINISHED")
    assert run.data.metrics == {"accuracy/audited": 0.9}
    assert run.data.params == {"champion": "2", "look": "1"}
    assert {key: run.data.tags[f"retort.{key}"] for key in ("state", "action", "reason", "look")} == {
        "state": "no_drift", "action": "none", "reason": "quiet", "look": "1",
    }  # fmt: skip
    assert [file.path for file in client.list_artifacts(first, "report")] == ["report/report.html"]
    parent = run.data.tags["mlflow.parentRunId"]
    assert parent == other.data.tags["mlflow.parentRunId"]
    history = client.get_metric_history(parent, "accuracy/audited")
    assert [(point.step, point.value) for point in history] == [(1, 0.9), (2, 0.8)]
    assert "report of look 2" in client.get_run(parent).data.tags["mlflow.note.content"]


def test_looks_that_are_there_whole_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log_look(1, tmp_path)
    log_look(3, tmp_path)
    with monkeypatch.context() as killed:
        killed.setattr(mlflow.MlflowClient, "set_terminated", lambda *_: None)
        log_look(2, tmp_path)
    assert look_runs.logged_looks("tiny") == {1, 3}
    assert look_runs.logged_looks("another") == set()


def test_a_server_that_is_away_is_given_up_within_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:T0PSECRET@127.0.0.1:9")
    started = time.monotonic()
    with pytest.raises(TrackingError, match=r"expected MLflow at 127.0.0.1:9 to take a run") as found:
        log_look(1, tmp_path)
    assert time.monotonic() - started < 30
    assert "T0PSECRET" not in str(found.value)
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ, "a build waits as long as before"
