import logging
import os
import shutil
from pathlib import Path

import pytest

from bento import settings
from tasks import store
from tasks.store import NotMadeError, Step, only_looking, run_step


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RETORT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RETORT_STORE", raising=False)
    return tmp_path / "home"


def make_text(text: str = "hello", calls: list[str] | None = None) -> Step:
    def make(out: Path, work: Path) -> None:
        if calls is not None:
            calls.append(text)
        (out / "text.txt").write_text(text)

    return run_step("greet", kind="data", inputs=["abc"], config={"text": text}, code="tasks.types", make=make)


def test_a_step_is_made_once_and_found_again() -> None:
    calls: list[str] = []
    first, second = make_text(calls=calls), make_text(calls=calls)
    assert (first.cached, second.cached, calls) == (False, True, ["hello"])
    assert first.artifact == second.artifact
    assert first.artifact.path.name == first.artifact.sha256


def test_config_input_and_code_are_in_the_key() -> None:
    key = store.step_key("greet", inputs=["abc"], config={"a": 1}, code="tasks.types")
    assert key != store.step_key("greet", inputs=["abd"], config={"a": 1}, code="tasks.types")
    assert key != store.step_key("greet", inputs=["abc"], config={"a": 2}, code="tasks.types")
    assert key != store.step_key("greet", inputs=["abc"], config={"a": 1}, code="tasks.store")
    assert key != store.step_key("leave", inputs=["abc"], config={"a": 1}, code="tasks.types")


def test_an_altered_artifact_is_set_aside_said_and_made_again(caplog: pytest.LogCaptureFixture) -> None:
    made = make_text()
    (made.artifact.path / "text.txt").write_text("tampered")
    with caplog.at_level(logging.WARNING):
        again = make_text()
    assert not again.cached
    assert (again.artifact.path / "text.txt").read_text() == "hello"
    assert "altered" in caplog.text
    assert list(settings.store_folder().glob("altered-*"))


def test_a_file_added_to_an_artifact_is_noticed() -> None:
    made = make_text()
    (made.artifact.path / "extra.txt").write_text("x")
    assert not make_text().cached


def test_a_deleted_artifact_is_made_again() -> None:
    shutil.rmtree(make_text().artifact.path)
    assert not make_text().cached


def test_a_half_written_record_is_a_miss() -> None:
    make_text()
    record = next((settings.store_folder() / "steps").glob("*.json"))
    record.write_text(record.read_text()[:20])
    assert not make_text().cached


def test_a_step_that_fails_leaves_no_artifact_and_keeps_its_scratch() -> None:
    def fail(out: Path, work: Path) -> None:
        (out / "half.txt").write_text("half")
        (work / "checkpoint").write_text("epoch 1")
        raise RuntimeError("killed")

    def resume(out: Path, work: Path) -> None:
        (out / "whole.txt").write_text((work / "checkpoint").read_text())

    with pytest.raises(RuntimeError, match="killed"):
        run_step("train", kind="torch", inputs=[], config={}, code="tasks.types", make=fail)
    assert not [path for path in settings.store_folder().iterdir() if path.suffix == ".tmp" or len(path.name) == 64]
    done = run_step("train", kind="torch", inputs=[], config={}, code="tasks.types", make=resume)
    assert (done.artifact.path / "whole.txt").read_text() == "epoch 1"


def test_looking_writes_nothing(home: Path) -> None:
    with only_looking(), pytest.raises(NotMadeError):
        make_text()
    assert not home.exists()
    made = make_text()
    with only_looking():
        assert make_text().artifact == made.artifact


def test_a_shared_store_serves_a_second_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_STORE", f"file://{tmp_path / 'shared'}")
    first = make_text()
    monkeypatch.setenv("RETORT_HOME", str(tmp_path / "other"))
    second = make_text()
    assert second.cached
    assert second.artifact.sha256 == first.artifact.sha256
    assert second.artifact.path != first.artifact.path


def test_code_version_follows_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "tasks_probe"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "helper.py").write_text("X = 1\n")
    (package / "stage.py").write_text("from tasks_probe import helper\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(store, "OWN_PACKAGES", ("tasks_probe",))
    before = store.code_version.__wrapped__("tasks_probe.stage")
    (package / "helper.py").write_text("X = 2\n")
    assert store.code_version.__wrapped__("tasks_probe.stage") != before


def test_killed_writers_leave_nothing_that_is_found(home: Path) -> None:
    pid = os.fork()
    if pid == 0:

        def die(out: Path, work: Path) -> None:
            (out / "half.txt").write_text("half")
            os.kill(os.getpid(), 9)

        run_step("greet", kind="data", inputs=["abc"], config={"text": "hello"}, code="tasks.types", make=die)
    assert os.waitpid(pid, 0)[1] == 9
    made = make_text()
    assert not made.cached
    assert [path.name for path in made.artifact.path.iterdir()] == ["text.txt"]
    assert not list(settings.store_folder().glob("*.tmp")), "what the killed one left is gone"
