"""Every scheme on a real small encoder: smaller and near the float answers; input that cannot work is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from bento.errors import RetortError, UserError
from bento.manifest import ONNX_FILE, Manifest, folder_sha256
from bento.predictor import Predictor
from tasks.compress.context import Context
from tasks.compress.quantize import METHODS, Quantize
from tasks.data import read_split
from tasks.quantization.invariance import check_batch_invariance, in_one_batch, largest_shift
from tasks.quantization.workbench import Workbench
from tasks.store import run_step
from tasks.types import Artifact

SCHEMES: dict[str, tuple[dict[str, Any], float, float]] = {
    "int8_dynamic": ({}, 0.28, 0.05),
    "min_max": ({"scheme": "int8_static", "calibration": "min_max"}, 0.28, 0.1),
    "percentile": ({"scheme": "int8_static", "calibration": "percentile", "percentile": 99.9}, 0.28, 0.2),
    "entropy": ({"scheme": "int8_static", "calibration": "entropy"}, 0.28, 0.3),
    "small table": ({"embedding_bits": 4}, 0.16, 0.3),
    "small weights": ({"weight_bits": 4}, 0.28, 0.4),
    "weights": ({"scheme": "weight_only"}, 0.28, 0.03),
    "four bits": ({"scheme": "weight_only", "weight_bits": 4, "embedding_bits": 4}, 0.15, 0.4),
    "float16": ({"scheme": "float16"}, 0.51, 0.003),
}
"""Name -> fields, largest share of the float file's size, largest shift of a logit relative to their spread."""


def quantized(exported: Artifact, context: Context, **fields: Any) -> Path:
    return Quantize(**fields).run(exported, context).artifact.path


@pytest.fixture(scope="module")
def texts(context: Context) -> list[str]:
    texts = read_split(context.data.path, "test").texts
    return [*texts, "red", "the blue lamp and the green car over there"]


@pytest.mark.parametrize("name", SCHEMES)
def test_a_scheme_is_smaller_and_answers_nearly_as_in_float(
    name: str, exported: Artifact, context: Context, texts: list[str]
) -> None:
    fields, share, limit = SCHEMES[name]
    folder = quantized(exported, context, **fields)
    Manifest.read(folder).check(folder)
    sizes = [(path / ONNX_FILE).stat().st_size for path in (folder, exported.path)]
    assert sizes[0] < share * sizes[1]
    float_NC, found_NC = (Predictor(path).predict_logits(texts) for path in (exported.path, folder))
    assert 0 < np.abs(found_NC - float_NC).max() < limit * (float_NC.max() - float_NC.min())


def test_the_manifest_says_what_was_done(exported: Artifact, context: Context) -> None:
    folder = quantized(exported, context, scheme="int8_static", batch_invariant=True)
    lineage = Manifest.read(folder).lineage
    assert lineage["onnx"] == exported.sha256
    assert lineage["data"] == context.data.sha256
    assert (lineage["scheme"], lineage["batch_invariant"], lineage["raised"]) == ("int8_static", True, {})


def test_static_answers_are_the_same_bits_in_every_batch_and_dynamic_ones_are_not(
    exported: Artifact, context: Context, texts: list[str]
) -> None:
    static = Predictor(quantized(exported, context, scheme="int8_static", batch_invariant=True))
    dynamic = Predictor(quantized(exported, context))
    for seed in range(3):
        for predictor, moves in ((static, False), (dynamic, True)):
            shift = largest_shift(in_one_batch(predictor.predict_logits), texts, np.random.default_rng(seed))
            assert (shift > 0) is moves
    with pytest.raises(RetortError, match="same in every batch, got a difference"):
        check_batch_invariance(dynamic, texts, np.random.default_rng(0))


@pytest.mark.parametrize("fields", [{"scheme": "weight_only"}, {"scheme": "float16"}])
def test_schemes_that_compute_in_float_can_promise_it_too(
    fields: dict[str, Any], exported: Artifact, context: Context
) -> None:
    folder = quantized(exported, context, batch_invariant=True, **fields)
    assert Manifest.read(folder).lineage["batch_invariant"]


def test_calibration_draws_the_same_rows_again(
    exported: Artifact, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"scheme": "int8_static", "calibration": "entropy", "calibration_rows": 5}
    first = quantized(exported, context, **fields)
    monkeypatch.setenv("RETORT_HOME", str(tmp_path))
    assert folder_sha256(quantized(exported, context, **fields)) == folder_sha256(first)
    assert folder_sha256(quantized(exported, replace(context, seed=1), **fields)) != folder_sha256(first)


@pytest.mark.parametrize("best", METHODS)
def test_a_searched_calibration_is_the_one_that_loses_least_on_validation(
    best: str, exported: Artifact, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([0.02 - 0.01 * (method == best) for method in METHODS])
    expected = quantized(exported, context, scheme="int8_static", calibration=best)
    monkeypatch.setenv("RETORT_HOME", str(tmp_path))
    monkeypatch.setattr(Workbench, "drop", lambda *_: next(losses))
    found = quantized(exported, context, scheme="int8_static", calibration="searched")
    assert Manifest.read(found).lineage["calibration"] == best
    assert (found / ONNX_FILE).read_bytes() == (expected / ONNX_FILE).read_bytes()


def test_of_calibrations_that_lose_the_same_the_default_stays(
    exported: Artifact, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETORT_HOME", str(tmp_path))
    monkeypatch.setattr(Workbench, "drop", lambda *_: 0.0)
    found = quantized(exported, context, scheme="int8_static", calibration="searched", percentile=99.9)
    assert Manifest.read(found).lineage["calibration"] == "percentile"


@pytest.mark.parametrize("sign", [1, -1], ids=["narrowest", "widest"])
def test_each_calibration_is_judged_with_its_own_ranges(
    sign: int, exported: Artifact, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    widths: list[float] = []

    def drop(bench: Workbench, _plan: object) -> float:
        widths.append(sum(high - low for low, high in bench.ranges.values()))
        return sign * widths[-1]

    monkeypatch.setenv("RETORT_HOME", str(tmp_path))
    monkeypatch.setattr(Workbench, "drop", drop)
    found = quantized(exported, context, scheme="int8_static", calibration="searched", percentile=90)
    assert len(set(widths)) == len(METHODS)
    best = METHODS[int(np.argmin(sign * np.array(widths)))]
    percentile = 90 if best == "percentile" else None
    expected = quantized(exported, context, scheme="int8_static", calibration=best, percentile=percentile)
    assert (found / ONNX_FILE).read_bytes() == (expected / ONNX_FILE).read_bytes()


def test_a_budget_that_is_met_raises_nothing(exported: Artifact, context: Context) -> None:
    folder = quantized(exported, context, budget=0.9)
    assert Manifest.read(folder).lineage["raised"] == {}


BAD: list[tuple[dict[str, Any], str]] = [
    ({"calibration": "entropy"}, "int8_dynamic has no ranges to calibrate; use scheme int8_static"),
    ({"scheme": "float16", "calibration": "min_max"}, "float16 has no ranges"),
    ({"percentile": 99.0}, "read by percentile calibration of int8_static alone"),
    ({"scheme": "int8_static", "calibration": "entropy", "percentile": 99.0}, "read by percentile calibration"),
    ({"batch_invariant": True}, "use scheme int8_static"),
    ({"scheme": "float16", "weight_bits": 4}, "use weight_only"),
    ({"scheme": "weight_only", "per_channel": False}, "leave per_channel at true"),
    ({"calibration_rows": 0}, "greater than or equal to 1"),
    ({"scheme": "int4_dynamic"}, "int8_dynamic"),
    ({"weight_bits": 2}, "4 or 8"),
]


@pytest.mark.parametrize(("fields", "message"), BAD)
def test_fields_that_do_not_fit_say_what_would(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Quantize(**fields)


def without(context: Context, name: str) -> Context:
    """The same data with one split empty."""

    def make(out: Path, work: Path) -> None:
        import pyarrow.parquet as pq

        for path in context.data.path.iterdir():
            if path.stem != name:
                (out / path.name).write_bytes(path.read_bytes())
        table = pq.read_table(context.data.path / f"{name}.parquet")
        pq.write_table(table.slice(0, 0), out / f"{name}.parquet")

    data = run_step(f"no {name}", kind="data", inputs=[context.data], config={}, code="tasks.types", make=make).artifact
    return replace(context, data=data)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("train", {"scheme": "int8_static"}, "calibrates on training rows, got none"),
        ("validation", {"scheme": "int8_static", "calibration": "searched"}, "searched is checked on validation rows"),
        ("validation", {"budget": 0.01}, "budget is checked on validation rows, got none"),
        ("validation", {"scheme": "float16", "batch_invariant": True}, "batch_invariant is checked on validation"),
    ],
)
def test_missing_rows_are_told_before_any_compute(
    name: str, fields: dict[str, Any], message: str, exported: Artifact, context: Context,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def computed(*_: Any, **__: Any) -> None:
        raise AssertionError("computed before the rows were looked at")

    monkeypatch.setattr("tasks.compress.quantize.Workbench", computed)
    with pytest.raises(UserError, match=message):
        Quantize(**fields).run(exported, without(context, name))
