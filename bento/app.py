"""The ASGI app: settings, what lives as long as the process, and the routes.

POST /predict  POST /feedback  GET /audit  GET /identity  /livez  /readyz  /metrics  /docs.json  /schema.json  /
and /v2/...
"""

import asyncio
import logging
import os
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bento import access, handlers, records
from bento.answer import Answer
from bento.arm_counts import ArmCounts
from bento.batcher import Batcher
from bento.cache import AnswerCache, RedisCache
from bento.connections import Endpoint
from bento.inference import Inference
from bento.loop_metrics import LoopMetrics
from bento.metrics import Metrics, outcome
from bento.overload import Overload, arrived_at
from bento.predictor import Text
from bento.processes import Siblings
from bento.redaction import text_rule
from bento.request_ids import AccessLog, RequestIds, WithRequestId, request_id
from bento.request_log import RequestLog
from bento.router import Champion, Identity, Router
from bento.schemas import ApiError
from bento.serve_settings import ServeSettings
from bento.shadow import Shadow

if TYPE_CHECKING:
    from bento.tracing import Tracing

logger = logging.getLogger(__name__)

CLAIM_TIMEOUT_S = 0.2
"""The look-up of a caller's request id may not hold up an answer for longer."""
CLAIM_PAUSE_S = 5.0
"""After a look-up that failed, none is tried for so long: a database that hangs does not hold up each answer."""
MAX_CLAIMED_IDS = 100_000

Handler = Callable[["Server", Request], Awaitable[Response]]


def _tracing() -> "Tracing | None":
    """Tracing where OpenTelemetry's variables ask for it; else its packages are not even imported."""
    if not any(name.startswith("OTEL_EXPORTER_OTLP_") for name in os.environ):
        return None
    from bento import tracing

    return tracing.from_env()


class Server:
    """What lives as long as the process: model, queue, log and metrics."""

    def __init__(
        self,
        settings: ServeSettings,
        *,
        bento: str = "",
        router: Router | None = None,
        siblings: Siblings | None = None,
    ) -> None:
        """`bento` is the tag of the Bento that this runs in, or empty; `siblings` are the others behind its port."""
        self.settings = settings
        self.siblings = siblings
        self.keys = settings.keys()
        self.rate_limit = settings.limit()
        self.access_log = AccessLog(settings.access_log) if settings.access_log else None
        self.tracing = _tracing()
        self.metrics = Metrics()
        self.router = router or Router(
            self.metrics,
            model=settings.model_folder(),
            follow=settings.follow,
            bento=bento,
            threads=settings.threads,
        )
        batcher = Batcher(
            self.metrics,
            workers=settings.workers,
            batch_tokens=settings.batch_tokens,
            queue_limit=settings.queue_limit,
            processes=settings.processes,
        )
        answers = AnswerCache(self.metrics, round(settings.cache_mb * 2**20))
        self.inference = Inference(self.metrics, batcher, answers, _redis(settings, self.metrics), self.tracing)
        self.loop_metrics = LoopMetrics(self._identity, self.metrics.loop_errors)
        self.metrics.registry.register(self.loop_metrics)
        key = settings.log_key.get_secret_value() if settings.log_key else None
        self.stored_text = text_rule(settings.log_text, key)
        self.log = RequestLog(self.metrics, stored_text=self.stored_text, spool_bytes=settings.spool_mb << 20)
        self.arm_counts = ArmCounts(self.metrics.arm_count_errors)
        self.shadow = Shadow(
            self.metrics, self.router, self.log, self.arm_counts, is_idle=lambda: batcher.num_queued == 0
        )
        self.draining = False
        self._ids = RequestIds()
        self.overload = Overload(
            self.metrics,
            deadline_ms=settings.deadline_ms,
            ids=self._ids,
            is_away=lambda: self.not_ready() is not None,
            access_log=self.access_log,
        )
        self._claimed: OrderedDict[str, str] = OrderedDict()
        self._predictions = cache(self.metrics.predictions.labels)
        self._arms = cache(self.metrics.arm_requests.labels)
        self._look_up_from = 0.0

    async def start(self) -> None:
        """Load the model and start the threads."""
        if self.siblings is not None:
            self.siblings.start(self.metrics.exposition)
        self.log.start()
        self.inference.start()
        self.arm_counts.start()
        self.shadow.start()
        await asyncio.to_thread(self.router.start)
        self.loop_metrics.start()

    async def stop(self) -> None:
        """Answer what waits and write the rest of the log."""
        self.drain()
        self.loop_metrics.stop()
        await asyncio.to_thread(self.router.stop)
        await asyncio.to_thread(self.shadow.stop)
        await self.inference.stop()
        await asyncio.to_thread(self.arm_counts.stop)
        await asyncio.to_thread(self.log.close)
        if self.siblings is not None:
            self.siblings.stop()
        if self.tracing is not None:
            await asyncio.to_thread(self.tracing.close)

    def drain(self) -> None:
        """Become not ready; requests are still answered."""
        self.draining = True
        self.metrics.ready.set(0)

    def exposition(self) -> bytes:
        """All metrics, of all processes behind the port, in Prometheus' text format."""
        own = self.metrics.exposition()
        return own if self.siblings is None else self.siblings.exposition(own)

    def _identity(self) -> Identity | None:
        return None if self.router.current is None else self.router.current.identity

    def not_ready(self) -> str | None:
        """Why predictions should not be sent here, or None."""
        if self.draining:
            return "the service is shutting down"
        return None if self.router.current is not None else self.router.reason

    def champion(self) -> Champion:
        """The model that serves. Raises: ApiError 503 when there is none."""
        if self.router.current is None:
            raise ApiError(503, "not_ready", self.router.reason, headers={"Retry-After": "1"})
        return self.router.current

    def fresh_id(self, request: Request) -> str:
        """The id in the answer's header; a new one where that is the caller's, who may send it again."""
        chosen = any(name == b"x-request-id" for name, _ in request.scope["headers"])
        return self._ids.new() if chosen else request_id(request)

    async def claim(self, name: str, request_id: str, texts: Sequence[Text]) -> None:
        """Take the caller's id, under which the same texts may come again, as from a client that tries again.

        Raises: ApiError 409 when other texts to the model `name` had this id before.
        """
        pairs = [(text, None) if isinstance(text, str) else text for text in texts]
        digest, known = records.texts_sha256(pairs), self._claimed.get(request_id)
        if known is None:
            logged = await self._logged_sha256(name, request_id)
            same = (None, digest, records.texts_sha256(pairs, self.stored_text))
            known = digest if logged in same else logged
        if known != digest:
            message = f"request_id {request_id!r} was used before, for other texts; take a new one"
            raise ApiError(409, "request_id_used", message, "request_id")
        self._claimed[request_id] = digest
        if len(self._claimed) > MAX_CLAIMED_IDS:
            self._claimed.popitem(last=False)

    def unclaim(self, request_id: str) -> None:
        """Let a request that failed be tried again under its id."""
        self._claimed.pop(request_id, None)

    async def _logged_sha256(self, name: str, request_id: str) -> str | None:
        """Digest of the texts that the log has under this id."""
        if time.monotonic() < self._look_up_from:
            return None
        try:
            lookup = asyncio.to_thread(records.request_texts, name, request_id)
            rows = await asyncio.wait_for(lookup, CLAIM_TIMEOUT_S)
        except Exception as error:  # noqa: BLE001 - the log's database being away must not fail an answer
            logger.warning("request_id %s is taken as new, since the log cannot be read: %r", request_id, error)
            self._look_up_from = time.monotonic() + CLAIM_PAUSE_S
            return None
        return records.texts_sha256(rows) if rows else None

    def record(self, rows: Sequence[dict[str, Any]], answers: Sequence[Answer]) -> None:
        """Count what was answered and hand the rows of one request to the log."""
        self._arms(rows[0]["arm"]).inc()
        for answer in answers:
            for label in answer.named:
                self._predictions(label).inc()
            for confidence in answer.confidences:
                self.metrics.confidence.observe(confidence)
            if answer.abstained:
                self.metrics.abstentions.inc()
        self.log.append(rows)


def _redis(settings: ServeSettings, metrics: Metrics) -> RedisCache | None:
    if settings.redis_url is None:
        return None
    return RedisCache(
        metrics, settings.redis_url, ttl_s=settings.redis_ttl_s, timeout_s=settings.redis_timeout_ms / 1000
    )


ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/", handlers.page),
    ("GET", "/static/{file}", handlers.static),
    ("POST", "/predict", handlers.predict),
    ("POST", "/feedback", handlers.feedback),
    ("GET", "/audit", handlers.audit),
    ("GET", "/identity", handlers.identity),
    ("GET", "/livez", handlers.livez),
    ("GET", "/readyz", handlers.readyz),
    ("GET", "/metrics", handlers.metrics),
    ("GET", "/docs.json", handlers.docs),
    ("GET", "/schema.json", handlers.schema),
    ("GET", "/v2", handlers.v2_server),
    ("GET", "/v2/health/live", handlers.v2_live),
    ("GET", "/v2/health/ready", handlers.v2_ready),
    ("GET", "/v2/models/{name}", handlers.v2_model),
    ("GET", "/v2/models/{name}/ready", handlers.v2_model_ready),
    ("POST", "/v2/models/{name}/infer", handlers.v2_infer),
)


def _endpoint(server: Server, path: str, handler: Handler) -> Endpoint:
    """`handler` with its errors turned into answers and its time and status counted."""
    handler = access.guarded(server, path, handler)

    latency = cache(partial(server.metrics.latency.labels, path))
    answered = cache(partial(server.metrics.requests.labels, path))

    async def endpoint(request: Request) -> Response:
        started = arrived_at(request)
        try:
            server.overload.check(request)
            response = await handler(server, request)
        except ApiError as refusal:
            response = _failed(server, refusal, request)
        except Exception:
            logger.exception("%s %s failed, request id %s", request.method, path, request_id(request))
            error = ApiError(500, "internal", "the service failed; its log says why")
            response = _failed(server, error, request)
        if server.draining:
            response.headers["Connection"] = "close"  # the next request then goes to another replica
        seconds = time.perf_counter() - started
        latency(outcome(response.status_code)).observe(seconds)
        answered(str(response.status_code)).inc()
        if server.access_log is not None:
            server.access_log.write(request, path, response.status_code, seconds)
        return response

    return endpoint if server.tracing is None else server.tracing.traced(path, endpoint)


def _failed(server: Server, error: ApiError, request: Request) -> Response:
    server.metrics.errors.labels(code=error.code).inc()
    return handlers.error_response(error, request.scope["path"])


def _otherwise(routes: Sequence[Route]) -> Handler:
    """What answers where no route does: 404, or 405 when the path exists with another method."""

    async def no_route(_server: Server, request: Request) -> Response:
        path = request.scope["path"]
        allowed = sorted({method for route in routes if route.path_regex.match(path) for method in route.methods or ()})
        if allowed:
            message = f"expected {' or '.join(allowed)}, got {request.method}"
            raise ApiError(405, "method_not_allowed", message, headers={"Allow": ", ".join(allowed)})
        raise ApiError(404, "not_found", f"no such path: {path[:200]}; /docs.json lists what there is")

    return no_route


def _middleware(settings: ServeSettings) -> Iterator[Middleware]:
    yield Middleware(WithRequestId)
    if settings.cors_origins:
        yield Middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "POST"),
            allow_headers=("Authorization", "Content-Type", "X-API-Key", "X-Request-Id"),
            expose_headers=("X-Request-Id", "Retry-After"),
        )


def direct_predict(server: Server) -> Endpoint | None:
    """What answers plain requests to /predict that skip ASGI; None where its layers are needed for what is set.

    Those are spans, and the client's address as a proxy forwards it, by which callers without keys are told apart.
    """
    if server.tracing is not None or (server.rate_limit is not None and server.keys is None):
        return None
    return _endpoint(server, "/predict", handlers.predict)


def create_app(server: Server) -> Starlette:
    """The app around `server`, which starts and stops with the app's lifespan."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        await server.start()
        try:
            yield
        finally:
            await server.stop()

    routes = [Route(path, _endpoint(server, path, handler), methods=[method]) for method, path, handler in ROUTES]
    otherwise = _endpoint(server, "other", _otherwise(routes))

    async def no_route(request: Request, _error: Exception) -> Response:
        return await otherwise(request)

    return Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=list(_middleware(server.settings)),
        exception_handlers={404: no_route, 405: no_route},
    )
