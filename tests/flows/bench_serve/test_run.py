"""The whole: parts that can be chosen, what is saved, and what the command line refuses."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bento.errors import RetortError, UserError
from flows.bench import row
from flows.bench_serve import run
from flows.bench_serve.bench import QUICK, Bench, Effort
from flows.config import load_config

QUICKSTART = Path(__file__).parents[3] / "configs" / "quickstart.yaml"
DETAILS = {
    "closed": {"Retort": [{"per_s": 900.0}, {"per_s": 1_000.0}], "uvicorn": [{"per_s": 500.0}]},
    "open": {"Poisson": {"Retort": [{"rate": 100.0, "passed": True}, {"rate": 200.0, "passed": False}]}},
    "batching": {"none_per_s": 900.0, "per_s": [(16, 800.0), (64, 1_200.0)]},
}


def part(bench: Bench) -> list[dict[str, Any]]:
    bench.details.update(DETAILS)
    return [row("requests", bench.effort.num_requests, "")]


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """One quick part in place of all, and a champion in place of the ledger's."""
    monkeypatch.setenv("RETORT_HOME", str(tmp_path))
    monkeypatch.setattr(run, "PARTS", {"first": part, "second": lambda bench: []})
    monkeypatch.setattr(run, "make_bench", lambda chosen, effort: Bench(tmp_path, ["a"], effort))
    return tmp_path


def test_figures_are_saved_as_json_and_as_a_picture(planted: Path) -> None:
    found = run.bench_serve(load_config(QUICKSTART), quick=True, only="first")
    assert [one["metric"] for one in found["rows"]] == ["load of the machine before this run", "requests"]
    assert found["rows"][1]["value"] == QUICK.num_requests
    saved = json.loads((planted / "bench" / "serve.json").read_text())
    assert saved["rows"] == found["rows"]
    assert (planted / "bench" / "serve.png").read_bytes().startswith(b"\x89PNG")


def test_a_part_that_fails_says_so_and_the_others_are_measured(planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(bench: Bench) -> list[dict[str, Any]]:
        raise RetortError("Retort was not ready")

    monkeypatch.setattr(run, "PARTS", {"broken": fail, "first": part})
    _, broken, requests = run.bench_serve(load_config(QUICKSTART))["rows"]
    assert (broken["value"], broken["met"], broken["against"]) == (None, False, "Retort was not ready")
    assert requests["value"] == Effort().num_requests


def test_a_full_run_has_the_requests_and_repeats_of_the_protocol() -> None:
    effort = Effort()
    assert effort.num_requests >= 10_000
    assert effort.repeats >= 5
    assert effort.overload_s >= 60


def test_fewer_repeats_are_asked_for_without_fewer_requests() -> None:
    assert run.effort_of(False, 3, 2) == replace(Effort(), soak_minutes=3, repeats=2, open_repeats=2)
    assert run.effort_of(True, 0, None) == QUICK


def test_parts_come_in_their_order_and_all_by_default() -> None:
    assert run.chosen_parts("") == list(run.PARTS)
    assert run.chosen_parts("open, closed") == ["closed", "open"]


def test_an_unknown_part_is_refused_before_anything_runs() -> None:
    with pytest.raises(UserError, match=r"expected --only of start, closed, .*, got opne"):
        run.bench_serve(load_config(QUICKSTART), only="opne")


def test_without_a_champion_it_says_how_to_make_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_HOME", str(tmp_path))
    with pytest.raises(UserError, match="quickstart has no champion; `retort run CONFIG` makes one"):
        run.bench_serve(load_config(QUICKSTART))


@pytest.mark.parametrize("option", [["--quick"], ["--only", "closed"], ["--soak-minutes", "1"], ["--repeats", "2"]])
def test_its_options_belong_to_no_other_benchmark(option: list[str]) -> None:
    from flows.cli import app

    result = CliRunner().invoke(app, ["bench", "gate", "--config", str(QUICKSTART), *option])
    assert isinstance(result.exception, UserError)
    assert "with serve" in str(result.exception)
