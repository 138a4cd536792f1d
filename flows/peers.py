"""Peers: what other tools make of the same teacher with their defaults, run as their users run it.

Each is built once, as a cached step, and answers from text to probabilities with the threads that its tool takes by
default, so that `bench compress` can time it beside the candidate.

Shapes: N texts, B batch, T tokens, C classes.
"""

import contextlib
import importlib
import importlib.metadata
import importlib.util
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bento.manifest import folder_size_bytes
from bento.task_types import softmax
from tasks.data import read_labels, read_split
from tasks.evaluate import Answer, read_class_predictions, write_predictions
from tasks.store import run_step
from tasks.task_types import SingleLabel
from tasks.types import Artifact, Predictions

ONNX_NAME, INT8_NAME, OPENVINO_NAME = "model.onnx", "model_quantized.onnx", "openvino_model.xml"
NUM_CALIBRATION_TEXTS = 300  # NNCF's own default subset
OPENVINO_PACKAGES = ("openvino", "nncf")


@dataclass(frozen=True, kw_only=True)
class Peer:
    """The teacher as another tool makes and runs it."""

    name: str
    version: str
    folder: Path
    size_bytes: int
    """What its users ship: the model with its config and tokenizer."""
    answer: Answer
    """Texts of one batch to probabilities_BC, classes in the order of the data's labels."""
    artifact: Artifact


@dataclass(frozen=True, kw_only=True)
class Missing:
    """A peer that cannot be measured here."""

    name: str
    packages: tuple[str, ...]
    """What would have to be installed for it."""


def load_peers(teacher: Artifact, data: Artifact, *, max_tokens: int) -> list[Peer | Missing]:
    """All peers of the torch folder `teacher`: PyTorch, ONNX Runtime, optimum, OpenVINO."""
    plain = export_plain(teacher)
    return [
        pytorch_eager(teacher, max_tokens),
        onnxruntime_float(plain, max_tokens),
        optimum_int8(plain, max_tokens),
        openvino_int8(plain, data, max_tokens),
    ]


def pytorch_eager(teacher: Artifact, max_tokens: int) -> Peer:
    """The teacher as it is trained and, without any of this, served."""
    import torch
    from transformers import AutoModelForSequenceClassification

    from tasks.training import model_inputs

    tokens = _tokenizer(teacher.path, max_tokens, "pt")
    model = AutoModelForSequenceClassification.from_pretrained(teacher.path).eval()

    def answer(texts: Sequence[Any]) -> Any:
        with torch.inference_mode():
            return softmax(model(**model_inputs(model, tokens(texts))).logits.numpy())

    return _peer("PyTorch eager", "torch", teacher, answer)


def onnxruntime_float(plain: Artifact, max_tokens: int) -> Peer:
    """The exported teacher in a session with ONNX Runtime's default options."""
    import onnxruntime as ort

    tokens = _tokenizer(plain.path, max_tokens, "np")
    session = ort.InferenceSession(str(plain.path / ONNX_NAME), providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]

    def answer(texts: Sequence[Any]) -> Any:
        return softmax(session.run(None, _only(tokens(texts), names))[0])

    return _peer("ONNX Runtime float", "onnxruntime", plain, answer)


def optimum_int8(plain: Artifact, max_tokens: int) -> Peer:
    """Dynamic int8 as optimum's guide makes it for AVX-512 VNNI.

    The model is called directly with NumPy arrays, the fastest of the ways that the guide shows: torch tensors cost
    a copy each way, and `pipeline` its bookkeeping beside.
    """
    from optimum.onnxruntime import ORTModelForSequenceClassification

    made = _step("peer optimum int8", (plain,), {}, lambda out: _quantize_with_optimum(plain.path, out))
    tokens = _tokenizer(made.path, max_tokens, "np")
    model = ORTModelForSequenceClassification.from_pretrained(made.path, file_name=INT8_NAME)

    def answer(texts: Sequence[Any]) -> Any:
        return softmax(model(**_only(tokens(texts), list(model.input_names))).logits)

    return _peer("optimum int8", "optimum-onnx", made, answer)


def openvino_int8(plain: Artifact, data: Artifact, max_tokens: int) -> Peer | Missing:
    """Post-training int8 of NNCF for transformers, calibrated on training texts, in OpenVINO's default CPU plugin."""
    name = "OpenVINO + NNCF int8"
    if any(importlib.util.find_spec(package) is None for package in OPENVINO_PACKAGES):
        return Missing(name=name, packages=OPENVINO_PACKAGES)
    versions = {package: importlib.metadata.version(package) for package in OPENVINO_PACKAGES}
    made = _step(
        "peer openvino int8", (plain, data), versions | {"max_tokens": max_tokens},
        lambda out: _quantize_with_nncf(plain.path, data.path, max_tokens, out),
    )  # fmt: skip
    tokens = _tokenizer(made.path, max_tokens, "np")
    compiled = _import_silently("openvino").Core().compile_model(made.path / OPENVINO_NAME, "CPU")
    names = [node.get_any_name() for node in compiled.inputs]

    def answer(texts: Sequence[Any]) -> Any:
        return softmax(compiled(_only(tokens(texts), names))[0])

    return _peer(name, "openvino", made, answer)


def export_plain(teacher: Artifact) -> Artifact:
    """The teacher as optimum exports it, with its tokenizer: what every ONNX tool starts from."""

    def make(out: Path) -> None:
        from optimum.onnxruntime import ORTModelForSequenceClassification

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tracing warns of each shape-dependent branch
            ORTModelForSequenceClassification.from_pretrained(teacher.path, export=True).save_pretrained(out)
        _copy_tokenizer(teacher.path, out)

    return _step("peer export", (teacher,), {}, make)


def predict_with(peer: Peer, data: Artifact, *, max_tokens: int) -> Predictions:
    """The peer's answers on the test split, one text a run as the candidate's are; cached."""

    def make(out: Path, work: Path) -> None:
        import numpy as np

        test, labels = read_split(data.path, "test"), read_labels(data.path)
        probabilities_NC = np.concatenate([peer.answer([text]) for text in test.texts])
        predictions = Predictions(
            ids=test.ids, probabilities_NC=probabilities_NC, labels_N=SingleLabel().targets(test, labels),
            latency_ms_N=np.empty(0),
        )  # fmt: skip
        write_predictions(out, "peer", predictions)

    config = {"peer": peer.name, "version": peer.version, "max_tokens": max_tokens}
    step = run_step(
        "peer answers", kind="scores", inputs=(peer.artifact, data), config=config, code=__name__, make=make
    )
    return read_class_predictions(step.artifact.path, "peer")


def _peer(name: str, package: str, artifact: Artifact, answer: Answer) -> Peer:
    return Peer(
        name=name,
        version=importlib.metadata.version(package),
        folder=artifact.path,
        size_bytes=folder_size_bytes(artifact.path),
        answer=answer,
        artifact=artifact,
    )


def _step(name: str, inputs: tuple[Artifact, ...], config: Mapping[str, Any], make: Callable[[Path], None]) -> Artifact:
    step = run_step(
        name, kind="peer", inputs=inputs, config=dict(config), code=__name__, make=lambda out, work: make(out)
    )
    return step.artifact


def _quantize_with_optimum(source: Path, out: Path) -> None:
    from optimum.onnxruntime import ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    config = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=False)
    ORTQuantizer.from_pretrained(source).quantize(save_dir=out, quantization_config=config)
    _copy_tokenizer(source, out)


def _quantize_with_nncf(source: Path, data: Path, max_tokens: int, out: Path) -> None:
    nncf, openvino = _import_silently("nncf"), _import_silently("openvino")
    model = openvino.Core().read_model(source / ONNX_NAME)
    names = [node.get_any_name() for node in model.inputs]
    tokens = _tokenizer(source, max_tokens, "np")
    texts = read_split(data, "train").texts
    texts = texts[:: max(1, len(texts) // NUM_CALIBRATION_TEXTS)][:NUM_CALIBRATION_TEXTS]
    calibration = nncf.Dataset([_only(tokens([text]), names) for text in texts])
    with contextlib.redirect_stdout(sys.stderr):  # its progress bars
        quantized = nncf.quantize(model, calibration, model_type=nncf.ModelType.TRANSFORMER)
    openvino.save_model(quantized, out / OPENVINO_NAME)
    _copy_tokenizer(source, out)


def _import_silently(name: str) -> Any:
    """A module of OpenVINO's, imported as in CI, where it sends no usage data."""
    before = os.environ.get("CI")
    os.environ["CI"] = "true"
    try:
        return importlib.import_module(name)
    finally:
        if before is None:
            del os.environ["CI"]
        else:
            os.environ["CI"] = before


def _copy_tokenizer(source: Path, out: Path) -> None:
    from transformers import AutoConfig, AutoTokenizer

    AutoTokenizer.from_pretrained(source).save_pretrained(out)
    AutoConfig.from_pretrained(source).save_pretrained(out)


def _tokenizer(folder: Path, max_tokens: int, tensors: str) -> Callable[[Sequence[Any]], Mapping[str, Any]]:
    """The fast tokenizer of `transformers`, padding a batch to its longest text."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)

    def tokens(texts: Sequence[Any]) -> Mapping[str, Any]:
        pairs = not isinstance(texts[0], str)
        first = [text[0] for text in texts] if pairs else list(texts)
        second = [text[1] for text in texts] if pairs else None
        found: Mapping[str, Any] = tokenizer(
            first, second, padding=True, truncation=True, max_length=max_tokens, return_tensors=tensors
        )
        return found

    return tokens


def _only(tokens: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """What the model takes of what the tokenizer gives."""
    return {name: tokens[name] for name in names}
