"""A monitoring pass in bad surroundings: each fault ends in words, nothing is lost, and nothing is promoted."""

import contextlib
import errno
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from prefect.blocks.core import Block

from bento import database
from bento.arms import read_assignment
from bento.errors import IntegrityError, RetortError
from bento.manifest import ONNX_FILE, folder_sha256
from bento.predictor import Predictor
from bento.records import add_feedback
from flows import exclusive, look_report
from flows import monitor as monitoring
from flows.failures import OutsideError
from flows.monitor import monitor
from tasks import lease, notices
from tasks.monitor import looks, traffic
from tasks.monitor.config import MonitorConfig
from tasks.monitor.harm import Baseline
from tasks.monitor.reference import fit_reference
from tasks.release import ledger, look_runs
from tasks.release.ledger import Champion
from tasks.types import Artifact
from tests.logged import row, store
from tests.terminal import SMOKE
from tests.tiny import WORDS, write_tiny_model

LABELS = ("card_lost", "refund", "transfer")
MONITOR = {
    "false_alarm_budget": 0.5, "looks": 1, "window": 60, "min_window": 30, "reference": 100, "min_labels": 10,
    "tolerance": 0.05, "cooldown_minutes": 60,
}  # fmt: skip


@dataclass
class World:
    """A champion, its config, and the events that went out."""

    config: Path
    model: Path
    sha256: str
    events: list[dict[str, Any]] = field(default_factory=list)

    def look(self) -> dict[str, Any]:
        """One pass without Prefect."""
        found: dict[str, Any] = monitor.fn(str(self.config))
        return found

    def serve(
        self, number: int = 60, *, wrong: bool = False, ids: str = "r", words: Sequence[str] = WORDS[:-1],
        **changes: Any,
    ) -> None:  # fmt: skip
        """Log answers to texts of the same kind as the reference's, or of other words, each labelled."""
        texts = make_texts(number, seed=7, words=words)
        answers = Predictor(self.model).predict(texts)
        now = time.time()
        for at, (text, shares) in enumerate(zip(texts, answers, strict=True)):
            label = LABELS[int(shares.argmax())]
            values = {"model_sha256": self.sha256, "text": text, "label": label, "received_at": now - number + at}
            store(row(f"{ids}{at}", probabilities=shares.tolist(), **(values | changes)))
            true = LABELS[(LABELS.index(label) + wrong) % len(LABELS)]
            add_feedback("tiny", f"{ids}{at}", 0, true, now)


def make_texts(number: int, *, seed: int, words: Sequence[str] = WORDS[:-1]) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(words, size=6)) for _ in range(number)]


def embed(_folder: Path, texts: list[str]) -> Any:
    """How often each word is in a text."""
    return np.array([[text.split().count(word) + 0.01 for word in WORDS] for text in texts], dtype=np.float32)


def describe(texts: list[str], _tokenizer: Path) -> dict[str, Any]:
    return {"length": np.array([len(text) for text in texts], dtype=np.float32)}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("RETORT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RETORT_DATABASE_URL", raising=False)
    model = write_tiny_model(tmp_path / "model", labels=LABELS)
    config = tmp_path / "tiny.yaml"
    tree = SMOKE.read_text(encoding="utf-8").replace("name: smoke", "name: tiny", 1)
    lines = [line for line in tree.splitlines() if not line.startswith("monitor:")]
    config.write_text("\n".join([*lines, f"monitor: {json.dumps(MONITOR)}"]), encoding="utf-8")
    found = World(config=config, model=model, sha256=folder_sha256(model))
    _without_prefect_and_training(found, monkeypatch)
    champion = Champion(name="tiny", version="1", model_sha256=found.sha256, model_path=model, bento="tiny:1")
    assert ledger.swap_champion(champion, expected=None, action="promote", who="ada", why="first", evidence={})
    return found


def _without_prefect_and_training(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = make_texts(200, seed=1)
    probabilities_NC = Predictor(world.model).predict(texts)
    reference = fit_reference(
        embed(world.model, texts), probabilities_NC, describe(texts, world.model),
        labels_N=probabilities_NC.argmax(axis=1), class_names=LABELS, max_rows=100, rng=np.random.default_rng(0),
    )  # fmt: skip
    step = SimpleNamespace(artifact=Artifact(kind="data", path=world.model, sha256="d", parents=(), made_by="data"))
    monkeypatch.setattr(monitoring, "stage", lambda _name, _function: lambda *_, **__: step)
    monkeypatch.setattr(monitoring, "read_calibration", lambda _made: None)
    monkeypatch.setattr(monitoring, "read_reference", lambda _made: (reference, Baseline(num_errors=0, num_rows=500)))
    monkeypatch.setattr(traffic, "load_artifact", lambda *_, **__: step.artifact)
    monkeypatch.setattr(traffic, "embed", embed)
    monkeypatch.setattr(traffic, "describe", describe)
    monkeypatch.setattr(look_report, "reference_texts", lambda _watched, found: [texts[row] for row in found.rows_M])
    monkeypatch.setattr(look_report, "timeline_figure", lambda *_: None)
    monkeypatch.setattr(look_report, "write_monitor_report", lambda _page, folder: folder / "report.html")
    monkeypatch.setattr(look_runs, "log_look", lambda *_, **__: "run")
    monkeypatch.setattr(monitoring, "publish_look", lambda *_: None)
    monkeypatch.setattr(monitoring, "emit_event", lambda **event: world.events.append(event))
    worker = SimpleNamespace(instance=lambda: SimpleNamespace(wait_until_empty=lambda: None))
    monkeypatch.setattr(monitoring, "EventsWorker", worker)
    monkeypatch.setattr(exclusive, "_is_over", lambda _run: False)
    monkeypatch.setattr(Block, "load", lambda name: {}[name])


def champion_stays(world: World) -> None:
    assert [entry["action"] for entry in ledger.history("tiny")] == ["promote"]
    found = ledger.read_champion("tiny")
    assert found is not None
    assert found.model_sha256 == world.sha256


def test_quiet_traffic_is_no_drift_and_starts_nothing(world: World) -> None:
    world.serve()
    result = world.look()
    assert (result["state"], result["action"], world.events) == ("no_drift", "none", [])
    assert read_assignment("tiny").raised is None


def test_more_is_drawn_for_labels_after_a_look_that_found_something(world: World) -> None:
    world.serve(wrong=True)
    assert world.look()["state"] == "harm"
    raised = read_assignment("tiny").raised
    assert raised is not None
    assert raised.rate == MonitorConfig().suspect_audit_rate
    assert raised.until - time.time() == pytest.approx(60 * MonitorConfig().suspect_audit_minutes, abs=60)


def test_labels_of_rows_from_after_drift_was_found_are_tested_apart(world: World) -> None:
    world.serve()
    assert world.look()["evidence"]["harm"]["num_after_drift"] == 0
    assert looks.drift_found("tiny", world.sha256) is None
    world.serve(ids="d", words=WORDS[-3:])
    found = world.look()["evidence"]
    assert (found["drift"]["drifted"], found["harm"]["num_after_drift"]) == (True, 0)
    assert looks.drift_found("tiny", world.sha256) == 120
    world.serve(20, ids="w", words=WORDS[-3:], wrong=True)
    harm = world.look()["evidence"]["harm"]
    assert (harm["num_after_drift"], harm["errors_after_drift"]) == (20, 20)
    assert "after_drift" in harm["alarms"]
    assert looks.drift_found("tiny", world.sha256) == 120, "the first look that found it"


def test_harm_asks_for_one_retrain_and_people_are_told_once(world: World) -> None:
    world.config.write_text(world.config.read_text() + "\nnotify: [custom-webhook/ops]\n", encoding="utf-8")
    world.serve(wrong=True)
    assert world.look()["action"] == "retrain"
    again = world.look()
    assert (again["state"], again["action"]) == ("harm", "none")
    (event,) = world.events
    assert (event["event"], event["payload"]["look"]) == ("retort.harm", 1)
    assert [notice["kind"] for notice in notices.pending("tiny")] == ["harm"]


def test_a_mix_that_moved_asks_for_one_correction_of_the_prior(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.serve()
    real = monitoring.look

    def moved(*given: Any, **options: Any) -> Any:
        from dataclasses import replace

        return replace(real(*given, **options), drifted=True, mix_only=True)

    monkeypatch.setattr(monitoring, "look", moved)
    first, second = world.look(), world.look()
    assert (first["action"], second["action"]) == ("correct_prior", "none")
    assert "answered by a correction of the prior before, no retrain" in second["reason"]
    (event,) = world.events
    assert event["event"] == "retort.mix"
    assert event["payload"]["prior"] == first["evidence"]["drift"]["prior_window"]


def no_database(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.setenv("RETORT_DATABASE_URL", f"sqlite:///{tmp_path / 'folder'}")


def no_server(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    monkeypatch.setenv("RETORT_DATABASE_URL", "postgresql+psycopg://retort:T0PSECRET@127.0.0.1:9/retort")


def damaged_database(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "damaged.db").write_bytes(b"this is no database at all, but it is long enough" * 100)
    monkeypatch.setenv("RETORT_DATABASE_URL", f"sqlite:///{tmp_path / 'damaged.db'}")


def full_disk(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "home"))

    monkeypatch.setattr(looks, "store_look", refuse)


def full_disk_at_the_report(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "home"))

    monkeypatch.setattr(look_report, "write_monitor_report", refuse)


def champion_deleted(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.rmtree(world.model)


def champion_altered(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (world.model / ONNX_FILE).write_bytes(b"no model")


@pytest.mark.parametrize(
    ("plant", "error", "words"),
    [
        (no_database, OutsideError, "database at sqlite:///.* to answer, but it does not"),
        (no_server, OutsideError, r"database at postgresql\+psycopg://retort:\*\*\*@127.0.0.1:9/retort"),
        (damaged_database, OutsideError, "file is not a database"),
        (full_disk, OutsideError, "the disk is full"),
        (full_disk_at_the_report, OutsideError, "the disk is full"),
        (champion_deleted, IntegrityError, "is gone or altered"),
        (champion_altered, IntegrityError, "is gone or altered"),
    ],
)
def test_a_fault_ends_in_words_promotes_nothing_and_the_next_look_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, plant: Callable[..., None], error: Any, words: str
) -> None:
    world.serve(wrong=True)
    kept = shutil.copytree(world.model, tmp_path / "kept")
    with monkeypatch.context() as planted:
        plant(world, planted, tmp_path)
        with pytest.raises(error, match=words) as found:
            world.look()
    assert isinstance(found.value, RetortError), "the command line tells it without a traceback and exits 1"
    assert "T0PSECRET" not in str(found.value)
    assert world.events == []
    champion_stays(world)
    assert lease.holder("monitor tiny") is None, "the next look need not wait"
    shutil.copytree(kept, world.model, dirs_exist_ok=True)
    world.look()
    assert [event["event"] for event in world.events] == ["retort.harm"], "nothing was lost"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("expected the right to mount a small file system; run the tests as root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(file: Path) -> None:
    with file.open("wb", buffering=0) as out, contextlib.suppress(OSError):
        while True:
            out.write(b"x" * 4096)


def test_a_disk_that_is_really_full_ends_in_words(
    world: World, monkeypatch: pytest.MonkeyPatch, small_disk: Path
) -> None:
    world.serve(wrong=True)
    database.engine().dispose()
    shutil.copytree(database.settings.home(), small_disk / "home")
    monkeypatch.setenv("RETORT_HOME", str(small_disk / "home"))
    filler = small_disk / "filler"
    fill(filler)
    with pytest.raises(OutsideError, match="the disk is full"):
        world.look()
    filler.unlink()
    champion_stays(world)
    assert world.look()["state"] == "harm"
    assert len(world.events) == 1


def test_an_empty_window_is_told_and_starts_nothing(world: World) -> None:
    result = world.look()
    assert (result["state"], result["action"]) == ("no_drift", "none")
    assert "too few rows to judge drift: 0 distinct texts, 30 are needed" in result["reason"]


@pytest.mark.parametrize(
    "stored", ["{broken", "null", '"text"', "[0.2, 0.8]", "[NaN, 0.5, 0.5]", "[null, 0.5, 0.5]", "[9, 9, 9]"]
)
def test_damaged_answers_are_counted_and_left_out(world: World, stored: str) -> None:
    world.serve()
    with database.engine().begin() as connection:
        connection.execute(
            sa.text("UPDATE requests SET probabilities = :stored WHERE request_id IN ('r3', 'r4', 'r5')"),
            {"stored": stored},
        )
    result = world.look()
    assert (result["state"], result["evidence"]["drift"]["num_rows"]) == ("no_drift", 57)
    assert "3 logged answers were left out" in result["reason"]


def test_with_every_answer_damaged_there_is_no_verdict_on_drift(world: World) -> None:
    world.serve()
    with database.engine().begin() as connection:
        connection.execute(sa.text("UPDATE requests SET probabilities = '{broken'"))
    result = world.look()
    assert (result["state"], result["evidence"]["drift"]["enough"]) == ("no_drift", False)
    assert "60 logged answers were left out" in result["reason"]


def test_rows_from_the_future_of_a_clock_set_back_are_left_out_and_said(world: World) -> None:
    world.serve(received_at=time.time() + 86_400)
    result = world.look()
    assert result["evidence"]["drift"]["num_rows"] == 0
    assert "60 logged answers were left out" in result["reason"]


def test_a_retrain_in_the_future_of_a_clock_set_back_does_not_stop_the_loop(world: World) -> None:
    world.serve(wrong=True)
    world.look()
    with database.engine().begin() as connection:
        connection.execute(looks.looks.update().values(at=time.time() + 10**8, key="old"))
    looks.finish(1, "blocked")
    assert world.look()["action"] == "retrain"


def test_of_two_looks_at_once_one_wins_and_nothing_is_doubled(world: World) -> None:
    world.serve(wrong=True)
    results: list[dict[str, Any]] = []
    threads = [threading.Thread(target=lambda: results.append(world.look())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(result["action"] for result in results) == ["none", "none", "retrain"]
    assert len(world.events) == 1
    assert [found["action"] for found in looks.read_looks("tiny")].count("retrain") == 1


def test_an_event_that_a_kill_held_back_goes_out_at_the_next_look(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(**_: Any) -> None:
        raise KeyboardInterrupt

    world.serve(wrong=True)
    with monkeypatch.context() as planted:
        planted.setattr(monitoring, "emit_event", killed)
        with pytest.raises(KeyboardInterrupt):
            world.look()
    assert world.events == []
    world.look()
    assert [event["payload"]["look"] for event in world.events] == [1]


def without_cooldown(world: World) -> None:
    text = world.config.read_text(encoding="utf-8").replace('"cooldown_minutes": 60', '"cooldown_minutes": 0')
    world.config.write_text(text, encoding="utf-8")


def test_a_retrain_that_was_lost_is_asked_for_again_and_given_up_in_the_end(world: World) -> None:
    world.config.write_text(world.config.read_text() + "\nnotify: [custom-webhook/ops]\n", encoding="utf-8")
    world.serve(wrong=True)
    world.look()
    without_cooldown(world)
    lease.take("retrain tiny", "run 7", "run 7")
    world.look()
    assert len(world.events) == 1, "it is under way"
    lease.release("retrain tiny", "run 7")
    for _ in range(4):
        world.look()
    assert [event["payload"]["look"] for event in world.events] == [1, 1, 1]
    assert looks.outcome(1) == "given_up"
    told = [notice["text"] for notice in notices.pending("tiny") if notice["kind"] == "failed run"]
    assert told[0] == "the retrain that look 1 asked for 1 times came to no end; it was asked for again"
    assert told[2] == "the retrain that look 1 asked for 3 times came to no end; given up"
    assert len(told) == 3


def test_a_retrain_that_ended_is_not_asked_for_again(world: World) -> None:
    world.serve(wrong=True)
    world.look()
    looks.finish(1, "blocked")
    without_cooldown(world)
    world.look()
    assert len(world.events) == 1
