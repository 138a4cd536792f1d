"""Traces as a collector receives them, from a service and a receiver in this process."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from bento import tracing
from bento.app import Server, create_app
from bento.errors import UserError
from bento.predictor import Predictor
from tests.serving import serving

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
ROOT = Path(__file__).resolve().parents[2]


class Collector:
    """What was posted to it."""

    def __init__(self, status: int) -> None:
        self.posts: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        posts = self.posts

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                posts.append((self.path, dict(self.headers), json.loads(body)))
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def spans(self) -> list[dict[str, Any]]:
        """All spans, by their start."""
        scopes = [scope for *_, body in self.posts for each in body["resourceSpans"] for scope in each["scopeSpans"]]
        return sorted(
            (span for scope in scopes for span in scope["spans"]), key=lambda span: int(span["startTimeUnixNano"])
        )


@pytest.fixture
def collect(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Collector]]:
    """Start a collector and point the environment at it."""
    collectors: list[Collector] = []

    def start(status: int = 200) -> Collector:
        collector = Collector(status)
        threading.Thread(target=collector.server.serve_forever, args=(0.01,)).start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        collectors.append(collector)
        return collector

    yield start
    for collector in collectors:
        collector.server.shutdown()
        collector.server.server_close()


def attributes(span: dict[str, Any]) -> dict[str, str]:
    return {each["key"]: next(iter(each["value"].values())) for each in span["attributes"]}


def test_a_request_has_a_span_with_its_wait_and_its_inference_and_continues_the_callers_trace(
    make_server: Callable[..., Server], collect: Callable[..., Collector], monkeypatch: pytest.MonkeyPatch
) -> None:
    collector = collect()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b,x=y")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1", "X-Request-Id": "r-1"}
    with serving(create_app(make_server())) as client:
        client.post("/predict", json={"texts": ["my card", "refund"]}, headers=headers)
        client.get("/livez", headers=headers)
    (path, sent, body), *_ = collector.posts
    assert (path, sent["Content-Type"], sent["api-key"], sent["x"]) == ("/v1/traces", "application/json", "a b", "y")
    resource = attributes(body["resourceSpans"][0]["resource"])
    assert (resource["service.name"], resource["deployment.environment"]) == ("retort", "test")
    request, queue, inference = collector.spans()
    assert {span["traceId"] for span in (request, queue, inference)} == {TRACE}
    assert (request["name"], request["kind"], request["parentSpanId"]) == ("POST /predict", 2, PARENT)
    assert request["traceState"] == "vendor=1"
    assert attributes(request) == {
        "http.request.method": "POST", "http.route": "/predict", "http.response.status_code": "200",
        "retort.request_id": "r-1",
    }  # fmt: skip
    assert [span["name"] for span in (queue, inference)] == ["queue", "inference"]
    assert {span["parentSpanId"] for span in (queue, inference)} == {request["spanId"]}
    times = [int(span[f"{end}TimeUnixNano"]) for span in (queue, inference) for end in ("start", "end")]
    assert times == sorted(times)
    assert times[1] == times[2]
    assert int(request["startTimeUnixNano"]) <= times[0] < times[3] <= int(request["endTimeUnixNano"])
    assert "my card" not in json.dumps(collector.posts)


def test_what_is_sent_is_what_the_protocol_defines(
    make_server: Callable[..., Server], collect: Callable[..., Collector]
) -> None:
    collector = collect()
    with serving(create_app(make_server())) as client:
        client.post("/predict", json={"text": "my card"})
    for *_, body in collector.posts:
        assert ParseDict(body, ExportTraceServiceRequest()).resource_spans


def test_a_failed_request_is_an_error_and_a_refused_one_is_not(
    make_server: Callable[..., Server], collect: Callable[..., Collector], monkeypatch: pytest.MonkeyPatch
) -> None:
    collector, server = collect(), make_server()

    def fail(*_: object) -> None:
        raise RuntimeError("planted")

    with serving(create_app(server)) as client:
        assert client.post("/predict", json={}).status_code == 422
        monkeypatch.setattr(Predictor, "logits", fail)
        assert client.post("/predict", json={"text": "card"}).status_code == 500
    requests = [span for span in collector.spans() if span["kind"] == 2]
    assert [(attributes(span)["http.response.status_code"], span["status"]["code"]) for span in requests] == [
        ("422", 0),
        ("500", 2),
    ]


def test_a_caller_that_does_not_sample_leaves_no_spans(
    make_server: Callable[..., Server], collect: Callable[..., Collector]
) -> None:
    collector = collect()
    with serving(create_app(make_server())) as client:
        client.post("/predict", json={"text": "card"}, headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})
    assert collector.posts == []


def test_a_broken_traceparent_begins_a_new_trace(
    make_server: Callable[..., Server], collect: Callable[..., Collector]
) -> None:
    collector = collect()
    with serving(create_app(make_server())) as client:
        for broken in ("", "00-zz", f"00-{'0' * 32}-{PARENT}-01"):
            assert client.post("/predict", json={"text": "card"}, headers={"traceparent": broken}).status_code == 200
    assert len({span["traceId"] for span in collector.spans()}) == 3


def test_a_collector_that_fails_or_is_gone_is_told_once_and_fails_no_answer(
    make_server: Callable[..., Server],
    collect: Callable[..., Collector],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    collector = collect(status=500)
    with serving(create_app(make_server())) as client:
        for _ in range(3):
            assert client.post("/predict", json={"text": "card"}).status_code == 200
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    with serving(create_app(make_server())) as client:
        assert client.post("/predict", json={"text": "card"}).status_code == 200
    assert collector.posts
    assert caplog.text.count("traces cannot be sent") == 2


def test_variables_of_opentelemetry_say_where_traces_go() -> None:
    common = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/"}
    assert tracing.traces_url({}) is None
    assert tracing.traces_url(common) == "http://c:4318/v1/traces"
    assert tracing.traces_url(common | {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t/x"}) == "http://t/x"
    with pytest.raises(UserError, match="expected http/json, got grpc"):
        tracing.traces_url(common | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})


def test_without_a_collector_nothing_of_it_is_loaded_or_called(server: Server) -> None:
    assert server.tracing is None
    code = "import sys; from bento.app import *; Server(ServeSettings()); assert 'bento.tracing' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
