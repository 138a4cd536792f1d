"""The whole command: sets that are there, parts that can be chosen, what is saved, and the gate's planted models."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from bento.errors import DataError, UserError
from flows import bench_gate, bench_gate_trials
from flows.bench_drift import corpus as corpora
from flows.bench_drift import run
from flows.bench_drift.corpus import Corpus, read_corpora, read_corpus
from flows.bench_drift.lab import QUICK, Lab
from flows.bench_drift.planted import planted_rows
from flows.config import load_config
from tasks.monitor.config import MonitorConfig
from tasks.types import Artifact
from tests.flows.bench_drift.test_calm import lab_of

QUICKSTART = Path(__file__).parents[3] / "configs" / "quickstart.yaml"


@pytest.fixture
def encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Artifact:
    """One that gives each text its length and counts how often it is asked."""
    monkeypatch.setenv("RETORT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(corpora, "embed", lambda folder, texts: np.array([[len(text), 1.0] for text in texts]))
    monkeypatch.setattr(corpora, "describe", lambda texts, file: {"length": np.array([len(text) for text in texts])})
    return Artifact(kind="encoder", path=tmp_path, sha256="e" * 64, parents=(), made_by="encoder")


def write_set(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "train.csv").write_text("text,label,timestamp\nlate,a,2020-02-01\nearly on,b,2020-01-01\n")
    (folder / "test.jsonl").write_text(json.dumps({"text": "last of all", "label": "a", "timestamp": "2021"}) + "\n")


def test_a_set_comes_in_order_of_time_and_is_embedded_once(
    tmp_path: Path, encoder: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_set(tmp_path / "data" / "snips")
    found = read_corpora(tmp_path / "data", encoder)["snips"]
    assert found.texts == ("early on", "late", "last of all")
    assert found.embeddings_ND[:, 0].tolist() == [8, 4, 11]
    assert found.descriptors["length"].tolist() == [8, 4, 11]
    monkeypatch.setattr(corpora, "embed", lambda folder, texts: pytest.fail("it is in the store"))
    assert read_corpora(tmp_path / "data", encoder)["snips"].embeddings_ND.tolist() == found.embeddings_ND.tolist()


def test_a_missing_set_is_said_and_none_at_all_refused(
    tmp_path: Path, encoder: Artifact, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UserError, match=r"expected folders such as angular_cli_commits in .*, got none; name the fold"):
        read_corpora(tmp_path, encoder)
    write_set(tmp_path / "data" / "snips")
    with caplog.at_level("WARNING", logger="retort.bench"):
        read_corpora(tmp_path / "data", encoder)
    assert "lacks them: angular_cli_commits, health_news_tweets" in caplog.text


def test_a_set_without_labels_is_refused(tmp_path: Path, encoder: Artifact) -> None:
    (tmp_path / "snips").mkdir()
    with pytest.raises(DataError, match="with rows, got none"):
        read_corpus(tmp_path / "snips", encoder)
    (tmp_path / "snips" / "train.csv").write_text("text,intent\nhello,a\n")
    with pytest.raises(DataError, match="expected `text` and `label` in each row"):
        read_corpus(tmp_path / "snips", encoder)


def test_planted_models_meet_the_gate_and_equal_ones_get_through(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_gate_trials, "NUM_TRIALS", 40)
    monkeypatch.setattr(bench_gate, "NUM_MARGIN_TRIALS", 40)
    margin, twice, _, equal, broken = planted_rows(lab_of(corpus))
    assert margin["metric"] == "gate, clusters: worse by the margin: passes of 40 trials"
    assert margin["value"] <= 15
    assert (twice["value"], broken["value"]) == (0, 0)
    assert equal["value"] <= 30


def test_figures_are_saved_as_json_and_as_a_page(
    corpus: Corpus, tmp_path: Path, encoder: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    def part(lab: Lab) -> list[dict[str, object]]:
        lab.details["first"] = [1]
        return [run.row("looks", lab.setup.monitor.looks, "")]

    monkeypatch.setattr(run, "PARTS", {"first": part, "second": lambda lab: []})
    monkeypatch.setattr(run, "make_encoder", lambda config: type("Step", (), {"artifact": encoder}))
    monkeypatch.setattr(run, "read_corpora", lambda folder, encoder: {"snips": corpus})
    found = run.bench_drift(load_config(QUICKSTART), data=tmp_path, quick=True, only="first")
    metrics = [row["metric"] for row in found["rows"]]
    assert metrics[0] == "load of the machine before this run"
    assert "clinc150: not measured" in metrics
    assert metrics[-2:] == ["looks", "this run, on two cores"]
    assert found["rows"][-2]["value"] == QUICK.looks
    assert "linear head on the frozen encoder's embeddings" in found["title"]
    saved = json.loads((tmp_path / "home" / "bench" / "drift.json").read_text())
    assert saved["details"] == {"first": [1]}
    assert "The loop beside simpler policies" in (tmp_path / "home" / "bench" / "drift.html").read_text()


def test_an_unknown_part_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected --only of look, planted, calm, .*, got clam"):
        run.bench_drift(load_config(QUICKSTART), data=tmp_path, only="clam")


def test_the_monitor_is_the_configs_but_for_sizes_and_looks() -> None:
    lab = Lab(
        folder=Path(), encoder=Artifact(kind="encoder", path=Path(), sha256="", parents=(), made_by="encoder"),
        effort=QUICK, monitor=MonitorConfig(tolerance=0.02, false_alarm_budget=0.2), corpora={},
    )  # fmt: skip
    config = lab.setup.monitor
    assert (config.tolerance, config.false_alarm_budget, config.looks) == (0.02, 0.2, QUICK.looks)
    assert (config.window, config.reference) == (200, 400)


def test_the_command_takes_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.cli import app

    monkeypatch.setenv("RETORT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(run, "make_encoder", lambda config: type("Step", (), {"artifact": None}))
    result = CliRunner().invoke(app, ["bench", "drift", "--config", str(QUICKSTART), "--data", str(tmp_path)])
    assert isinstance(result.exception, UserError)
    assert "name the folder that has them with --data" in str(result.exception)
