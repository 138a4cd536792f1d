"""What the commands share: one document, a champion or words, and progress on stderr."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bento.errors import UserError
from flows.cli import app
from flows.terminal import print_json, run_flow, show, show_progress


def test_a_flow_may_print_what_it_likes_and_stdout_holds_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    def flow() -> dict[Any, Any]:
        print("noise")  # noqa: T201
        return {"at": Path("a"), 1: "one"}

    show(run_flow(flow), lambda *_: pytest.fail("a table"), as_json=True)
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"at": "a", "1": "one"}
    assert printed.err == "noise\n"


def test_a_long_line_of_a_document_is_not_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"text": "word " * 100})
    assert json.loads(capsys.readouterr().out) == {"text": "word " * 100}


def test_bytes_that_are_no_text_still_give_a_document(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"error": "\udcff: expected a model", "at": Path("a\udcff"), "text": "où"})
    assert json.loads(capsys.readouterr().out) == {"error": "?: expected a model", "at": "a?", "text": "où"}


@pytest.mark.parametrize("command", [["promote", "\udcff", "1"], ["withdraw", "\udcff"], ["audit", "next", "\udcff"]])
def test_a_name_that_is_no_text_is_refused_before_any_database_is_asked(command: list[str]) -> None:
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, UserError)


def test_a_benchmark_tells_each_step_once_after_a_library_has_warned(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    show_progress()
    logging.warning("a weight of theirs")  # adds a handler of its own where the root has none
    logging.getLogger("retort.bench").info("quantize")
    printed = capsys.readouterr().err
    assert printed.count("quantize") == 1
    assert printed.count("a weight of theirs") == 1
