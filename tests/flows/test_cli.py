"""Exit codes, and one JSON document whatever happens."""

import json
from importlib.metadata import version

import pytest
from typer.testing import CliRunner

from bento.errors import ConfigError, ReleaseError
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
