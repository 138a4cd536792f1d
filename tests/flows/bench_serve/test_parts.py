"""What each part says of its figures: targets at their bounds, peers that are not there, nothing that was not run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bento.cost import RunCost
from flows.bench_serve import closed, cost, open_loop, overload, soak
from flows.bench_serve.batching import Batches, by_cost, by_count, by_length, measure
from flows.bench_serve.bench import QUICK, Bench
from flows.bench_serve.closed import Repeat
from flows.bench_serve.contenders import BENTOML, LITSERVE, UVICORN
from flows.bench_serve.open_loop import Probe, highest_rate
from flows.bench_serve.systems import Absent, System
from flows.bench_serve.traffic import Outcome

OURS = Repeat(per_s=1_000, p99_ms=40, num_failed=0, core_ms=1.0, generator_ms=0.07)
FIELDS = {"metric", "value", "unit", "against", "ratio", "target", "met"}


def system(name: str) -> System:
    return System(name=name, setting="tuned", command=())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A bench whose peers are said, not found."""
    made = Bench(tmp_path, ["a", "b"], QUICK)
    made.__dict__["peers"] = {BENTOML: system(BENTOML), LITSERVE: Absent(reason="no network"), UVICORN: system(UVICORN)}
    return made


def of(rows: list[dict[str, Any]], words: str) -> list[dict[str, Any]]:
    return [row for row in rows if words in f"{row['metric']} {row['against']}"]


def test_the_closed_loop_meets_its_targets_at_their_bounds() -> None:
    half = [replace(OURS, per_s=400, p99_ms=80, core_ms=2.5)]
    rate, p99, cpu = closed.peer_rows(BENTOML, "stock BentoML, tuned", [OURS], half)
    assert (rate["ratio"], rate["target"], rate["met"]) == (2.5, ">= 2.5 times", True)
    assert (p99["ratio"], p99["target"], p99["met"]) == (2.0, ">= 2 times", True)
    assert (cpu["ratio"], cpu["met"]) == (2.5, None)
    missed = closed.peer_rows(BENTOML, "stock BentoML, tuned", [OURS], [replace(OURS, per_s=401, p99_ms=79)])
    assert [row["met"] for row in missed] == [False, False, None]


def test_a_lower_p99_than_litserve_is_enough_and_an_equal_one_is_not() -> None:
    (_, lower, _), (_, equal, _) = (
        closed.peer_rows(LITSERVE, LITSERVE, [OURS], [replace(OURS, p99_ms=p99_ms)]) for p99_ms in (41, 40)
    )
    assert (lower["target"], lower["met"], equal["met"]) == ("better", True, False)


def test_figures_are_medians_of_the_repeats_with_their_spread() -> None:
    repeats = [replace(OURS, per_s=per_s) for per_s in (900, 1_100, 1_000)]
    rate = closed.peer_rows(UVICORN, "uvicorn, tuned", repeats, [replace(OURS, per_s=500)])[0]
    assert (rate["value"], rate["ratio"]) == (1_000, 2.0)
    assert rate["against"] == "uvicorn, tuned: 500 (500-500)/s; here 1,000 (900-1,100)"


def test_a_peer_that_is_not_there_has_rows_that_say_why(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closed, "in_turns", lambda bench, *_: {name: [OURS] for name in bench.systems})
    rows = closed.closed_rows(bench)
    (absent,) = of(rows, LITSERVE)
    assert (absent["value"], absent["met"], absent["against"]) == (None, None, "not measured: no network")
    assert of(rows, "failed requests")[0]["met"] is True
    (absent,) = of(open_loop.kind_rows(bench, "Poisson", {name: [100.0] for name in bench.systems}), LITSERVE)
    assert absent["value"] is None
    assert all(row.keys() == FIELDS for row in rows)


def test_the_open_loop_has_to_beat_every_peer_and_stock_bentoml_clearly(bench: Bench) -> None:
    rates = {"Retort": [250.0], BENTOML: [100.0], UVICORN: [250.0]}
    stock, _, uvicorn = open_loop.kind_rows(bench, "bursty", rates)
    assert (stock["target"], stock["met"]) == (">= 2.5 times", True)
    assert (uvicorn["target"], uvicorn["met"]) == ("better", False)


def test_a_peer_that_never_is_in_time_is_beaten_and_ourselves_never_is_not(bench: Bench) -> None:
    beaten = open_loop.kind_rows(bench, "Poisson", {"Retort": [9.0], BENTOML: [0.0], UVICORN: [0.0]})
    assert [row["met"] for row in beaten] == [True, None, True]
    nothing = open_loop.kind_rows(bench, "Poisson", {"Retort": [0.0], BENTOML: [0.0], UVICORN: [0.0]})
    assert [row["met"] for row in nothing] == [False, None, False]


def probe(limit: float, first: float, num_probes: int) -> tuple[float, list[Probe]]:
    def one(rate: float) -> Probe:
        return Probe(rate=rate, p99_ms=10 if rate <= limit else 500, error_rate=0.0)

    return highest_rate(one, first, num_probes)


@pytest.mark.parametrize("first", [10.0, 90.0, 700.0])
def test_the_search_ends_close_below_the_highest_rate_that_passes(first: float) -> None:
    found, tried = probe(100.0, first, 12)
    assert 95 < found <= 100
    assert len(tried) == 12


def test_the_search_finds_nothing_where_nothing_passes() -> None:
    assert probe(0.0, 100.0, 5)[0] == 0.0


@pytest.mark.parametrize(
    ("p99_ms", "error_rate", "passed"),
    [(50, 0.001, True), (51, 0, False), (10, 0.0011, False), (float("nan"), 0, False)],
)
def test_a_rate_passes_by_its_p99_and_its_errors(p99_ms: float, error_rate: float, passed: bool) -> None:
    assert Probe(rate=1, p99_ms=p99_ms, error_rate=error_rate).passed is passed


def outcome(status: list[int], latency_s: list[float], due_s: list[float]) -> Outcome:
    return Outcome(
        due_s_N=np.array(due_s), done_s_N=np.array(due_s) + latency_s, status_N=np.array(status),
        tries_N=np.ones(len(status), dtype=int), late_ms=0.0, generator_cpu_ms=0.1,
    )  # fmt: skip


def test_overload_counts_good_answers_of_its_time_alone() -> None:
    found = outcome([200, 200, 200, 429, 503], [0.1, 2.0, 0.9, 0.01, 0.02], [0.0, 0.1, 0.5, 0.2, 0.3])
    good, p99, share, refused, _, other = overload.rows_of(found, peaks=[0.5, 1.0, 9.0], seconds=1.0, title="Retort")
    assert (good["value"], good["ratio"], good["met"]) == (1.0, 1.0, True)
    assert (p99["met"], refused["met"]) == (False, True)
    assert share["value"] == 20
    assert (other["value"], other["met"]) == (1, False)


def test_overload_without_a_refusal_says_nothing_of_their_time() -> None:
    rows = overload.rows_of(outcome([200], [0.1], [0.0]), peaks=[1.0], seconds=1.0, title="Retort")
    assert (rows[3]["value"], rows[3]["met"]) == (None, None)


def soaked(resident_mb: list[float], failed: int = 0) -> list[dict[str, float]]:
    """Slices of half load; all that failed, in the last of them."""
    slices = [{"per_s": 9.0, "p99_ms": 5.0, "failed": 0.0, "resident_mb": each} for each in resident_mb]
    slices[-1]["failed"] = failed
    return slices


def test_memory_that_grows_is_seen_and_the_first_tenth_is_forgiven() -> None:
    flat = [50.0, *[100.0] * 18, 104.0]
    growing = [100.0 + at for at in range(20)]
    assert soak.rows_of(soaked(flat), 9.0, 20)[0]["met"] is True
    assert soak.rows_of(soaked(growing), 9.0, 20)[0]["met"] is False
    _, failed, p99 = soak.rows_of(soaked(flat, failed=3), 9.0, 20)
    assert (failed["value"], failed["met"]) == (3, False)
    assert p99["value"] == 5.0


def test_a_soak_that_was_not_asked_for_says_so(bench: Bench) -> None:
    (row,) = soak.soak_rows(bench)
    assert (row["value"], row["met"]) == (None, None)
    assert "--soak-minutes 60" in row["against"]


def test_pieces_of_cpu_time_add_up_to_all_that_was_used() -> None:
    process = {
        "process_s": 10.0, "threads_s": {"MainThread": 4.0, "worker": 5.0},
        "pieces_s": [["MainThread", "JSON", 1.0], ["worker", "ONNX Runtime", 4.5]],
    }  # fmt: skip
    found = cost.breakdown([process, process])
    assert sum(found.values()) == 20
    assert found["JSON"] == 2
    assert found["event loop, handlers, validation"] == 6
    assert found["thread worker, rest"] == 1
    assert found["their own threads"] == 2


def test_the_cost_is_what_the_model_does_not_take(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    model = {"ONNX Runtime": 0.5, "tokeniser": 0.1, "their own threads": 0.05}
    runs = iter([model | {"JSON": 0.35}, model | {"JSON": 0.2}, model | {"JSON": 0.9}])
    monkeypatch.setattr(cost, "measure", lambda bench: next(runs))
    bench.effort = replace(QUICK, repeats=3)
    first, *pieces = cost.cost_rows(bench)
    assert (first["value"], first["met"]) == (pytest.approx(0.35), True)
    assert "repeats 0.200-0.900" in first["against"]
    assert [row["metric"] for row in pieces][:2] == ["CPU: ONNX Runtime", "CPU: JSON"]
    over = cost.rows_of({"ONNX Runtime": 0.5, "JSON": 0.36}, least_ms=0.36, greatest_ms=0.36)
    assert over[0]["met"] is False


LENGTHS = [5, 30, 6, 31, 7, 200, 5]


@pytest.mark.parametrize("way", [by_length(64), by_cost(RunCost(), 64)])
def test_batches_stay_within_their_tokens_and_hold_each_text_once(way: Batches) -> None:
    batches = list(way(LENGTHS))
    assert sorted(at for rows in batches for at in rows) == list(range(len(LENGTHS)))
    assert all(len(rows) == 1 or len(rows) * max(LENGTHS[at] for at in rows) <= 64 for rows in batches)
    assert [5] in batches


def test_batches_by_count_keep_the_order() -> None:
    assert list(by_count(3)(LENGTHS)) == [[0, 1, 2], [3, 4, 5], [6]]


def test_every_way_of_batching_is_timed(model: Path) -> None:
    from bento.predictor import Predictor

    ways = {"none": by_count(1), "64": by_cost(RunCost(), 64)}
    per_s = measure(Predictor(model), ["my card", "help"] * 20, ways, repeats=2)
    assert per_s.keys() == {"none", "64"}
    assert all(value > 0 for value in per_s.values())
