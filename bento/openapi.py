"""`/docs.json`: the OpenAPI 3.1 document, made from the models that check the requests; and BentoML's own schema."""

from collections.abc import Iterable
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from bento import answer_schemas as answers
from bento import schemas
from bento.access import is_open

ERRORS = {
    400: "The body is not JSON",
    401: "An API key is missing or not known",
    404: "Not known here",
    408: "The request came too slowly",
    409: "Done before",
    413: "The body is above 1 MiB",
    422: "A field is missing, unknown or out of its limits; `field` names it",
    429: "The queue is full, or this caller asks too often; Retry-After says when to come back",
    503: "No model serves yet, the deadline passed, or the request log is away",
}
NAME = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}, "description": "The model's name"}
LIMIT = {
    "name": "limit", "in": "query", "required": False, "description": "How many at most",
    "schema": {"type": "integer", "minimum": 1, "maximum": 500, "default": 20},
}  # fmt: skip
DEADLINE = {
    "name": schemas.DEADLINE_HEADER, "in": "header", "required": False,
    "description": "Milliseconds that the client waits: what would be late is refused at once",
    "schema": {"type": "integer", "minimum": 1},
}  # fmt: skip
BODY_ERRORS = (400, 408, 413, 422)
PREDICT_ERRORS = (*BODY_ERRORS, 409, 429, 503)
SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}

Model = type[BaseModel]
OPERATIONS: tuple[tuple[str, str, str, Model | None, Model | str, tuple[int, ...], tuple[dict[str, Any], ...]], ...] = (
    (
        "post", "/predict", "Classify texts",
        schemas.PredictRequest, answers.PredictResponse, PREDICT_ERRORS, (DEADLINE,),
    ),
    (
        "post", "/feedback", "Say what was right for an answered text",
        schemas.FeedbackRequest, answers.FeedbackResponse, (*BODY_ERRORS, 404, 409, 503), (),
    ),
    ("get", "/audit", "Texts that wait for a label", None, answers.AuditResponse, (422, 503), (LIMIT,)),
    ("get", "/identity", "The model that serves", None, answers.IdentityResponse, (503,), ()),
    ("get", "/livez", "The process is alive", None, answers.LiveResponse, (), ()),
    ("get", "/readyz", "Predictions are answered", None, answers.ReadyResponse, (), ()),
    ("get", "/metrics", "Prometheus metrics", None, "text/plain", (), ()),
    ("get", "/docs.json", "This document", None, "application/json", (), ()),
    ("get", "/schema.json", "The description that BentoML's clients read", None, "application/json", (), ()),
    ("get", "/", "The page", None, "text/html", (), ()),
    ("get", "/v2", "Inference protocol: the server", None, answers.V2ServerResponse, (), ()),
    ("get", "/v2/health/live", "Inference protocol: alive", None, answers.LiveResponse, (), ()),
    ("get", "/v2/health/ready", "Inference protocol: ready", None, answers.V2Ready, (503,), ()),
    ("get", "/v2/models/{name}", "Inference protocol: the model", None, answers.V2ModelResponse, (404, 503), (NAME,)),
    ("get", "/v2/models/{name}/ready", "Inference protocol: ready", None, answers.V2Ready, (404, 503), (NAME,)),
    (
        "post", "/v2/models/{name}/infer", "Inference protocol: classify texts",
        schemas.V2Request, answers.V2Response, (404, *PREDICT_ERRORS), (NAME, DEADLINE),
    ),
)  # fmt: skip


def _reference(model: Model) -> dict[str, Any]:
    return {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}


def _content(answer: Model | str) -> dict[str, Any]:
    return {answer: {}} if isinstance(answer, str) else {"application/json": _reference(answer)}


def _operation(
    path: str,
    summary: str,
    request: Model | None,
    answer: Model | str,
    errors: Iterable[int],
    parameters: tuple[dict[str, Any], ...],
) -> dict[str, Any]:
    responses: dict[str, Any] = {"200": {"description": "Done", "content": _content(answer)}}
    error = answers.V2ErrorResponse if path.startswith("/v2") else answers.ErrorResponse
    for status in sorted(set(errors)):
        responses[str(status)] = {"description": ERRORS[status], "content": _content(error)}
    operation: dict[str, Any] = {"summary": summary, "responses": responses}
    if request is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": _reference(request)}}
    if parameters:
        operation["parameters"] = list(parameters)
    return operation


def _components() -> dict[str, Any]:
    errors: set[Model] = {answers.ErrorResponse, answers.V2ErrorResponse}
    models = errors | {model for operation in OPERATIONS for model in operation[3:5] if isinstance(model, type)}
    ordered = sorted(models, key=lambda model: model.__name__)
    _, definitions = models_json_schema(
        [(model, "validation") for model in ordered], ref_template="#/components/schemas/{model}"
    )
    return {"schemas": definitions["$defs"]}


@cache
def document(*, keys: bool = False, limited: bool = False, metrics_open: bool = False) -> dict[str, Any]:
    """The whole document of a service with or without API `keys` and a rate limit."""
    paths: dict[str, Any] = {}
    for method, path, summary, request, answer, errors, parameters in OPERATIONS:
        guarded = not is_open(path, metrics_open)
        errors += (401,) * (keys and guarded) + (429,) * (limited and guarded)
        operation = _operation(path, summary, request, answer, errors, parameters)
        if keys and guarded:
            operation["security"] = [{name: []} for name in SECURITY_SCHEMES]
        paths.setdefault(path, {})[method] = operation
    paths["/readyz"]["get"]["responses"]["503"] = {
        "description": ERRORS[503], "content": _content(answers.ReadyResponse),
    }  # fmt: skip
    return {
        "openapi": "3.1.0",
        "info": {"title": "Retort", "version": "1", "description": "A small, fast, gated text classifier."},
        "paths": paths,
        "components": _components() | ({"securitySchemes": SECURITY_SCHEMES} if keys else {}),
    }


@cache
def bentoml_schema() -> dict[str, Any]:
    """What `bentoml.SyncHTTPClient` and its kin read to know the calls: one for each route that takes a body."""
    routes = [
        {"name": path[1:], "route": path, "doc": summary, "input": request.model_json_schema(),
         "output": answer.model_json_schema(), "batchable": False}
        for _, path, summary, request, answer, _, _ in OPERATIONS
        if request is not None and not isinstance(answer, str) and "{" not in path
    ]  # fmt: skip
    return {"name": "retort", "type": "service", "routes": routes}
