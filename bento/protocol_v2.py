"""The open inference protocol, version 2 (KServe): so that existing clients of other servers work unchanged."""

from typing import Any

from bento.predictor import Floats
from bento.router import Champion
from bento.schemas import V2Request

SERVER = {"name": "retort", "version": "2", "extensions": []}


def model_metadata(champion: Champion) -> dict[str, Any]:
    """`GET /v2/models/NAME`."""
    num_labels = len(champion.predictor.labels)
    return {
        "name": champion.identity.name,
        "versions": [champion.identity.version],
        "platform": "onnxruntime",
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [-1]},
            {"name": "probability", "datatype": "FP32", "shape": [-1]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, num_labels]},
            {"name": "abstained", "datatype": "BOOL", "shape": [-1]},
        ],
        "parameters": {"labels": list(champion.predictor.labels), "model_sha256": champion.identity.model_sha256},
    }


def infer_response(
    request: V2Request, request_id: str, champion: Champion, probabilities_NC: Floats, abstained_N: list[bool]
) -> dict[str, Any]:
    """The answer to `infer`: the wanted outputs, all by default."""
    num_texts, num_labels = probabilities_NC.shape
    labels = champion.predictor.labels
    outputs = {
        "label": ("BYTES", [num_texts], [labels[index] for index in probabilities_NC.argmax(axis=1)]),
        "probability": ("FP32", [num_texts], probabilities_NC.max(axis=1).tolist()),
        "probabilities": ("FP32", [num_texts, num_labels], probabilities_NC.ravel().tolist()),
        "abstained": ("BOOL", [num_texts], abstained_N),
    }
    wanted = [output.name for output in request.outputs] if request.outputs else list(outputs)
    return {
        "model_name": champion.identity.name,
        "model_version": champion.identity.version,
        "id": request_id,
        "parameters": {"model_sha256": champion.identity.model_sha256, "bento": champion.identity.bento},
        "outputs": [
            dict(zip(("name", "datatype", "shape", "data"), (name, *outputs[name]), strict=True)) for name in wanted
        ],
    }
