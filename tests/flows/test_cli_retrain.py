"""`retort retrain`: what it passes on, and how it ends."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from flows import cli
from tests.terminal import SMOKE


def test_the_look_and_the_reason_are_passed_on_and_a_no_of_the_gate_is_its_exit_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[Any, ...]] = []

    def planted(*given: Any) -> dict[str, Any]:
        asked.append(given)
        return {"outcome": "blocked"}

    monkeypatch.setattr("flows.retrain.retrain", planted)
    done = CliRunner().invoke(cli.app, ["retrain", str(SMOKE), "--look", "7", "--why", "harm", "--json"])
    assert done.exit_code == 3
    assert json.loads(done.stdout) == {"outcome": "blocked"}
    assert asked == [(str(SMOKE), None, "harm", 7)]
