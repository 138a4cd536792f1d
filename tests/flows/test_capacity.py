"""`retort capacity` and `retort autoscale`: from what was measured to what is printed, and the measurement itself."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from flows import capacity as flow
from flows.autoscale import compare, make_day, shipped
from flows.bench_serve.traffic import Outcome
from flows.capacity import Check, Measurement, fitted, machine, measurement, replica_of
from flows.cli import app
from flows.config import ServeConfig
from flows.show_capacity import show_autoscale, show_capacity
from tasks.capacity.replica import Replica
from tasks.capacity.traffic import Day
from tasks.release import ledger
from tasks.release.ledger import Champion
from tests.bento.conftest import write_tiny_model
from tests.tasks.capacity.made_up import replica

CHAMPION = Champion(name="tiny", version="1", model_sha256="a" * 64, model_path=Path("model"), bento="tiny:1")
CHECK = Check(
    per_s=50, utilisation=0.5, measured_utilisation=0.52, p50_ms=14, measured_p50_ms=15, p99_ms=40, measured_p99_ms=44,
    slow_share=0.001, measured_slow_share=0.002,
)  # fmt: skip


def measured(found: Replica | None = None, **changes: Any) -> Measurement:
    given: dict[str, Any] = {
        "name": "tiny", "model_sha256": "a" * 64, "machine": machine(), "measured_at": 0.0, "num_cores": 2, "load": 0.1,
        "replica": found or replica(), "wall_per_s": 95.0, "ready_s": 4.0,
    }  # fmt: skip
    return Measurement(**(given | changes))


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A champion whose replica was measured before."""
    monkeypatch.setenv("RETORT_HOME", str(tmp_path))
    monkeypatch.setattr(ledger, "require_champion", lambda name: CHAMPION)
    monkeypatch.setattr(flow, "texts_of", lambda champion: ["a text"])
    path = tmp_path / "capacity" / f"tiny-{'a' * 16}.json"
    path.parent.mkdir()
    path.write_text(measured(checks=(CHECK,)).model_dump_json(), encoding="utf-8")
    return path


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(words))
    return done.exit_code, done.output + str(done.exception or "")


def test_a_rate_gives_layouts_and_what_to_take(known: Path) -> None:
    code, text = run("capacity", "tiny", "--rate", "500", "--json")
    assert code == 0, text
    found = json.loads(text)
    assert found["layouts"][0]["replicas"] >= 3
    assert found["per_s"] == 500
    code, text = run("capacity", "tiny", "--rate", "500")
    assert code == 0, text
    assert "50% / 52%" in text
    assert "RETORT_THREADS=1" in text


def test_a_rate_or_the_log_has_to_be_named_and_the_log_has_to_have_traffic(known: Path) -> None:
    assert "expected --rate R or --from-log" in run("capacity", "tiny")[1]
    assert "expected --rate R or --from-log" in run("capacity", "tiny", "--rate", "1", "--from-log")[1]
    assert "expected a request log with traffic" in run("capacity", "tiny", "--from-log")[1]


@pytest.mark.parametrize(
    "words",
    [
        ("capacity", "tiny", "--rate", "inf"), ("capacity", "tiny", "--rate", "nan"),
        ("autoscale", "tiny", "--busiest", "inf"), ("autoscale", "tiny", "--busiest", "nan"),
        ("autoscale", "tiny", "--startup-s", "inf"), ("autoscale", "tiny", "--seed", "-1"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_number_that_no_day_has_is_refused_in_words(known: Path, words: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, list(words))
    assert (done.exit_code, "Invalid value for '--" in done.output) == (2, True)


def test_a_page_that_cannot_be_written_is_refused_before_the_day(known: Path, tmp_path: Path) -> None:
    assert "got a folder" in run("autoscale", "tiny", "--report", str(tmp_path))[1]


def test_a_day_in_a_file_is_simulated_under_both_shipped_policies_and_a_page_is_written(
    known: Path, tmp_path: Path
) -> None:
    day, page = tmp_path / "day.csv", tmp_path / "out" / "day.html"
    with day.open("w", newline="", encoding="utf-8") as lines:
        csv.writer(lines).writerows([("at", "requests"), (0, 30_000), (600, 300_000), (1_200, 0)])
    code, text = run("autoscale", "tiny", "--day", str(day), "--report", str(page), "--json")
    assert code == 0, text
    found = json.loads(text)
    assert [row["policy"] for row in found["policies"]] == ["HPA", "KEDA", "fixed, peak", "fixed, mean"]
    assert found["num_requests"] == 330_000
    peak, mean = found["policies"][2:]
    assert peak["met"]
    assert not mean["met"]
    assert peak["core_hours"] > found["foreseen_core_hours"] > mean["core_hours"] / 2
    assert "a day under an autoscaler" in page.read_text(encoding="utf-8")
    code, text = run("autoscale", "tiny", "--day", str(day))
    assert code == 0, text
    assert "▁" in text


def test_only_one_day_is_simulated_at_a_time(known: Path) -> None:
    assert (
        "expected one of --day, --from-log and --synthetic" in run("autoscale", "tiny", "--from-log", "--synthetic")[1]
    )


def test_tables_fit_a_terminal_of_eighty_columns(known: Path) -> None:
    result = json.loads(run("capacity", "tiny", "--rate", "5000", "--json")[1])
    day = Day(source="test", num_T=np.full(1_200, 300.0))
    found = compare(day, shipped(None), measured(), ServeConfig(), startup_s=30) | {"name": "tiny"}
    for show, value in ((show_capacity, result), (show_autoscale, found)):
        console = Console(width=80, record=True)
        show(value, console)
        assert "…" not in console.export_text()


def test_a_service_that_is_too_slow_for_its_promise_is_told_so(known: Path) -> None:
    found = measured(replica(base_ms=(60.0,)))
    known.write_text(found.model_dump_json(), encoding="utf-8")
    code, text = run("capacity", "tiny", "--rate", "5")
    assert (code, "a lone request is too slow already" in text) == (0, True)
    assert "promote a faster model" in run("autoscale", "tiny")[1]


def test_the_synthetic_day_suits_the_largest_fleet() -> None:
    found = replica()
    made = make_day(
        "tiny", None, from_log=False, busiest=None, replica=found, serve=ServeConfig(), policies=shipped(None),
        rng=np.random.default_rng(0),
    )  # fmt: skip
    assert made.busiest_per_s == pytest.approx(0.8 * 10 * found.highest_per_s(50, 0.99), rel=0.05)


def test_what_another_machine_measured_is_measured_again(known: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = measured(ready_s=9.0)
    monkeypatch.setattr(flow, "measure", lambda *_, **__: fresh)
    objectives = ServeConfig().objectives
    assert measurement(CHAMPION, [], objectives, again=False, check=False).ready_s == 4
    assert measurement(CHAMPION, [], objectives, again=True, check=False).ready_s == 9
    known.write_text(measured(machine="another").model_dump_json(), encoding="utf-8")
    assert measurement(CHAMPION, [], objectives, again=False, check=False).ready_s == 9
    assert json.loads(known.read_text(encoding="utf-8"))["ready_s"] == 9


def test_a_replica_is_made_of_its_threads_times() -> None:
    alone = Outcome(
        due_s_N=np.zeros(3), done_s_N=np.array([0.001, 0.002, 0.9]), status_N=np.full(3, 200), tries_N=np.ones(3, int),
        late_ms=0.0, generator_cpu_ms=0.0,
    )  # fmt: skip
    found = replica_of(1, [0.2, 0.3, 0.05], alone, np.array([0.1, 0.2, 0.6]))
    assert found.full_core_ms == pytest.approx(0.55)
    assert found.python_ms == pytest.approx(0.55 - 0.3), "what the model does not take, it may wait for"
    assert found.base_ms[25] == pytest.approx(2, abs=0.1), "the median that was measured, not the stall"
    assert max(found.base_ms) == pytest.approx(2.4, abs=0.1), "and what a longer text takes"


def test_a_replica_is_fitted_to_what_was_measured_at_one_rate() -> None:
    truth = replica(scv=3.0, light_core_ms=20.0)
    seen = CHECK.model_copy(
        update={
            "per_s": 60.0, "measured_utilisation": truth.utilisation(60), "measured_p99_ms": truth.latency_ms(60, 0.99)
        }
    )  # fmt: skip
    found = fitted(replica(scv=0.1), seen)
    assert (found.scv, found.light_core_ms) == (pytest.approx(3, rel=0.02), pytest.approx(20))
    calm = seen.model_copy(update={"measured_p99_ms": 1.0, "measured_utilisation": 0.1})
    assert fitted(truth, calm).scv == pytest.approx(3, rel=0.02), "never less than the texts' lengths explain"
    assert fitted(truth, calm).light_core_ms == truth.full_core_ms


def test_a_busy_machine_is_told_with_what_it_measured(known: Path) -> None:
    known.write_text(measured(load=15.0).model_dump_json(), encoding="utf-8")
    assert "Measure again (--measure) when it is idle" in run("capacity", "tiny", "--rate", "5")[1].replace("\n", " ")


@pytest.mark.slow
def test_a_real_service_is_measured_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_tiny_model(tmp_path / "model")
    champion = Champion(name="tiny", version="1", model_sha256="a" * 64, model_path=model, bento="tiny:1")
    for name, value in (
        ("NUM_WARM", 50),
        ("NUM_FULL", 400),
        ("NUM_ALONE", 100),
        ("CHECK_LOADS", (0.2,)),
        ("OPEN_S", 2.0),
    ):
        monkeypatch.setattr(flow, name, value)
    texts = [f"where is my card number {at}" for at in range(300)]
    found = flow.measure(champion, texts, ServeConfig().objectives, check=True)
    assert 100 < found.replica.max_per_s < 20_000
    assert found.replica.python_ms < found.replica.full_core_ms <= found.replica.light_core_ms
    assert 0 < found.ready_s < 60
    (check,) = found.checks
    assert 0 < check.measured_utilisation < 1
    assert 0.15 < check.utilisation < 0.8, "a fifth of what it takes when busy, and more as requests come alone"
