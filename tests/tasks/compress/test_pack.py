import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from bento.errors import UserError
from bento.manifest import ONNX_FILE, Manifest, folder_size_bytes
from bento.predictor import Predictor
from tasks.compress.context import Context
from tasks.compress.export import Export
from tasks.compress.pack import Pack, pack
from tasks.compress.prune_weights import PruneWeights
from tasks.compress.quantize import Quantize
from tasks.sparse_onnx import BIT_DIGITS, GAP_DIGITS, encode, encode_bits, encode_gaps, pack_file
from tasks.types import Artifact

TEXTS = ["the car over there is red", "a blue lamp", "was the green ship seen?"]
DTYPES = (np.float32, np.float16, np.float64, np.int8, np.uint8, np.int32, np.int64)


def random_tensor(dtype: Any, density: float, *, fill: int = 0, shape: tuple[int, ...] = (128, 65)) -> NDArray[Any]:
    """`density` of the entries are random, the others `fill`."""
    rng = np.random.default_rng(0)
    values = rng.integers(1, 100, size=shape).astype(dtype)
    values[rng.random(shape) >= density] = fill
    return values


def write_constant(values: NDArray[Any], path: Path, *, opset: int = 17) -> Path:
    """A model that puts out its one constant."""
    kind = helper.np_dtype_to_tensor_dtype(values.dtype)
    graph = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["y"])], "constant", [],
        [helper.make_tensor_value_info("y", kind, values.shape)], [numpy_helper.from_array(values, "w")],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


def restored(path: Path) -> NDArray[Any]:
    """What the model puts out."""
    values: NDArray[Any] = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {})[0]
    return values


def optimized_operators(path: Path, out: Path) -> Counter[str]:
    """Operators that a session of default optimisation runs."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(out)
    options.log_severity_level = 3
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(out).graph.node)


@pytest.mark.parametrize("density", [0.0, 0.003, 0.1, 0.3, 0.7])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_packed_tensor_is_restored_bit_by_bit_and_at_load(dtype: Any, density: float, tmp_path: Path) -> None:
    values = random_tensor(dtype, density)
    source, out = write_constant(values, tmp_path / "dense.onnx"), tmp_path / "packed.onnx"
    assert pack_file(source, out).num_tensors == 1
    onnx.checker.check_model(out)
    assert restored(out).dtype == values.dtype
    assert restored(out).tobytes() == values.tobytes()
    assert optimized_operators(out, tmp_path / "optimized.onnx") == Counter()


@pytest.mark.parametrize("digits", [*GAP_DIGITS, BIT_DIGITS])
@pytest.mark.parametrize("shape", [(1, 521), (17, 31), (64, 65)])
def test_each_form_restores_what_it_was_given(
    digits: int, shape: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def only_this(values: NDArray[Any]) -> Any:
        flat = values.reshape(-1)
        fill = np.float64(0)
        return (
            encode_bits(flat, flat != 0, fill) if digits == BIT_DIGITS else encode_gaps(flat, flat != 0, fill, digits)
        )

    monkeypatch.setattr("tasks.sparse_onnx.encode", only_this)
    values = random_tensor(np.float64, 0.01, shape=shape)
    values.reshape(-1)[-1] = 5.0
    pack_file(write_constant(values, tmp_path / "dense.onnx"), tmp_path / "packed.onnx")
    assert restored(tmp_path / "packed.onnx").tobytes() == values.tobytes()


@pytest.mark.parametrize("digits", GAP_DIGITS)
@pytest.mark.parametrize("distance", [1, 8, 9, 10, 15, 16, 39, 40, 41, 255, 256, 700])
def test_gaps_around_the_largest_digit_are_stored_right(digits: int, distance: int) -> None:
    flat = np.zeros(5 * distance + 30, dtype=np.int8)
    positions = np.array([0, distance, 2 * distance, 5 * distance])
    flat[positions] = [3, 5, 7, 9]
    form = encode_gaps(flat, flat != 0, np.int8(0), digits)
    radix = int(65536 ** (1 / digits) + 1e-9)
    gaps = (form.words_W[:, None] // radix ** np.arange(digits) % radix).reshape(-1)
    found = np.zeros_like(flat)
    found[np.cumsum(gaps)] = form.values_S
    assert len(np.unique(np.cumsum(gaps))) == len(gaps) == len(form.values_S)
    assert np.array_equal(found, flat)


def test_the_most_frequent_value_is_the_one_that_is_left_out(tmp_path: Path) -> None:
    values = random_tensor(np.uint8, 0.1, fill=131)
    encoded = encode(values)
    assert encoded is not None
    assert encoded.fill == 131
    pack_file(write_constant(values, tmp_path / "dense.onnx"), tmp_path / "packed.onnx")
    assert np.array_equal(restored(tmp_path / "packed.onnx"), values)


def test_negative_zeros_and_no_numbers_are_restored_too(tmp_path: Path) -> None:
    values = random_tensor(np.float32, 0.1)
    values[0, :3] = [-0.0, np.nan, np.inf]
    pack_file(write_constant(values, tmp_path / "dense.onnx"), tmp_path / "packed.onnx")
    assert restored(tmp_path / "packed.onnx").tobytes() == values.tobytes()


@pytest.mark.parametrize(("dtype", "density", "share"), [(np.float32, 0.1, 0.125), (np.int8, 0.1, 0.18)])
def test_a_tenth_of_the_weights_takes_little_more_than_a_tenth(dtype: Any, density: float, share: float) -> None:
    values = random_tensor(dtype, density, shape=(384, 1536))
    encoded = encode(values)
    assert encoded is not None
    assert encoded.num_bytes / values.nbytes < share


def test_the_smaller_form_is_taken() -> None:
    sparse, half = encode(random_tensor(np.int8, 0.05, shape=(256, 256))), encode(random_tensor(np.int8, 0.5))
    assert sparse is not None
    assert half is not None
    assert sparse.digits_per_word in GAP_DIGITS
    assert half.digits_per_word == BIT_DIGITS


def test_a_tensor_that_gains_nothing_stays_as_it_is(tmp_path: Path) -> None:
    source = write_constant(np.random.default_rng(0).normal(size=(64, 64)), tmp_path / "dense.onnx")
    packed = pack_file(source, tmp_path / "packed.onnx")
    assert packed.num_tensors == 0
    assert packed.stored_bytes == packed.dense_bytes
    assert not (tmp_path / "packed.onnx").exists()


def test_a_model_of_old_operators_is_refused(tmp_path: Path) -> None:
    source = write_constant(random_tensor(np.float32, 0.1), tmp_path / "old.onnx", opset=11)
    with pytest.raises(UserError, match="opset 13 or later, got 11"):
        pack_file(source, tmp_path / "packed.onnx")


@pytest.fixture(scope="module")
def sparse(context: Context) -> Artifact:
    pruned = PruneWeights(method="one_shot", epochs=1, batch_size=4).run(context.teacher, context).artifact
    return Export().run(pruned, context).artifact


@pytest.fixture(scope="module", params=["float", "int8"])
def unpacked(request: pytest.FixtureRequest, sparse: Artifact, context: Context) -> Artifact:
    return sparse if request.param == "float" else Quantize().run(sparse, context).artifact


def test_a_packed_model_is_smaller_and_answers_bit_by_bit_as_before(unpacked: Artifact, context: Context) -> None:
    packed = Pack().run(unpacked, context).artifact
    before, after = Predictor(unpacked.path), Predictor(packed.path)
    assert before.predict_logits(TEXTS).tobytes() == after.predict_logits(TEXTS).tobytes()
    sizes = [(folder.path / ONNX_FILE).stat().st_size for folder in (packed, unpacked)]
    assert sizes[0] < 0.3 * sizes[1]
    assert folder_size_bytes(packed.path) < folder_size_bytes(unpacked.path)


def test_a_packed_model_runs_the_same_operators(unpacked: Artifact, context: Context, tmp_path: Path) -> None:
    packed = Pack().run(unpacked, context).artifact
    before = optimized_operators(unpacked.path / ONNX_FILE, tmp_path / "before.onnx")
    assert optimized_operators(packed.path / ONNX_FILE, tmp_path / "after.onnx") == before


def test_a_packed_folder_says_what_it_is(unpacked: Artifact, context: Context) -> None:
    packed = Pack().run(unpacked, context).artifact
    manifest = Manifest.read(packed.path)
    manifest.check(packed.path)
    assert manifest.lineage["unpacked"] == unpacked.sha256
    note = manifest.lineage["packed"]
    assert note["dense_bytes"] == (unpacked.path / ONNX_FILE).stat().st_size
    assert note["stored_bytes"] == (packed.path / ONNX_FILE).stat().st_size
    assert note["num_tensors"] >= 8
    assert {name: value for name, value in manifest.lineage.items() if name not in ("unpacked", "packed")} == (
        Manifest.read(unpacked.path).lineage
    )


def test_packing_twice_gives_the_same_bytes_and_leaves_the_input_alone(unpacked: Artifact, tmp_path: Path) -> None:
    before = (unpacked.path / ONNX_FILE).read_bytes()
    for name in ("a.onnx", "b.onnx"):
        pack(unpacked.path / ONNX_FILE, tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert (unpacked.path / ONNX_FILE).read_bytes() == before


def test_optimum_loads_a_packed_folder(unpacked: Artifact, context: Context) -> None:
    from optimum.onnxruntime import ORTModelForSequenceClassification
    from transformers import AutoTokenizer

    packed = Pack().run(unpacked, context).artifact
    inputs = AutoTokenizer.from_pretrained(packed.path)(TEXTS[0], return_tensors="np")
    logits = ORTModelForSequenceClassification.from_pretrained(packed.path)(**inputs).logits
    expected = Predictor(packed.path).predict_logits(TEXTS[:1])
    assert np.abs(logits - expected).max() < 1e-4
    assert json.loads((packed.path / "config.json").read_text(encoding="utf-8"))["model_type"] == "bert"


def test_a_dense_model_is_refused_with_the_remedy(exported: Artifact, context: Context) -> None:
    with pytest.raises(
        UserError, match="put prune_weights before export, or raise its sparsity, and quantize to 8 bits"
    ):
        Pack().run(exported, context)
