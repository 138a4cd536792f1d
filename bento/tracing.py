"""OpenTelemetry traces: a span for the request, one for its wait in the queue and one for its inference.

Imported only where an endpoint is configured. Spans leave in batches from a thread of their own, and are dropped, never
waited for, when nobody takes them. They go out as OTLP in JSON over HTTP, which every collector reads on port 4318: the
exporter package wants other versions of OpenTelemetry than BentoML and MLflow bring.
"""

import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, cast
from urllib.parse import unquote

import httpx
import orjson
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.requests import Request
from starlette.responses import Response

from bento import access
from bento.batcher import Waiting
from bento.errors import UserError
from bento.request_ids import request_id

logger = logging.getLogger(__name__)

Endpoint = Callable[[Request], Awaitable[Response]]

EXPORT_TIMEOUT_S = 5.0
UNTRACED = access.OPEN | {"/metrics"}
"""Probes and the page would drown the rest."""


def traces_url(environment: Mapping[str, str] = os.environ) -> str | None:
    """Where OpenTelemetry's own variables say that traces go, or None. Raises: UserError for gRPC."""
    own, common = environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), environment.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if not own and not common:
        return None
    protocol = environment.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environment.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if protocol and not protocol.startswith("http/"):
        raise UserError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL: expected http/json, got {protocol}; collectors take HTTP on port 4318"
        )
    return own or f"{str(common).rstrip('/')}/v1/traces"


def export_headers(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """`OTEL_EXPORTER_OTLP_HEADERS`, as `name=value,name=value` with the values percent-encoded."""
    text = environment.get("OTEL_EXPORTER_OTLP_TRACES_HEADERS") or environment.get("OTEL_EXPORTER_OTLP_HEADERS") or ""
    pairs = (part.partition("=") for part in text.split(",") if "=" in part)
    return {name.strip(): unquote(value.strip()) for name, _, value in pairs}


class OtlpJsonExporter(SpanExporter):
    """Sends spans as the JSON form of OTLP 1 (opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding)."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        """`url` takes POST requests."""
        self.url = url
        self.headers = {"Content-Type": "application/json", **headers}
        self.failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send one batch; a failure is logged once until the next success, and the batch is lost."""
        try:
            content = orjson.dumps(otlp(spans))
            httpx.post(self.url, content=content, headers=self.headers, timeout=EXPORT_TIMEOUT_S).raise_for_status()
        except httpx.HTTPError as error:
            if not self.failing:
                logger.warning("traces cannot be sent to %s and are dropped: %s", self.url, error)
            self.failing = True
            return SpanExportResult.FAILURE
        self.failing = False
        return SpanExportResult.SUCCESS


def otlp(spans: Sequence[ReadableSpan]) -> dict[str, Any]:
    """An ExportTraceServiceRequest; all `spans` are of one resource."""
    scope = {"scope": {"name": "retort"}, "spans": [_span(span) for span in spans]}
    return {
        "resourceSpans": [
            {"resource": {"attributes": _attributes(spans[0].resource.attributes)}, "scopeSpans": [scope]}
        ]
    }


def _span(span: ReadableSpan) -> dict[str, Any]:
    context = cast(SpanContext, span.get_span_context())  # a span that has ended has one
    parent = {"parentSpanId": f"{span.parent.span_id:016x}"} if span.parent else {}
    return parent | {
        "traceId": f"{context.trace_id:032x}",
        "spanId": f"{context.span_id:016x}",
        "traceState": context.trace_state.to_header(),
        "name": span.name,
        "kind": span.kind.value + 1,  # OTLP counts from "unspecified"
        "startTimeUnixNano": str(span.start_time),
        "endTimeUnixNano": str(span.end_time),
        "attributes": _attributes(span.attributes or {}),
        "status": {"code": span.status.status_code.value},
    }


def _attributes(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items()]


def _value(value: Any) -> dict[str, Any]:
    return {"intValue": str(value)} if isinstance(value, int) else {"stringValue": str(value)}


class Tracing:
    """What makes spans and sends them."""

    def __init__(self, exporter: SpanExporter) -> None:
        """Sampler, resource and batches are as OpenTelemetry's variables say."""
        resource = Resource({"service.name": "retort"}).merge(OTELResourceDetector().detect())
        self.provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self.provider.add_span_processor(BatchSpanProcessor(exporter))
        self.tracer = self.provider.get_tracer("retort")
        self.propagator = TraceContextTextMapPropagator()

    def traced(self, path: str, endpoint: Endpoint) -> Endpoint:
        """`endpoint` of the route `path` within a span, which continues the caller's trace (W3C `traceparent`)."""
        if path in UNTRACED:
            return endpoint

        async def traced(request: Request) -> Response:
            attributes = {
                "http.request.method": request.method,
                "http.route": path,
                "retort.request_id": request_id(request),
            }
            with self.tracer.start_as_current_span(
                f"{request.method} {path}",
                context=self.propagator.extract(request.headers),
                kind=SpanKind.SERVER,
                attributes=attributes,
            ) as span:
                response = await endpoint(request)
                span.set_attribute("http.response.status_code", response.status_code)
                if response.status_code >= 500:
                    span.set_status(Status(StatusCode.ERROR))
                return response

        return traced

    def phases(self, texts: Sequence[Waiting], asked_at: float) -> None:
        """Spans, below the current one, of the texts' time in the queue and in inference, which ends now.

        `asked_at` is in the seconds of `time.perf_counter`; texts that others asked before may have waited for longer.
        """
        now = time.perf_counter()
        since_epoch_s = time.time() - now
        taken_at = min((max(one.taken_at, asked_at) for one in texts if one.taken_at), default=None)

        def write(name: str, start: float, end: float) -> None:
            start_ns, end_ns = (round((since_epoch_s + each) * 1e9) for each in (start, end))
            span = self.tracer.start_span(name, start_time=start_ns, attributes={"retort.texts": len(texts)})
            span.end(end_ns)

        write("queue", asked_at, now if taken_at is None else taken_at)
        if taken_at is not None:
            write("inference", taken_at, now)

    def close(self) -> None:
        """Send the rest."""
        self.provider.shutdown()


def from_env() -> Tracing | None:
    """Tracing to where the environment says, or None."""
    url = traces_url()
    return None if url is None else Tracing(OtlpJsonExporter(url, export_headers()))
