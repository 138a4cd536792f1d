"""`retort audit`: the queue in the terminal, and labels in and out of it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bento.audit_records import add_targets
from bento.errors import UserError
from bento.records import add_feedback
from flows.cli import app
from tasks.release import ledger
from tasks.release.ledger import Champion
from tests.logged import row, store

RUN = CliRunner()


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RETORT_DATABASE_URL", raising=False)
    store(row("a", audit=True, text="[bold]my card"), row("b", audit=True), row("c"))


@pytest.fixture
def champion_without_requests(tmp_path: Path) -> None:
    new = Champion(name="new", version="1", model_sha256="0" * 64, model_path=tmp_path, bento="new:1")
    ledger.swap_champion(new, expected=None, action="promote", who="ada", why="first", evidence={})


def run(*arguments: str) -> str:
    result = RUN.invoke(app, ["audit", *arguments])
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_next_shows_the_oldest_text_as_it_is() -> None:
    assert run("next", "tiny") == "a 0  refund  [bold]my card\n"
    assert [each["request_id"] for each in json.loads(run("next", "tiny", "--limit", "9", "--json"))] == ["a", "b"]


@pytest.mark.parametrize("limit", ["99999999999999999999", "-1", "0"])
def test_a_limit_that_no_queue_has_is_refused(limit: str) -> None:
    done = RUN.invoke(app, ["audit", "next", "tiny", "--limit", limit])
    assert (done.exit_code, "Invalid value for '--" in done.output) == (2, True)


def test_labels_go_out_and_come_in_and_the_status_follows(tmp_path: Path) -> None:
    out = tmp_path / "queue.csv"
    assert run("export", "tiny", str(out)) == f"2 rows written to {out}\n"
    out.write_text(out.read_text().replace("refund,,", "refund,,lost"))
    assert run("import", "tiny", str(out)) == "2 taken\n"
    add_targets("tiny", [("c", 0)], "drifted")
    assert json.loads(run("status", "tiny", "--json")) == {
        "random_waiting": 0, "random_labelled": 2, "targeted_waiting": 1, "targeted_labelled": 0, "corrected": 0,
    }  # fmt: skip
    assert "1 targeted wait" in run("status", "tiny")


def test_refusals_are_told_and_replace_corrects(tmp_path: Path) -> None:
    add_feedback("tiny", "a", 0, "refund", 1.0)
    source = tmp_path / "in.jsonl"
    source.write_text('{"request_id": "a", "label": "lost"}\n{"request_id": "nobody", "label": "lost"}\n')
    assert run("import", "tiny", str(source)) == "0 taken, 1 unknown, 1 contradicting\n"
    done = json.loads(run("import", "tiny", str(source), "--replace", "--json"))
    assert (done["replaced"], done["unknown"], done["refused"]) == (1, 1, 1)


def test_a_format_that_is_none_is_refused_with_the_list(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="jsonl, csv, label-studio, argilla, got 'xml'"):
        run("export", "tiny", str(tmp_path / "x"), "--format", "xml")


@pytest.mark.parametrize("command", ["next", "status", "export", "import"])
def test_a_name_that_never_answered_and_has_no_champion_is_refused(command: str, tmp_path: Path) -> None:
    out = tmp_path / "queue.jsonl"
    with pytest.raises(UserError, match="nope has no champion and no request in the log"):
        run(command, "nope", *([str(out)] if command in ("export", "import") else []))
    assert not out.exists()


@pytest.mark.usefixtures("champion_without_requests")
def test_a_champion_that_has_not_answered_yet_has_an_empty_queue() -> None:
    assert json.loads(run("next", "new", "--json")) == []
    assert "0 drawn at random wait" in run("status", "new")


def test_proposals_need_a_champion(tmp_path: Path) -> None:
    config = Path(__file__).resolve().parents[2] / "configs" / "smoke.yaml"
    with pytest.raises(UserError, match="has no champion whose teacher"):
        run("propose", str(config))
