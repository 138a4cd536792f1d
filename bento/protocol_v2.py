"""The open inference protocol, version 2 (KServe): so that existing clients of other servers work unchanged."""

import json
from typing import Any

from bento.router import Champion
from bento.schemas import ApiError, V2Request
from bento.task_types import Answers, Floats, Task

SERVER = {"name": "retort", "version": "2", "extensions": []}


OUTPUTS: dict[Task, dict[str, str]] = {
    "single_label": {"label": "BYTES", "probability": "FP32", "probabilities": "FP32", "abstained": "BOOL"},
    "multi_label": {"labels": "BYTES", "probabilities": "FP32"},
    "score": {"score": "FP32"},
    "entities": {"entities": "BYTES"},
}
"""Output -> its datatype. `labels` and `entities` have a JSON list a text, since a tensor has no rows of different
lengths."""


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


def infer_response(
    request: V2Request, request_id: str, champion: Champion, probabilities_NC: Floats, answers: Answers
) -> dict[str, Any]:
    """The answer to `infer`: the wanted outputs, all by default. Raises: ApiError for one that the model lacks."""
    known = OUTPUTS[champion.predictor.manifest.target.task]
    wanted = [output.name for output in request.outputs] if request.outputs else list(known)
    if unknown := [name for name in wanted if name not in known]:
        raise ApiError(422, "output", f"expected outputs of {', '.join(known)}; got {', '.join(unknown)}", "outputs")
    tensors: dict[str, tuple[list[int], list[Any]]] = {
        name: ([len(values)], [json.dumps(each) for each in values] if name in ("labels", "entities") else values)
        for name, values in answers.items()
    }
    tensors["probabilities"] = (list(probabilities_NC.shape), probabilities_NC.ravel().tolist())
    return {
        "model_name": champion.identity.name,
        "model_version": champion.identity.version,
        "id": request_id,
        "parameters": {"model_sha256": champion.identity.model_sha256, "bento": champion.identity.bento},
        "outputs": [
            {"name": name, "datatype": known[name], "shape": tensors[name][0], "data": tensors[name][1]}
            for name in wanted
        ],
    }
