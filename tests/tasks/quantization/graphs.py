"""A small float graph whose weights a test can spoil: embedding -> masked mean -> two hidden layers -> logits."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bento.manifest import ONNX_FILE, Manifest, folder_files
from tests.tiny import SPECIAL, WORDS, write_tiny_model

WIDTH = 64
LABELS = ("card_lost", "refund", "transfer")


def random_weights(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {
        "embeddings": (len(SPECIAL) + len(WORDS), WIDTH),
        "first": (WIDTH, WIDTH),
        "second": (WIDTH, WIDTH),
        "classifier": (WIDTH, len(LABELS)),
    }
    return {name: (rng.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32) for name, shape in shapes.items()}


def make_graph(weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    """ids_BT, mask_BT -> logits_BC; nodes are named after their weights."""
    node = helper.make_node
    nodes = [
        node("Gather", ["embeddings", "input_ids"], ["embedded_BTW"], "lookup"),
        node("Cast", ["attention_mask"], ["mask_BT"], "mask", to=TensorProto.FLOAT),
        node("Unsqueeze", ["mask_BT", "width_axis"], ["mask_BT1"], "widen"),
        node("Mul", ["embedded_BTW", "mask_BT1"], ["kept_BTW"], "keep"),
        node("ReduceSum", ["kept_BTW", "time_axis"], ["sum_BW"], "sum", keepdims=0),
        node("MatMul", ["sum_BW", "first"], ["first_BW"], "first"),
        node("Relu", ["first_BW"], ["relu_BW"], "relu"),
        node("MatMul", ["relu_BW", "second"], ["second_BW"], "second"),
        node("Tanh", ["second_BW"], ["tanh_BW"], "tanh"),
        node("MatMul", ["tanh_BW", "classifier"], ["logits"], "classifier"),
    ]
    initializers = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    initializers += [
        numpy_helper.from_array(np.array([at]), name) for name, at in (("time_axis", 1), ("width_axis", 2))
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "time"])
        for name in ("input_ids", "attention_mask")
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(LABELS)])]
    graph = helper.make_graph(nodes, "layers", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def write_folder(folder: Path, weights: dict[str, np.ndarray]) -> Path:
    """The tiny model's folder with this graph in it."""
    write_tiny_model(folder, labels=LABELS)
    onnx.save(make_graph(weights), folder / ONNX_FILE)
    manifest = Manifest.read(folder)
    files = {path: digest for path, digest in folder_files(folder).items() if path != "retort.json"}
    manifest.model_copy(update={"files": files}).write(folder)
    return folder


def open_session(model: onnx.ModelProto) -> object:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
