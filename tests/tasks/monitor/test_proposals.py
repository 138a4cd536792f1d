"""The teacher's proposals: of the teacher that the served model learnt from, marked, and never a label."""

from pathlib import Path

import pytest

from bento.audit_records import audit_queue
from bento.errors import UserError
from bento.manifest import Manifest
from bento.records import labelled_rows
from tasks.monitor.proposals import propose
from tasks.store import run_step
from tests.logged import row, store
from tests.small import write_bert
from tests.tiny import write_tiny_model


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RETORT_DATABASE_URL", raising=False)


def model_of(folder: Path, teacher: str) -> Path:
    model = write_tiny_model(folder, labels=("blue", "green", "red"))
    manifest = Manifest.read(model)
    manifest.model_copy(update={"lineage": {"teacher": teacher}}).write(model)
    return model


def test_the_teacher_proposes_for_what_waits_once_and_nothing_becomes_a_label(tmp_path: Path) -> None:
    teacher = run_step(
        "teacher", kind="torch", inputs=[], config={}, code="tasks.types", make=lambda out, work: write_bert(out)
    ).artifact
    store(row("a", audit=True, text="a red car"), row("b", audit=True, text="a blue door"), row("c", text="not drawn"))
    model = model_of(tmp_path / "model", teacher.sha256)
    assert propose("tiny", model) == 2
    for queued in audit_queue("tiny", 10):
        assert queued["proposed_label"] in ("blue", "green", "red")
        assert 1 / 3 <= queued["proposed_probability"] <= 1
        assert queued["proposed_by"] == teacher.sha256
        assert queued["label"] == "refund"
    assert labelled_rows("tiny", 0) == []
    assert propose("tiny", model) == 0


def test_a_teacher_that_is_gone_is_said_and_nothing_is_proposed(tmp_path: Path) -> None:
    store(row("a", audit=True))
    with pytest.raises(UserError, match="gone or altered"):
        propose("tiny", model_of(tmp_path / "model", "f" * 64))
