"""One thin function a route: read, check, call, answer."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import Response

from bento import openapi, protocol_v2, records
from bento.metrics import CONTENT_TYPE
from bento.predictor import Text
from bento.router import Champion
from bento.schemas import MAX_BODY_BYTES, ApiError, FeedbackRequest, PredictRequest, V2Request, decode, parse
from bento.task_types import Answers, Floats, named

if TYPE_CHECKING:
    from bento.app import Server

WEB = Path(__file__).parent / "web"
STATIC = {"app.js": "text/javascript", "style.css": "text/css", "icon.svg": "image/svg+xml"}
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
DISCARD_BYTES = 16 * MAX_BODY_BYTES
"""An oversized body is read to this length before the refusal, so that the client sees the answer, not a reset."""
MAX_AUDIT_ITEMS = 500
NUM_CANDIDATES = 5
PROBABILITY_DIGITS = 6
"""Decimal places of a probability in the log."""


def json_response(content: Any, status: int = 200) -> Response:
    """`content` as JSON."""
    return Response(orjson.dumps(content), status, media_type="application/json")


def error_response(error: ApiError) -> Response:
    """The answer to a request that failed."""
    return Response(error.body(), error.status, error.headers, "application/json")


async def read_body(request: Request) -> bytes:
    """The request's body. Raises: ApiError 413 above the limit."""
    body, num_bytes = bytearray(), 0
    async for chunk in request.stream():
        num_bytes += len(chunk)
        if num_bytes <= MAX_BODY_BYTES:
            body += chunk
        elif num_bytes > DISCARD_BYTES:
            break
    if num_bytes > MAX_BODY_BYTES:
        raise ApiError(413, "body_too_large", f"expected at most {MAX_BODY_BYTES} bytes; send fewer texts at once")
    return bytes(body)


async def predict(server: "Server", request: Request) -> Response:
    """`POST /predict`."""
    received_at = time.time()
    message = parse(PredictRequest, decode(await read_body(request)))
    texts = message.inputs()
    champion = server.champion()
    request_id, probabilities_NC, answers = await _answer(
        server, request, champion, texts, message.request_id, received_at
    )
    predictions: list[dict[str, Any]] = [
        dict(zip(answers, values, strict=True)) for values in zip(*answers.values(), strict=True)
    ]
    if message.return_all and champion.predictor.manifest.target.task in ("single_label", "multi_label"):
        labels = champion.predictor.labels
        for prediction, probabilities_C in zip(predictions, probabilities_NC.tolist(), strict=True):
            prediction["probabilities"] = dict(zip(labels, probabilities_C, strict=True))
    return json_response({"request_id": request_id, "predictions": predictions, "model": asdict(champion.identity)})


async def _answer(
    server: "Server",
    request: Request,
    champion: Champion,
    texts: Sequence[Text],
    wanted_id: str | None,
    received_at: float,
) -> tuple[str, Floats, Answers]:
    """Claim the id, infer, log: what /predict and the inference protocol share.

    Returns the request's id, probabilities_NC and the answers.
    """
    started = time.perf_counter()
    _check_pairs(champion, texts)
    request_id = await server.claim(champion.identity.name, wanted_id, texts)
    try:
        probabilities_NC = await server.infer(request, champion, texts)
    except BaseException:
        server.unclaim(request_id)
        raise
    latency_ms = (time.perf_counter() - started) * 1000
    common = {"request_id": request_id, "received_at": received_at, "latency_ms": latency_ms}
    answers = champion.predictor.answers(texts, probabilities_NC)
    rows = log_rows(champion, texts, probabilities_NC, answers, common, server.settings.audit_rate)
    server.record(rows, named(answers))
    server.metrics.abstentions.inc(sum(answers.get("abstained", ())))
    return request_id, probabilities_NC, answers


def _check_pairs(champion: Champion, texts: Sequence[Text]) -> None:
    """A model that learnt pairs would answer half of one too, and wrongly. Raises: ApiError 422."""
    pairs = champion.predictor.manifest.pairs
    if any(isinstance(text, str) is pairs for text in texts):
        expected, got = ("pairs of sentences", "one") if pairs else ("single sentences", "a pair")
        remedy = "send 'text' and 'text_pair'" if pairs else "leave 'text_pair' out"
        raise ApiError(422, "pairs", f"{champion.identity.name} reads {expected}, got {got}; {remedy}", "text_pair")


def log_rows(
    champion: Champion,
    texts: Sequence[Text],
    probabilities_NC: Floats,
    answers: Answers,
    common: dict[str, Any],
    audit_rate: float,
) -> list[dict[str, Any]]:
    """One row of the `requests` table a text; only classes are drawn for a person to label."""
    identity = champion.identity
    audit_rate = audit_rate if _is_classifier(champion) else 0.0
    label_N = _logged_labels(answers)
    logged = _logged_probabilities(answers, probabilities_NC)
    rows = []
    for item, text in enumerate(texts):
        first, second = (text, None) if isinstance(text, str) else text
        rows.append(
            common
            | {
                "item": item,
                "name": identity.name,
                "model_sha256": identity.model_sha256,
                "version": identity.version,
                "arm": "champion",
                "text": first,
                "text_pair": second,
                "label": label_N[item],
                "probabilities": logged[item],
                "audit": records.drawn_for_audit(common["request_id"], item, audit_rate),
            }
        )
    return rows


def _logged_labels(answers: Answers) -> list[str]:
    """The answers as the log's one column of text: a class, a JSON list of them or of entities, or a number."""
    if "label" in answers:
        return answers["label"]
    (values,) = (answers[name] for name in ("labels", "score", "entities") if name in answers)
    return [json.dumps(value, ensure_ascii=False) for value in values]


def _logged_probabilities(answers: Answers, probabilities_NC: Floats) -> list[list[float]]:
    """Of each class; of entities, the score of each that was found."""
    if "entities" in answers:
        return [[round(entity["score"], PROBABILITY_DIGITS) for entity in found] for found in answers["entities"]]
    rounded: list[list[float]] = probabilities_NC.astype(float).round(PROBABILITY_DIGITS).tolist()
    return rounded


def _is_classifier(champion: Champion) -> bool:
    return champion.predictor.manifest.target.task == "single_label"


async def feedback(server: "Server", request: Request) -> Response:
    """`POST /feedback`."""
    message = parse(FeedbackRequest, decode(await read_body(request)))
    champion = server.champion()
    if not _is_classifier(champion):
        task = champion.predictor.manifest.target.task
        text = f"feedback is one class a text, but {champion.identity.name} answers {task}; it is not stored"
        raise ApiError(422, "task", text)
    labels = champion.predictor.labels
    if message.label not in labels and not message.new_label:
        text = (
            f"expected one of {', '.join(labels)}; got {message.label!r}. For a label that is new, send new_label: true"
        )
        raise ApiError(422, "unknown_label", text, "label")
    return json_response(await asyncio.to_thread(_store_feedback, server, champion.identity.name, message))


def _store_feedback(server: "Server", name: str, message: FeedbackRequest) -> dict[str, Any]:
    """Find the item, store its label. The log is flushed before, so an answer's id is known at once."""
    try:
        written = server.log.flush()
        row = _find_item(records.read_request(name, message.request_id), message, written)
        records.add_feedback(name, message.request_id, row["item"], message.label, time.time())
    except records.DuplicateFeedbackError as error:
        raise ApiError(409, "already_labelled", str(error), "request_id") from error
    except SQLAlchemyError as error:
        raise _log_away() from error
    agrees = row["label"] == message.label
    server.metrics.feedback.labels(agrees=str(agrees).lower()).inc()
    stored = {"request_id": message.request_id, "item": row["item"], "label": message.label}
    return stored | {"predicted": row["label"], "agrees": agrees}


def _find_item(rows: list[records.Row], message: FeedbackRequest, written: bool) -> records.Row:
    if not rows:
        if not written:
            raise _log_away()
        raise ApiError(404, "unknown_request", f"no request {message.request_id!r} in the log", "request_id")
    if message.item is None and len(rows) > 1:
        raise ApiError(422, "item_needed", f"the request had {len(rows)} texts: say which 'item', from 0", "item")
    found = [row for row in rows if row["item"] == (message.item or 0)]
    if not found:
        raise ApiError(422, "no_such_item", f"expected an item from 0 to {len(rows) - 1}, got {message.item}", "item")
    return found[0]


def _log_away() -> ApiError:
    return ApiError(503, "log_unavailable", "the request log cannot be reached now", headers={"Retry-After": "5"})


async def audit(server: "Server", request: Request) -> Response:
    """`GET /audit?limit=`: what waits for a person's label."""
    text = request.query_params.get("limit", "20")
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:6]) <= MAX_AUDIT_ITEMS:
        raise ApiError(422, "limit", f"expected a limit from 1 to {MAX_AUDIT_ITEMS}, got {text[:20]!r}", "limit")
    champion = server.champion()
    try:
        rows = await asyncio.to_thread(_read_audit, server, champion.identity.name, int(text))
    except SQLAlchemyError as error:
        raise _log_away() from error
    return json_response({"items": [_audit_item(row, champion) for row in rows], "labels": champion.predictor.labels})


def _read_audit(server: "Server", name: str, limit: int) -> list[records.Row]:
    server.log.flush()
    return records.audit_queue(name, limit)


def _audit_item(row: records.Row, champion: Champion) -> dict[str, Any]:
    """A row for a person to judge; candidates other than the answer only from the model that still serves."""
    fields = ("request_id", "item", "text", "text_pair", "label", "received_at", "version")
    labels = champion.predictor.labels
    scored = [(row["label"], max(row["probabilities"]))]
    if row["model_sha256"] == champion.identity.model_sha256:
        pairs = zip(labels, row["probabilities"], strict=True)
        scored = sorted(pairs, key=lambda pair: -pair[1])[:NUM_CANDIDATES]
    candidates = [{"label": label, "probability": probability} for label, probability in scored]
    return {field: row[field] for field in fields} | {"candidates": candidates}


async def identity(server: "Server", _request: Request) -> Response:
    """`GET /identity`."""
    champion = server.champion()
    manifest = champion.predictor.manifest
    threads = server.settings.threads or manifest.threads
    reads = {"labels": manifest.labels, "pairs": manifest.pairs, "max_tokens": manifest.max_tokens}
    reads["task"] = manifest.target.task
    return json_response(asdict(champion.identity) | reads | {"threads": threads})


async def livez(_server: "Server", _request: Request) -> Response:
    """`GET /livez`: the event loop turns."""
    return json_response({"live": True})


async def readyz(server: "Server", _request: Request) -> Response:
    """`GET /readyz`: 200 when predictions are answered, else 503 with the reason."""
    reason = server.not_ready()
    return json_response({"ready": reason is None, "reason": reason}, 200 if reason is None else 503)


async def metrics(server: "Server", _request: Request) -> Response:
    """`GET /metrics`."""
    return Response(server.metrics.exposition(), headers={"Content-Type": CONTENT_TYPE})


async def docs(_server: "Server", _request: Request) -> Response:
    """`GET /docs.json`: OpenAPI 3.1."""
    return json_response(openapi.document())


async def page(_server: "Server", _request: Request) -> Response:
    """`GET /`: the page on which a person tries the model and labels the audit queue."""
    return Response((WEB / "index.html").read_bytes(), media_type="text/html", headers=PAGE_HEADERS)


async def static(_server: "Server", request: Request) -> Response:
    """`GET /static/FILE`: the page's own files."""
    file = request.path_params["file"]
    if file not in STATIC:
        raise ApiError(404, "not_found", f"no such file: {file}")
    return Response((WEB / file).read_bytes(), media_type=STATIC[file], headers=PAGE_HEADERS)


async def v2_server(_server: "Server", _request: Request) -> Response:
    """`GET /v2`."""
    return json_response(protocol_v2.SERVER)


async def v2_live(_server: "Server", _request: Request) -> Response:
    """`GET /v2/health/live`."""
    return json_response({"live": True})


async def v2_ready(server: "Server", _request: Request) -> Response:
    """`GET /v2/health/ready`."""
    ready = server.not_ready() is None
    return json_response({"ready": ready}, 200 if ready else 503)


def _named(server: "Server", request: Request) -> Champion:
    """The champion, if the path names it. Raises: ApiError 404."""
    champion, name = server.champion(), request.path_params["name"]
    if name != champion.identity.name:
        raise ApiError(404, "unknown_model", f"expected the model {champion.identity.name!r}, got {name!r}", "name")
    return champion


async def v2_model(server: "Server", request: Request) -> Response:
    """`GET /v2/models/NAME`."""
    return json_response(protocol_v2.model_metadata(_named(server, request)))


async def v2_model_ready(server: "Server", request: Request) -> Response:
    """`GET /v2/models/NAME/ready`."""
    ready = _named(server, request) is not None and not server.draining
    return json_response({"name": request.path_params["name"], "ready": ready}, 200 if ready else 503)


async def v2_infer(server: "Server", request: Request) -> Response:
    """`POST /v2/models/NAME/infer`."""
    received_at = time.time()
    if "inference-header-content-length" in request.headers:
        raise ApiError(415, "binary_tensor", "expected tensors as JSON, got the binary extension; turn binary data off")
    message = parse(V2Request, decode(await read_body(request)))
    texts = message.texts()
    champion = _named(server, request)
    request_id, probabilities_NC, answers = await _answer(server, request, champion, texts, message.id, received_at)
    return json_response(protocol_v2.infer_response(message, request_id, champion, probabilities_NC, answers))
