"""Exit codes, and one JSON document whatever happens."""

import json
import socket
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bento.errors import ConfigError, ReleaseError, UserError
from flows import cli


def fail_with(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def planted() -> None:
        raise error

    monkeypatch.setattr(cli, "app", planted)
    monkeypatch.setattr("sys.argv", ["retort", "run", "x.yaml", "--json"])


@pytest.mark.parametrize(("error", "code"), [(ConfigError("no such key"), 2), (ReleaseError("the pointer moved"), 1)])
def test_an_error_in_words_is_a_document_and_an_exit_code(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(error, monkeypatch)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    printed = capsys.readouterr()
    assert caught.value.code == code
    assert json.loads(printed.out) == {"outcome": "failed", "error": str(error)}
    assert str(error) in printed.err


def test_a_fault_of_our_own_is_a_document_too_and_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(ZeroDivisionError("planted"), monkeypatch)
    with pytest.raises(ZeroDivisionError):
        cli.main()
    assert json.loads(capsys.readouterr().out) == {"outcome": "failed", "error": "ZeroDivisionError: planted"}


def test_a_prefect_server_that_does_not_answer_is_told_in_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(RuntimeError("Failed to reach API at http://127.0.0.1:9/api/"), monkeypatch)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 1
    assert "run this again" in json.loads(capsys.readouterr().out)["error"]


def test_the_version_is_that_of_the_package() -> None:
    done = CliRunner().invoke(cli.app, ["--version"])
    assert done.exit_code == 0
    assert done.stdout == f"retort {version('retort')}\n"


def test_a_database_that_is_none_is_told_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = tmp_path / "retort.db"
    damaged.write_text("no database" * 100, encoding="utf-8")
    monkeypatch.setenv("RETORT_DATABASE_URL", f"sqlite:///{damaged}")
    monkeypatch.setattr("sys.argv", ["retort", "score", "demo", "in.csv", "out.csv"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 1
    assert "retort score: expected Retort's database" in capsys.readouterr().err


def test_a_port_that_is_taken_or_none_is_refused_before_the_service_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.release.ledger.require_champion", lambda name, purpose: None)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        found = CliRunner().invoke(cli.app, ["serve", "demo", "--port", str(taken.getsockname()[1])])
    assert isinstance(found.exception, UserError)
    assert "choose another" in str(found.exception)
    assert CliRunner().invoke(cli.app, ["serve", "demo", "--port", "99999"]).exit_code == 2


@pytest.mark.parametrize(
    "words", [("--rows", "1"), ("--rows", "100000000000"), ("--period", "-1"), ("--period", "99"), ("--seed", "-1")]
)
def test_synthetic_messages_have_the_bounds_of_a_config_s_and_leave_nothing(
    words: tuple[str, str], tmp_path: Path
) -> None:
    done = CliRunner().invoke(cli.app, ["synthesize", str(tmp_path / "new"), *words])
    assert (done.exit_code, "Invalid value for '--" in done.output) == (2, True)
    assert list(tmp_path.iterdir()) == []
