"""One thin function a route: read, check, call, answer."""

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import Response

from bento import access, audit_records, openapi, protocol_v2, records
from bento.answer import Answer
from bento.client import client_of
from bento.metrics import CONTENT_TYPE
from bento.overload import arrived_at
from bento.predictor import Text
from bento.router import Champion
from bento.schemas import (
    DEADLINE_HEADER,
    MAX_BODY_BYTES,
    ApiError,
    FeedbackRequest,
    PredictRequest,
    V2Request,
    decode,
    parse,
)

if TYPE_CHECKING:
    from bento.app import Server

WEB = Path(__file__).parent / "web"
SCRIPTS = ("app.js", "api.js", "audit.js", "parts.js", "try.js")
STATIC = dict.fromkeys(SCRIPTS, "text/javascript") | {"style.css": "text/css", "icon.svg": "image/svg+xml"}
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
DISCARD_BYTES = 16 * MAX_BODY_BYTES
"""An oversized body is read to this length before the refusal, so that the client sees the answer, not a reset."""
MAX_AUDIT_ITEMS = 500
NUM_CANDIDATES = 5


def json_response(content: Any, status: int = 200) -> Response:
    """`content` as JSON."""
    return Response(orjson.dumps(content), status, media_type="application/json")


def error_response(error: ApiError, path: str) -> Response:
    """The answer to a request to `path` that failed, in the shape that its clients read."""
    body = protocol_v2.error_body(error) if f"{path}/".startswith("/v2/") else error.body()
    return Response(body, error.status, error.headers, "application/json")


async def read_body(request: Request) -> bytes:
    """The request's body. Raises: ApiError 413 above the limit."""
    body, num_bytes, more = bytearray(), 0, True
    while more and num_bytes <= DISCARD_BYTES:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ApiError(499, "client_gone", "the client closed the connection")
        chunk, more = message.get("body", b""), message.get("more_body", False)
        num_bytes += len(chunk)
        if num_bytes <= MAX_BODY_BYTES:
            body += chunk
    if num_bytes > MAX_BODY_BYTES:
        raise ApiError(413, "body_too_large", f"expected at most {MAX_BODY_BYTES} bytes; send fewer texts at once")
    return bytes(body)


async def predict(server: "Server", request: Request) -> Response:
    """`POST /predict`."""
    received_at = time.time()
    message = parse(PredictRequest, decode(await read_body(request)))
    texts = message.inputs()
    champion = server.champion()
    champion, request_id, answers = await _answer(
        server, request, champion, texts, message.request_id, message.key, received_at
    )
    predictions = [answer.prediction for answer in answers]
    if message.return_all and champion.predictor.manifest.target.task in ("single_label", "multi_label"):
        labels = champion.predictor.labels
        predictions = [
            answer.prediction | {"probabilities": dict(zip(labels, answer.probabilities(), strict=True))}
            for answer in answers
        ]
    return json_response({"request_id": request_id, "predictions": predictions, "model": champion.identity_json})


async def _answer(
    server: "Server",
    request: Request,
    champion: Champion,
    texts: Sequence[Text],
    wanted_id: str | None,
    key: str | None,
    received_at: float,
) -> tuple[Champion, str, list[Answer]]:
    """Claim the id, choose the arm, infer, log: what /predict and the inference protocol share.

    Returns the model that answered, the request's id and the answers.
    """
    deadline = arrived_at(request) + _timeout_ms(request, server.settings.deadline_ms) / 1000
    _check_pairs(champion, texts)
    if wanted_id is not None:
        await server.claim(champion.identity.name, wanted_id, texts)
    request_id = server.fresh_id(request) if wanted_id is None else wanted_id
    serving, unit = server.router.serving, key or request_id
    champion = serving.choose(unit) or champion
    try:
        answers = await server.inference.answer(champion.predictor, texts, deadline, client_of(request))
    except BaseException as error:
        server.unclaim(request_id)
        if isinstance(error, Exception) and not (isinstance(error, ApiError) and error.status < 500):
            server.arm_counts.add(serving, champion, unit, None)
        raise
    server.arm_counts.add(serving, champion, unit, answers)
    latency_ms = (time.perf_counter() - arrived_at(request)) * 1000
    common = {"request_id": request_id, "received_at": received_at, "latency_ms": latency_ms}
    common["caller"] = _caller(request)
    audit_rate = server.router.audit_rate(server.settings.audit_rate)
    server.record(log_rows(champion, texts, answers, common, audit_rate), answers)
    server.shadow.mirror(request_id, texts, received_at)
    return champion, request_id, answers


def _caller(request: Request) -> str | None:
    """Whose key came with the request, as the log names it."""
    name = request.scope.get(access.CALLER)
    return None if name is None else access.log_name(name)


def _owner(server: "Server", request: Request) -> str | None:
    """Whose rows the request may see and label; None for all."""
    return None if server.keys is None else server.keys.owner(request)


def _timeout_ms(request: Request, longest_ms: float) -> float:
    """How long the client waits, as it says in its header, though not longer than the service's own deadline."""
    wanted = request.headers.get(DEADLINE_HEADER)
    if wanted is None:
        return longest_ms
    if not wanted.isascii() or not wanted.isdigit() or not float(wanted) >= 1:
        message = f"expected whole milliseconds from 1 in {DEADLINE_HEADER}, got {wanted[:20]!r}"
        raise ApiError(400, "deadline", message, DEADLINE_HEADER)
    return min(float(wanted), longest_ms)


def _check_pairs(champion: Champion, texts: Sequence[Text]) -> None:
    """A model that learnt pairs would answer half of one too, and wrongly. Raises: ApiError 422."""
    pairs = champion.predictor.manifest.pairs
    if any(isinstance(text, str) is pairs for text in texts):
        expected, got = ("pairs of sentences", "one") if pairs else ("single sentences", "a pair")
        remedy = "send 'text' and 'text_pair'" if pairs else "leave 'text_pair' out"
        raise ApiError(422, "pairs", f"{champion.identity.name} reads {expected}, got {got}; {remedy}", "text_pair")


def log_rows(
    champion: Champion, texts: Sequence[Text], answers: Sequence[Answer], common: dict[str, Any], audit_rate: float
) -> list[dict[str, Any]]:
    """One row of the `requests` table a text; only classes are drawn for a person to label."""
    identity = champion.identity
    audit_rate = audit_rate if _is_classifier(champion) else 0.0
    rows = []
    for item, (text, answer) in enumerate(zip(texts, answers, strict=True)):
        first, second = (text, None) if isinstance(text, str) else text
        rows.append(
            common
            | {
                "item": item,
                "name": identity.name,
                "model_sha256": identity.model_sha256,
                "version": identity.version,
                "arm": champion.arm,
                "text": first,
                "text_pair": second,
                "label": answer.logged,
                "probabilities": answer.probabilities_C,
                "audit": records.drawn_for_audit(common["request_id"], item, audit_rate),
                "audit_rate": audit_rate,
            }
        )
    return rows


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
    name, owner = champion.identity.name, _owner(server, request)
    return json_response(await asyncio.to_thread(_store_feedback, server, name, message, owner))


def _store_feedback(server: "Server", name: str, message: FeedbackRequest, owner: str | None) -> dict[str, Any]:
    """Find the item, store its label. The log is flushed before, so an answer's id is known at once."""
    try:
        written = server.log.flush()
        known = records.read_request(name, message.request_id)
        rows = [row for row in known if owner is None or row["caller"] in (None, owner)]
        row = _find_item(rows, message, written)
        records.add_feedback(
            name,
            message.request_id,
            row["item"],
            message.label,
            time.time(),
            source="audit" if message.audit else "client",
            replace=message.replace,
        )
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
    if not re.fullmatch("[0-9]{1,9}", text) or not 1 <= int(text) <= MAX_AUDIT_ITEMS:
        raise ApiError(422, "limit", f"expected a limit from 1 to {MAX_AUDIT_ITEMS}, got {text[:20]!r}", "limit")
    champion = server.champion()
    try:
        rows, counts = await asyncio.to_thread(
            _read_audit, server, champion.identity.name, int(text), _owner(server, request)
        )
    except SQLAlchemyError as error:
        raise _log_away() from error
    items = [_audit_item(row, champion) for row in rows]
    return json_response({"items": items, "labels": champion.predictor.labels, "progress": asdict(counts)})


def _read_audit(
    server: "Server", name: str, limit: int, owner: str | None
) -> tuple[list[records.Row], audit_records.QueueCounts]:
    server.log.flush()
    return audit_records.audit_queue(name, limit, caller=owner), audit_records.count_queue(name)


def _audit_item(row: records.Row, champion: Champion) -> dict[str, Any]:
    """A row for a person to judge; candidates other than the answer only from the model that still serves."""
    fields = ("request_id", "item", "text", "text_pair", "label", "received_at", "version", "stream", "reason")
    labels = champion.predictor.labels
    scored = [(row["label"], max(row["probabilities"]))]
    if row["model_sha256"] == champion.identity.model_sha256:
        pairs = zip(labels, row["probabilities"], strict=True)
        scored = sorted(pairs, key=lambda pair: -pair[1])[:NUM_CANDIDATES]
    candidates = [{"label": label, "probability": probability} for label, probability in scored]
    label = row["proposed_label"]
    proposal = None if label is None else {"label": label, "probability": row["proposed_probability"]}
    return {field: row[field] for field in fields} | {"candidates": candidates, "proposal": proposal}


async def identity(server: "Server", _request: Request) -> Response:
    """`GET /identity`."""
    champion = server.champion()
    manifest = champion.predictor.manifest
    threads = server.settings.threads or manifest.served_threads
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
    """`GET /metrics`, in a thread: a thousand series take longer than a prediction."""
    content = await asyncio.to_thread(server.exposition)
    return Response(content, headers={"Content-Type": CONTENT_TYPE})


async def docs(server: "Server", _request: Request) -> Response:
    """`GET /docs.json`: OpenAPI 3.1."""
    keys, limited = server.keys is not None, server.rate_limit is not None
    return json_response(openapi.document(keys=keys, limited=limited, metrics_open=server.settings.metrics_open))


async def schema(_server: "Server", _request: Request) -> Response:
    """`GET /schema.json`: what BentoML's own clients ask for first."""
    return json_response(openapi.bentoml_schema())


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
    _check_ready(server)
    return json_response({"ready": True})


def _check_ready(server: "Server") -> None:
    """Raises: ApiError 503 while predictions should not be sent here."""
    if reason := server.not_ready():
        raise ApiError(503, "not_ready", reason, headers={"Retry-After": "1"})


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
    name = _named(server, request).identity.name
    _check_ready(server)
    return json_response({"name": name, "ready": True})


async def v2_infer(server: "Server", request: Request) -> Response:
    """`POST /v2/models/NAME/infer`."""
    received_at = time.time()
    json_part, binary = protocol_v2.split_body(await read_body(request), request.headers)
    message = parse(V2Request, decode(json_part))
    texts = message.texts(binary)
    champion = _named(server, request)
    wanted = protocol_v2.wanted_outputs(message, champion)
    champion, request_id, answers = await _answer(
        server, request, champion, texts, message.id, message.key(), received_at
    )
    return json_response(protocol_v2.infer_response(wanted, request_id, champion, answers))
