"""The open inference protocol, version 2 (KServe): so that existing clients of other servers work unchanged."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from bento.answer import Answer
from bento.router import Champion
from bento.schemas import ApiError, V2Request
from bento.task_types import Task

SERVER = {"name": "retort", "version": "2", "extensions": []}


OUTPUTS: dict[Task, dict[str, str]] = {
    "single_label": {"label": "BYTES", "probability": "FP32", "probabilities": "FP32", "abstained": "BOOL"},
    "multi_label": {"labels": "BYTES", "probabilities": "FP32"},
    "score": {"score": "FP32"},
    "entities": {"entities": "BYTES"},
}
"""Output -> its datatype. `labels` and `entities` have a JSON list a text, since a tensor has no rows of different
lengths."""


def split_body(body: bytes, headers: Mapping[str, str]) -> tuple[bytes, bytes]:
    """The JSON and what stands behind it: the tensors of the binary extension, which tritonclient sends by default.

    Raises: ApiError 400 when the header that says where the JSON ends cannot be right.
    """
    length = headers.get("inference-header-content-length")
    if length is None:
        return body, b""
    if not re.fullmatch("[0-9]{1,9}", length) or int(length) > len(body):
        message = f"expected the length of the JSON within the {len(body)} bytes of the body, got {length[:20]!r}"
        raise ApiError(400, "inference_header", message, "Inference-Header-Content-Length")
    return body[: int(length)], body[int(length) :]


def error_body(error: ApiError) -> bytes:
    """The error as JSON: the protocol wants a string where /predict has an object, and its clients print just that."""
    return orjson.dumps({"error": error.message, "code": error.code, "field": error.field})


def model_metadata(champion: Champion) -> dict[str, Any]:
    """`GET /v2/models/NAME`."""
    labels = champion.predictor.labels
    outputs = OUTPUTS[champion.predictor.manifest.target.task]
    return {
        "name": champion.identity.name,
        "versions": [champion.identity.version],
        "platform": "onnxruntime",
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": name, "datatype": datatype, "shape": [-1, len(labels)] if name == "probabilities" else [-1]}
            for name, datatype in outputs.items()
        ],
        "parameters": {"labels": list(labels), "model_sha256": champion.identity.model_sha256},
    }


def wanted_outputs(request: V2Request, champion: Champion) -> dict[str, str]:
    """Output -> its datatype, of those that the client wants, all by default. Raises: ApiError 422 for one that the
    model lacks."""
    known = OUTPUTS[champion.predictor.manifest.target.task]
    wanted = [output.name for output in request.outputs] if request.outputs else list(known)
    if unknown := [name for name in wanted if name not in known]:
        raise ApiError(422, "output", f"expected outputs of {', '.join(known)}; got {', '.join(unknown)}", "outputs")
    return {name: known[name] for name in wanted}


def infer_response(
    wanted: Mapping[str, str], request_id: str, champion: Champion, answers: Sequence[Answer]
) -> dict[str, Any]:
    """The answer to `infer`: the `wanted` outputs."""
    tensors = {name: _tensor(name, answers) for name in wanted}
    return {
        "model_name": champion.identity.name,
        "model_version": champion.identity.version,
        "id": request_id,
        "parameters": {"model_sha256": champion.identity.model_sha256, "bento": champion.identity.bento},
        "outputs": [
            {"name": name, "datatype": wanted[name], "shape": shape, "data": data}
            for name, (shape, data) in tensors.items()
        ],
    }


def _tensor(name: str, answers: Sequence[Answer]) -> tuple[list[int], list[Any]]:
    if name == "probabilities":
        flat = [value for answer in answers for value in answer.probabilities()]
        return [len(answers), len(answers[0].probabilities_C)], flat
    values = [answer.prediction[name] for answer in answers]
    return [len(values)], [json.dumps(each) for each in values] if name in ("labels", "entities") else values
