import itertools
from pathlib import Path

import numpy as np
import pytest

from tasks.latency_table import (
    MAX_ROUNDS,
    MIN_ROUNDS,
    NUM_COPIES,
    Geometry,
    LatencyTable,
    Part,
    cheapest,
    cpu_name,
    measure,
    measure_table,
    measured_table,
    part_graph,
    read_table,
    rising,
    timed,
)

GEOMETRY = Geometry(hidden_size=32, head_size=16, num_heads=2, num_neurons=64, num_classes=3, num_tokens=7, threads=1)


class Clock:
    """Time that passes only where a run says so."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def run(self, times_ms: list[float]) -> None:
        self.now_s += times_ms.pop(0) / 1e3 if len(times_ms) > 1 else times_ms[0] / 1e3


def test_a_part_takes_the_median_of_its_rounds_without_the_first_run() -> None:
    clock = Clock()
    slow_start, hiccup = [900.0, 2.0], [1.0, 1.0, 1.0, 500.0, 1.0]
    runs = {("heads", 1): lambda: clock.run(slow_start), ("heads", 2): lambda: clock.run(hiccup)}
    found = measure(runs, seconds=60, clock=clock)
    assert found == {("heads", 1): pytest.approx(2.0), ("heads", 2): pytest.approx(1.0)}


def test_rounds_end_with_the_time_but_are_never_too_few_nor_endless() -> None:
    for seconds, rounds in ((0.0, MIN_ROUNDS), (1e9, MAX_ROUNDS)):
        clock, order = Clock(), []

        def run(name: str, clock: Clock = clock, order: list[str] = order) -> None:
            order.append(name)
            clock.run([10.0])

        runs: dict[Part, object] = {("heads", 1): lambda: run("a"), ("heads", 2): lambda: run("b")}
        measure(runs, seconds=seconds, clock=clock)
        assert order == ["a", "b"] * (rounds + 1)


def test_every_size_is_built_run_and_told_per_layer_without_the_call_itself() -> None:
    ticks = itertools.count()
    table = measure_table(GEOMETRY, "a cpu", clock=lambda: float(next(ticks)), seconds=0)
    assert table.cpu == "a cpu"
    assert table.heads == timed(2) == (1, 2)
    assert table.neurons == timed(64)
    assert table.rest_ms == 1000.0
    assert table.attention_ms == pytest.approx((1e-6, 1e-6)), "each call took one tick, as an empty one does"


@pytest.mark.parametrize("count", [1, 2, 12, 64, 1536, 3072])
def test_timed_sizes_reach_all_that_there_is(count: int) -> None:
    sizes = timed(count)
    assert sizes[-1] == count
    assert sizes[0] >= 1
    assert len(sizes) <= 9


def test_a_graph_holds_the_deployed_operators_with_matrices_of_the_size() -> None:
    norm = ["Add", "Add", "LayerNormalization"]
    heads, neurons = part_graph(("heads", 1), GEOMETRY), part_graph(("neurons", 48), GEOMETRY)
    assert [node.op_type for node in heads.graph.node] == NUM_COPIES * ["Attention", "MatMul", *norm]
    assert [node.op_type for node in neurons.graph.node] == NUM_COPIES * ["MatMul", "BiasGelu", "MatMul", *norm]
    shapes = [tuple(weight.dims) for graph in (heads, neurons) for weight in graph.graph.initializer]
    assert {(32, 48), (16, 32), (48, 32)} <= set(shapes)


def test_a_models_time_is_its_layers_and_the_rest_with_sizes_in_between_interpolated() -> None:
    table = LatencyTable(
        cpu="a cpu", heads=(1, 3), attention_ms=(1.0, 2.0), neurons=(10, 20), feed_forward_ms=(3.0, 5.0), rest_ms=0.5
    )
    assert table.layer_ms(2, 15) == pytest.approx(1.5 + 4.0)
    assert table.model_ms([(2, 15), (3, 20)]) == pytest.approx(0.5 + 5.5 + 7.0)


def test_noise_never_makes_more_take_less() -> None:
    assert rising([1.0, 3.0, 2.0, 4.0]) == pytest.approx((1.0, 2.5, 2.5, 4.0))
    assert min(rising([-1.0, 0.5])) > 0


def brute_force(costs: list[list[float]], losses: list[list[float]], budget: float) -> float:
    def total(values: list[list[float]], picks: tuple[int, ...]) -> float:
        return sum(group[pick] for group, pick in zip(values, picks, strict=True))

    all_picks = itertools.product(*(range(len(cost)) for cost in costs))
    return min((total(losses, picks) for picks in all_picks if total(costs, picks) <= budget), default=np.inf)


@pytest.mark.parametrize("seed", range(20))
def test_the_choice_is_the_best_of_all_there_are(seed: int) -> None:
    rng = np.random.default_rng(seed)
    costs = [rng.integers(0, 50, size=rng.integers(1, 6)).tolist() for _ in range(4)]
    losses = [rng.random(len(cost)).tolist() for cost in costs]
    budget = float(rng.integers(20, 160))
    picks = cheapest(costs, losses, budget)
    expected = brute_force(costs, losses, budget)
    if picks is None:
        assert expected == np.inf
        return
    assert sum(loss[pick] for loss, pick in zip(losses, picks, strict=True)) == pytest.approx(expected)
    assert sum(cost[pick] for cost, pick in zip(costs, picks, strict=True)) <= budget + 1e-9


def test_a_table_is_measured_once_on_a_cpu_and_anew_on_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_HOME", str(tmp_path))
    measured: list[str] = []

    def fake(_geometry: Geometry, cpu: str) -> LatencyTable:
        measured.append(cpu)
        return LatencyTable(cpu=cpu, heads=(1,), attention_ms=(1.0,), neurons=(1,), feed_forward_ms=(1.0,), rest_ms=1.0)

    monkeypatch.setattr("tasks.latency_table.measure_table", fake)
    assert read_table(measured_table(GEOMETRY)).cpu == cpu_name()
    assert measured_table(GEOMETRY) == measured_table(GEOMETRY)
    monkeypatch.setattr("tasks.latency_table.cpu_name", lambda: "another")
    assert read_table(measured_table(GEOMETRY)).cpu == "another"
    assert len(measured) == 2
