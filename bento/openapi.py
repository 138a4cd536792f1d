"""`/docs.json`: the OpenAPI 3.1 document, made from the models that check the requests."""

from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from bento import schemas

ERRORS = {
    400: "The body is not JSON",
    404: "Not known here",
    405: "Another method is expected",
    409: "Done before",
    413: "The body is above 1 MiB",
    415: "Binary tensors are not read",
    422: "A field is missing, unknown or out of its limits; `field` names it",
    429: "The queue is full; Retry-After says when to come back",
    503: "No model serves yet, the deadline passed, or the request log is away",
}
NAME = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}, "description": "The model's name"}
LIMIT = {
    "name": "limit", "in": "query", "required": False, "description": "How many at most",
    "schema": {"type": "integer", "minimum": 1, "maximum": 500, "default": 20},
}  # fmt: skip
PREDICT_ERRORS = (400, 409, 413, 422, 429, 503)

Model = type[BaseModel]
OPERATIONS: tuple[tuple[str, str, str, Model | None, Model | str, tuple[int, ...], tuple[dict[str, Any], ...]], ...] = (
    ("post", "/predict", "Classify texts", schemas.PredictRequest, schemas.PredictResponse, PREDICT_ERRORS, ()),
    (
        "post", "/feedback", "Say what was right for an answered text",
        schemas.FeedbackRequest, schemas.FeedbackResponse, (400, 404, 409, 413, 422, 503), (),
    ),
    ("get", "/audit", "Texts that wait for a label", None, schemas.AuditResponse, (422, 503), (LIMIT,)),
    ("get", "/identity", "The model that serves", None, schemas.IdentityResponse, (503,), ()),
    ("get", "/livez", "The process is alive", None, "application/json", (), ()),
    ("get", "/readyz", "Predictions are answered", None, "application/json", (503,), ()),
    ("get", "/metrics", "Prometheus metrics", None, "text/plain", (), ()),
    ("get", "/docs.json", "This document", None, "application/json", (), ()),
    ("get", "/", "The page", None, "text/html", (), ()),
    ("get", "/v2", "Inference protocol: the server", None, "application/json", (), ()),
    ("get", "/v2/health/live", "Inference protocol: alive", None, "application/json", (), ()),
    ("get", "/v2/health/ready", "Inference protocol: ready", None, "application/json", (503,), ()),
    ("get", "/v2/models/{name}", "Inference protocol: the model", None, "application/json", (404, 503), (NAME,)),
    ("get", "/v2/models/{name}/ready", "Inference protocol: ready", None, "application/json", (404, 503), (NAME,)),
    (
        "post", "/v2/models/{name}/infer", "Inference protocol: classify texts",
        schemas.V2Request, "application/json", (404, 415, *PREDICT_ERRORS), (NAME,),
    ),
)  # fmt: skip


def _reference(model: Model) -> dict[str, Any]:
    return {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}


def _operation(
    summary: str,
    request: Model | None,
    answer: Model | str,
    errors: tuple[int, ...],
    parameters: tuple[dict[str, Any], ...],
) -> dict[str, Any]:
    content = {answer: {}} if isinstance(answer, str) else {"application/json": _reference(answer)}
    responses: dict[str, Any] = {"200": {"description": "Done", "content": content}}
    for status in sorted(set(errors)):
        error = {"application/json": _reference(schemas.ErrorResponse)}
        responses[str(status)] = {"description": ERRORS[status], "content": error}
    operation: dict[str, Any] = {"summary": summary, "responses": responses}
    if request is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": _reference(request)}}
    if parameters:
        operation["parameters"] = list(parameters)
    return operation


@cache
def document() -> dict[str, Any]:
    """The whole document."""
    paths: dict[str, Any] = {}
    for method, path, summary, request, answer, errors, parameters in OPERATIONS:
        paths.setdefault(path, {})[method] = _operation(summary, request, answer, errors, parameters)
    models = {schemas.ErrorResponse} | {
        model for operation in OPERATIONS for model in operation[3:5] if isinstance(model, type)
    }
    ordered = sorted(models, key=lambda model: model.__name__)
    _, definitions = models_json_schema(
        [(model, "validation") for model in ordered], ref_template="#/components/schemas/{model}"
    )
    return {
        "openapi": "3.1.0",
        "info": {"title": "Retort", "version": "1", "description": "A small, fast, gated text classifier."},
        "paths": paths,
        "components": {"schemas": definitions["$defs"]},
    }
