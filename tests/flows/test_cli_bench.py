"""`retort bench`: an option goes with its benchmark and with no other."""

from typing import Any

import pytest
from typer.testing import CliRunner

from bento.errors import UserError
from flows.bench import BENCHMARKS
from flows.cli import app
from flows.cli_bench import OPTIONS, chosen_options


def test_each_benchmark_gets_what_was_given_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setitem(BENCHMARKS, "serve", lambda chosen, **given: asked.update(given) or {"title": "", "rows": []})
    done = CliRunner().invoke(app, ["bench", "serve", "--only", "closed", "--repeats", "2", "--json"])
    assert done.exit_code == 0, done.exception
    assert asked == {"only": "closed", "repeats": 2}


@pytest.mark.parametrize(
    ("what", "option", "owners"),
    [("gate", "quick", "serve or drift"), ("drift", "soak_minutes", "serve"), ("serve", "data", "drift")],
)
def test_an_option_of_another_benchmark_is_refused_by_its_owners_name(what: str, option: str, owners: str) -> None:
    said = f"bench: expected --{option.replace('_', '-')} with {owners}, got it with {what}"
    with pytest.raises(UserError, match=said):
        chosen_options(what, {option: 1})


def test_options_are_of_benchmarks_that_there_are() -> None:
    assert OPTIONS.keys() < BENCHMARKS.keys()
