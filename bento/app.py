"""The ASGI app: settings, what lives as long as the process, and the routes.

POST /predict  POST /feedback  GET /audit  GET /identity  /livez  /readyz  /metrics  /docs.json  /  and /v2/...
"""

import asyncio
import logging
import os
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bento import handlers, records
from bento.batcher import Batcher, QueueFullError
from bento.metrics import Metrics
from bento.predictor import Text
from bento.records import RequestLog
from bento.router import Champion, Router
from bento.schemas import ApiError
from bento.task_types import Floats

logger = logging.getLogger(__name__)

WATCH_AFTER_S = 0.05
"""A request that waits this long is watched for its client going away."""
CLAIM_TIMEOUT_S = 0.2
"""The look-up of a caller's request id may not hold up an answer for longer."""
MAX_CLAIMED_IDS = 100_000

Handler = Callable[["Server", Request], Awaitable[Response]]


class ServeSettings(BaseModel):
    """The service's settings, from the environment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Path | None = None
    """`RETORT_MODEL`: the model folder; the one in the Bento when absent."""
    follow: str | None = None
    """`RETORT_FOLLOW`: serve the champion of this name and follow its promotions."""
    audit_rate: float = Field(default=0.05, ge=0, le=1)
    """`RETORT_AUDIT_RATE`: share of requests drawn at random for labelling."""
    max_batch: int = Field(default=1, ge=1, le=256)
    """`RETORT_MAX_BATCH`: texts of equal length in one run; above 1, int8 answers depend on their neighbours."""
    queue_limit: int = Field(default=1024, ge=256)
    """`RETORT_QUEUE_LIMIT`: texts that may wait; beyond it the answer is 429."""
    threads: int | None = Field(default=None, ge=1)
    """`RETORT_THREADS`: ONNX Runtime threads; the model's manifest says when absent."""
    deadline_ms: float = Field(default=10_000, gt=0)
    """`RETORT_DEADLINE_MS`: a request that is not answered after this time gets a 503."""
    drain_ms: float = Field(default=500, ge=0)
    """`RETORT_DRAIN_MS`: from "not ready" to the closed socket at SIGTERM, for the load balancer to notice."""

    @classmethod
    def from_env(cls) -> Self:
        """Read `RETORT_*`; empty means absent."""
        names = {field: os.environ.get(f"RETORT_{field.upper()}") for field in cls.model_fields}
        return cls.model_validate({field: value for field, value in names.items() if value})

    def model_folder(self) -> Path | None:
        """The embedded model: `RETORT_MODEL`, or `model/` beside this package inside a Bento."""
        if self.model is not None:
            return self.model
        beside = Path(__file__).resolve().parent.parent / "model"
        return beside if beside.is_dir() else None


class Server:
    """What lives as long as the process: model, queue, log and metrics."""

    def __init__(self, settings: ServeSettings, *, bento: str = "", router: Router | None = None) -> None:
        """`bento` is the tag of the Bento that this runs in, or empty."""
        self.settings = settings
        self.metrics = Metrics()
        self.router = router or Router(
            self.metrics,
            model=settings.model_folder(),
            follow=settings.follow,
            bento=bento,
            threads=settings.threads,
        )
        self.batcher = Batcher(self.metrics, max_batch=settings.max_batch, queue_limit=settings.queue_limit)
        self.log = RequestLog(self.metrics)
        self.draining = False
        self._claimed: OrderedDict[str, str] = OrderedDict()

    async def start(self) -> None:
        """Load the model and start the threads."""
        self.log.start()
        self.batcher.start()
        await asyncio.to_thread(self.router.start)

    async def stop(self) -> None:
        """Answer what waits and write the rest of the log."""
        self.drain()
        await asyncio.to_thread(self.router.stop)
        await self.batcher.stop()
        await asyncio.to_thread(self.log.close)

    def drain(self) -> None:
        """Become not ready; requests are still answered."""
        self.draining = True
        self.metrics.ready.set(0)

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

    async def claim(self, name: str, request_id: str | None, texts: Sequence[Text]) -> str:
        """A fresh id, or the caller's, under which the same texts may come again, as from a client that tries again.

        Raises: ApiError 409 when other texts to the model `name` had this id before.
        """
        if request_id is None:
            return uuid4().hex
        digest = records.texts_sha256([(text, None) if isinstance(text, str) else text for text in texts])
        known = self._claimed.get(request_id) or await self._logged_sha256(name, request_id)
        if known not in (None, digest):
            message = f"request_id {request_id!r} was used before, for other texts; take a new one"
            raise ApiError(409, "request_id_used", message, "request_id")
        self._claimed[request_id] = digest
        if len(self._claimed) > MAX_CLAIMED_IDS:
            self._claimed.popitem(last=False)
        return request_id

    def unclaim(self, request_id: str) -> None:
        """Let a request that failed be tried again under its id."""
        self._claimed.pop(request_id, None)

    async def _logged_sha256(self, name: str, request_id: str) -> str | None:
        """Digest of the texts that the log has under this id."""
        try:
            lookup = asyncio.to_thread(records.read_request, name, request_id)
            rows = await asyncio.wait_for(lookup, CLAIM_TIMEOUT_S)
        except Exception as error:  # noqa: BLE001 - the log's database being away must not fail an answer
            logger.warning("request_id %s is taken as new, since the log cannot be read: %s", request_id, error)
            return None
        return records.texts_sha256([(row["text"], row["text_pair"]) for row in rows]) if rows else None

    async def infer(self, request: Request, champion: Champion, texts: Sequence[Text]) -> Floats:
        """probabilities_NC of `texts`. Raises: ApiError 429 for a full queue, 503 past the deadline."""
        try:
            answer = self.batcher.submit(champion.predictor, texts)
        except QueueFullError as error:
            raise ApiError(429, "queue_full", str(error), headers={"Retry-After": "1"}) from error
        watch = asyncio.get_running_loop().call_later(WATCH_AFTER_S, _watch, request, answer)
        try:
            async with asyncio.timeout(self.settings.deadline_ms / 1000):
                return await answer
        except TimeoutError as error:
            message = f"no answer within {self.settings.deadline_ms:g} ms; try again later"
            raise ApiError(503, "deadline_exceeded", message, headers={"Retry-After": "1"}) from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise ApiError(499, "client_gone", "the client closed the connection") from None
        finally:
            watch.cancel()

    def record(self, rows: Sequence[dict[str, Any]], labels: Sequence[str]) -> None:
        """Count the labels that were answered and hand the rows to the log."""
        for label in labels:
            self.metrics.predictions.labels(label=label).inc()
        self.log.append(rows)


def _watch(request: Request, answer: asyncio.Future[Floats]) -> None:
    """Cancel `answer` when the client goes away before it is there."""
    task = asyncio.ensure_future(_cancel_when_gone(request, answer))
    answer.add_done_callback(lambda _: task.cancel())


async def _cancel_when_gone(request: Request, answer: asyncio.Future[Floats]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    answer.cancel()


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
    ("GET", "/v2", handlers.v2_server),
    ("GET", "/v2/health/live", handlers.v2_live),
    ("GET", "/v2/health/ready", handlers.v2_ready),
    ("GET", "/v2/models/{name}", handlers.v2_model),
    ("GET", "/v2/models/{name}/ready", handlers.v2_model_ready),
    ("POST", "/v2/models/{name}/infer", handlers.v2_infer),
)


def _endpoint(server: Server, path: str, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """`handler` with its errors turned into answers and its time and status counted."""

    async def endpoint(request: Request) -> Response:
        started = time.perf_counter()
        try:
            response = await handler(server, request)
        except ApiError as error:
            response = handlers.error_response(error)
        except Exception:
            logger.exception("%s %s failed", request.method, path)
            response = handlers.error_response(ApiError(500, "internal", "the service failed; its log says why"))
        server.metrics.latency.labels(route=path).observe(time.perf_counter() - started)
        server.metrics.requests.labels(route=path, status=str(response.status_code)).inc()
        return response

    return endpoint


async def _no_route(server: Server, request: Request) -> Response:
    """404, or 405 when the path exists with another method."""
    allowed = {method for method, path, _ in ROUTES if path == request.url.path}
    if allowed:
        message = f"expected {' or '.join(sorted(allowed))}, got {request.method}"
        raise ApiError(405, "method_not_allowed", message, headers={"Allow": ", ".join(sorted(allowed))})
    raise ApiError(404, "not_found", f"no such path: {request.url.path}; /docs.json lists what there is")


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
    every_method = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    routes.append(Route("/{path:path}", _endpoint(server, "other", _no_route), methods=every_method))
    return Starlette(routes=routes, lifespan=lifespan)
