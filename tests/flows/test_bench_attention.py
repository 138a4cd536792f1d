"""The attention benchmark: what its figures mean, and one run of it on a small model."""

from pathlib import Path

import onnx
import pytest

from flows.bench_attention import (
    crossing,
    exponent,
    memory_rows,
    time_models,
    time_rows,
    weigh_models,
    write_models,
)
from tasks.attention_speed import peak_bytes
from tasks.compress.linformer import Linformer, write_int8

LENGTHS = (128, 256, 512, 1024)
TINY = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}


def test_an_exponent_is_the_power_of_the_greatest_lengths() -> None:
    assert exponent({n: 3.0 * n for n in LENGTHS}) == pytest.approx(1)
    assert exponent({n: 0.5 * n**2 for n in LENGTHS}) == pytest.approx(2)
    assert exponent({128: 1e9} | {n: float(n**2) for n in LENGTHS[1:]}) == pytest.approx(2)


def test_the_crossing_is_where_two_powers_meet() -> None:
    full = {n: float(n**2) for n in LENGTHS}
    assert crossing(full, {n: 300.0 * n for n in LENGTHS}) == pytest.approx(300)


def test_the_crossing_is_behind_the_last_length_at_which_full_attention_is_faster() -> None:
    full = dict.fromkeys(LENGTHS, 1.0)
    assert 512 < (crossing(full, {128: 0.5, 256: 0.5, 512: 1.1, 1024: 0.9}) or 0) < 1024
    assert crossing(full, dict.fromkeys(LENGTHS, 0.5)) == 128
    assert crossing(full, {128: 0.5, 256: 0.5, 512: 0.5, 1024: 1.0}) is None


def test_rows_name_the_baseline_and_whether_the_targets_are_met() -> None:
    square, line = {n: n**2 / 100.0 for n in LENGTHS}, {n: 3.0 * n for n in LENGTHS}
    given = {"full": square, "linformer": line}
    found = {one["metric"]: one for one in time_rows("int8", given) + memory_rows("float32", given)}
    assert found["int8 time, 1,024 tokens"]["ratio"] == pytest.approx(1024 / 300)
    assert found["float32 memory, 512 tokens"]["against"] == "full attention: 2,621 MB"
    assert found["exponent of float32 memory, full attention"]["value"] == pytest.approx(2)
    assert found["exponent of int8 time, Linformer"]["met"]
    assert found["int8: Linformer is faster from"]["value"] == pytest.approx(300)
    assert memory_rows("float32", {"full": square | {128: 0.0}, "linformer": line})[0]["ratio"] is None
    never = time_rows("int8", {"full": line, "linformer": {n: n**2 for n in LENGTHS}})
    assert [one["met"] for one in never if "exponent" in one["metric"]] == [False, False]
    assert never[-1] | {"value": None, "met": False, "against": "never up to 1,024"} == never[-1]


def test_a_small_model_is_timed_and_weighed_at_each_length(tmp_path: Path) -> None:
    models = write_models(Linformer(projected_length=16), tmp_path, longest=512, sizes=TINY)
    operators = {name: {node.op_type for node in onnx.load(path).graph.node} for name, path in models.items()}
    assert "Attention" in operators["full"]
    assert "Attention" not in operators["linformer"]
    for timed in (models, {name: write_int8(path) for name, path in models.items()}):
        ms = time_models(timed, (16, 512), budget_s=0)
        assert set(ms) == {"full", "linformer"}
        assert all(list(values) == [16, 512] and min(values.values()) > 0 for values in ms.values())
    mb = weigh_models(models, (64, 512))
    assert all(list(values) == [64, 512] for values in mb.values())


def test_the_peak_holds_the_scores_of_full_attention(tmp_path: Path) -> None:
    model = write_models(Linformer(projected_length=16), tmp_path, longest=2048, sizes=TINY)["full"]
    scores_bytes = 2048**2 * TINY["num_attention_heads"] * 4
    assert scores_bytes < peak_bytes(model, 2048) < 4 * scores_bytes
