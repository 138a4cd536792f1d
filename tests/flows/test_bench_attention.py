"""The attention benchmark: what its figures mean, and one run of it on a small model."""

from pathlib import Path

import onnx
import pytest

from flows.bench_attention import Curves, crossing, exponent, measure, rows, write_models
from tasks.attention_speed import peak_bytes
from tasks.compress.linformer import Linformer

LENGTHS = (128, 256, 512, 1024)
TINY = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}


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
    square, line = {n: n**2 / 100 for n in LENGTHS}, {n: 3.0 * n for n in LENGTHS}
    found = {
        one["metric"]: one
        for one in rows(Curves(ms={"full": square, "linformer": line}, mb={"full": square, "linformer": line}))
    }
    assert found["time, 1,024 tokens"]["ratio"] == pytest.approx(1024 / 300)
    assert found["memory, 512 tokens"]["against"] == "full attention: 2,621 MB"
    assert found["exponent of memory, full attention"]["value"] == pytest.approx(2)
    assert found["exponent of time, Linformer"]["met"]
    assert found["Linformer is faster from"]["value"] == pytest.approx(300)
    never = rows(Curves(ms={"full": line, "linformer": square}, mb={"full": line, "linformer": square}))
    assert [one["met"] for one in never if "exponent" in one["metric"]] == [False] * 4
    crossed = rows(
        Curves(ms={"full": line, "linformer": {n: 4.0 * n for n in LENGTHS}}, mb={"full": line, "linformer": line})
    )[-1]
    assert (crossed["value"], crossed["met"], crossed["against"]) == (None, False, "never up to 1,024")


def test_a_small_model_is_timed_and_weighed_at_each_length(tmp_path: Path) -> None:
    models = write_models(Linformer(projected_length=16), tmp_path, longest=512, sizes=TINY)
    operators = {name: {node.op_type for node in onnx.load(path).graph.node} for name, path in models.items()}
    assert "Attention" in operators["full"]
    assert "Attention" not in operators["linformer"]
    curves = measure(models, timed=(16, 512), weighed=(64, 512), budget_s=0)
    assert set(curves.ms) == set(curves.mb) == {"full", "linformer"}
    assert all(list(values) == [16, 512] and min(values.values()) > 0 for values in curves.ms.values())
    assert all(list(values) == [64, 512] for values in curves.mb.values())


def test_the_peak_holds_the_scores_of_full_attention(tmp_path: Path) -> None:
    model = write_models(Linformer(projected_length=16), tmp_path, longest=2048, sizes=TINY)["full"]
    scores_bytes = 2048**2 * TINY["num_attention_heads"] * 4
    assert scores_bytes < peak_bytes(model, 2048) < 4 * scores_bytes
