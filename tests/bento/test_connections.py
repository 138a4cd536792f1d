"""Bad input as bytes: whatever a client sends, it gets a 4xx or is hung up on, and the next is answered."""

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from urllib.parse import urlsplit

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bento import connections
from bento.app import Server, create_app, direct_predict
from bento.connections import MAX_HEADER_BYTES, Behind
from tests.live import live

BODY = b'{"text": "my card"}'
V2 = b"/v2/models/tiny/infer"


@pytest.fixture(params=["through uvicorn", "directly"])
def port(make_server: Callable[..., Server], request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of a service, which answers plain requests in this way."""
    server = make_server()
    behind = Behind(server.overload, direct_predict(server)) if request.param == "directly" else None
    with live(create_app(server), behind) as url:
        yield urlsplit(url).port or 0


def tensor(**changes: object) -> bytes:
    """A request of the inference protocol."""
    whole = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"]} | changes
    return json.dumps({"inputs": [whole]}).encode()


def post(
    body: bytes = BODY, headers: bytes = b"", path: bytes = b"/predict", method: bytes = b"POST",
    version: bytes = b"1.1", length: int | None = None,
) -> bytes:  # fmt: skip
    size = len(body) if length is None else length
    return b"%b %b HTTP/%b\r\nHost: x\r\n%bContent-Length: %d\r\n\r\n%b" % (method, path, version, headers, size, body)


def get(path: bytes, headers: bytes = b"Host: x\r\n") -> bytes:
    return b"GET %b HTTP/1.1\r\n%b\r\n" % (path, headers)


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def read(client: socket.socket) -> bytes:
    """One answer, or what came until the server hung up."""
    head = bytearray()
    while b"\r\n\r\n" not in head and (chunk := receive(client)):
        head += chunk
        if head.startswith(b"HTTP/1.1 100 "):
            head = head.partition(b"\r\n\r\n")[2]
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    whole = head.find(b"\r\n\r\n") + 4 + int(length or 0)
    while len(head) < whole and (chunk := receive(client)):
        head += chunk
    return bytes(head)


def receive(client: socket.socket) -> bytes:
    try:
        return client.recv(65536)
    except ConnectionError:  # the server hung up on what it had not read
        return b""


def read_to_end(client: socket.socket) -> bytes:
    """All that comes until the server hangs up."""
    received = b""
    while chunk := receive(client):
        received += chunk
    return received


def ask(port: int, data: bytes) -> bytes:
    with closing(connect(port)) as client:
        with contextlib.suppress(ConnectionError):  # refused before all was sent: the answer is there
            client.sendall(data)
        return read(client)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def request_id(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[0].partition(b"x-request-id: ")[2].partition(b"\r\n")[0]


def is_json_error(answer: bytes) -> bool:
    error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    return bool(error if isinstance(error, str) else error["message"])


CHUNKED = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
ANSWERED = {
    "whole": post(),
    "HTTP/1.0": post(version=b"1.0"),
    "in chunks": CHUNKED + b'5\r\n{"tex\r\ne\r\nt": "my card"}\r\n0\r\n\r\n',
    "in chunks with a trailer": CHUNKED + b"13\r\n" + BODY + b"\r\n0\r\nX-A: b\r\n\r\n",
    "after 100-continue": post(headers=b"Expect: 100-continue\r\n"),
    "with an offer of HTTP/2": post(
        headers=b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n"
    ),
    "with a key twice": post(b'{"text": "refund", "text": "my card"}'),
    "with NUL": post(b'{"text": "\\u0000 a"}'),
    "of 100,000 tokens": post(json.dumps({"texts": ["card " * 390] * 256}).encode()),
    "with a host that is none": get(b"/livez", b"Host: [::1\r\n"),
    "absolute": get(b"http://x/livez"),
    "with an id that is none": get(b"/livez", b"Host: x\r\nX-Request-Id: \xff\t<script>\r\n"),
    "with keys that nobody asked for": get(
        b"/identity", b"Host: x\r\nAuthorization: Bearer \xff\r\nX-API-Key: \xfe\r\n"
    ),
}


@pytest.mark.parametrize("data", ANSWERED.values(), ids=ANSWERED)
def test_unusual_requests_that_are_right_are_answered(port: int, data: bytes) -> None:
    answer = ask(port, data)
    assert status(answer) == 200, answer


REFUSED = {
    "10 MB": (413, post(b'{"text": "' + b"a" * 10_000_000 + b'"}')),
    "deep lists": (400, post(b"[" * 500_000)),
    "deep objects": (400, post(b'{"text":' * 100_000)),
    "deep texts": (422, post(b'{"texts":' + b"[" * 1000 + b"]" * 1000 + b"}")),
    "deep tensor": (422, post(tensor(data="DEEP").replace(b'"DEEP"', b"[" * 1000 + b"]" * 1000), path=V2)),
    "one text of 100,000 tokens": (422, post(json.dumps({"text": "card " * 100_000}).encode())),
    "raw NUL": (400, post(b'{"text": "\0"}')),
    "lone surrogate": (400, post(b'{"text": "\\ud800"}')),
    "raw surrogate": (400, post(b'{"text": "\xed\xa0\x80"}')),
    "byte order mark": (400, post(b"\xef\xbb\xbf" + BODY)),
    "UTF-16": (400, post(BODY.decode().encode("utf-16"))),
    "compressed": (400, post(b"\x1f\x8b\x08\x00", headers=b"Content-Encoding: gzip\r\n")),
    "not a number": (400, post(b'{"text": NaN}')),
    "endless number": (400, post(b'{"text": 1e999}')),
    "long number": (422, post(b'{"request_id":"a","label":"refund","item":' + b"9" * 30 + b"}", path=b"/feedback")),
    "unknown field": (422, post(b'{"text": "a", "txt": "b"}')),
    "wrong type": (422, post(b'{"text": ["a"]}')),
    "nothing": (400, post(b"")),
    "long shape": (422, post(tensor(shape=[1] * 99_999), path=V2)),
    "long header number": (400, post(path=V2, headers=b"Inference-Header-Content-Length: " + b"9" * 5000 + b"\r\n")),
    "long query": (422, get(b"/audit?limit=" + b"9" * 50_000)),
    "long path": (404, get(b"/" + b"a" * 50_000)),
    "path that is not UTF-8": (404, get(b"/%ff%fe/%ed%a0%80")),
    "path with NUL": (404, get(b"/static/app.js%00.css")),
    "host that is none": (404, get(b"/nope", b"Host: [::1\r\n")),
    "up": (404, get(b"/static/../app.py")),
    "up, encoded": (404, get(b"/static/..%2f..%2fapp.py")),
    "up, twice encoded": (404, get(b"/static/..%252f..%252fapp.py")),
    "up, backslash": (404, get(b"/static/..\\app.py")),
    "up, absolute": (404, get(b"/static//etc/passwd")),
    "TRACE": (405, post(b"", method=b"TRACE")),
    "PROPFIND": (405, post(method=b"PROPFIND")),
    "DELETE": (405, post(method=b"DELETE", path=b"/v2/models/tiny")),
    "OPTIONS *": (404, b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"),
    "WebSocket": (405, get(b"/predict", b"Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n")),
    "endless header": (431, b"GET /livez HTTP/1.1\r\nX: " + b"a" * 10_000_000),
    "endless headers": (431, b"GET /livez HTTP/1.1\r\n" + b"X: a\r\n" * 1_000_000),
    "endless trailer": (431, CHUNKED + b"2\r\n{}\r\n0\r\nX: " + b"a" * 10_000_000),
    "endless trailers": (431, CHUNKED + b"2\r\n{}\r\n0\r\n" + b"X: a\r\n" * 1_000_000),
    "endless line of a chunk": (431, CHUNKED + b"2;x=" + b"a" * 10_000_000),
}  # fmt: skip


@pytest.mark.parametrize(("expected", "data"), REFUSED.values(), ids=REFUSED)
def test_bad_requests_are_refused_in_json_and_the_next_is_answered(port: int, expected: int, data: bytes) -> None:
    answer = ask(port, data)
    assert status(answer) == expected, answer[:500]
    assert is_json_error(answer)
    assert request_id(answer)
    assert status(ask(port, post())) == 200


BROKEN = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "unknown method": post(method=b"FOO"),
    "CONNECT": b"CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    "raw bytes in the path": get(b"/\xff\xfe"),
    "negative length": post(length=-5),
    "endless length": post(length=10**30),
    "two lengths": post(headers=b"Content-Length: 3\r\n"),
    "length and chunks": post(headers=b"Transfer-Encoding: chunked\r\n"),
    "chunk of no size": CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n",
    "unknown coding": b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
    "endless path": get(b"/" + b"a" * MAX_HEADER_BYTES),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_what_is_no_http_is_a_400_in_json_and_the_next_is_answered(port: int, data: bytes) -> None:
    with closing(connect(port)) as client:
        client.sendall(data)
        answer = read_to_end(client)
    assert (status(answer), answer.count(b"x-request-id: ")) == (400, 1)
    assert is_json_error(answer)
    assert len(request_id(answer)) == 32
    assert status(ask(port, post())) == 200


@pytest.mark.parametrize("length", [-5, 1000], ids=["no HTTP", "cut off"])
def test_what_is_refused_on_its_way_in_has_the_id_that_its_caller_chose(port: int, length: int) -> None:
    with closing(connect(port)) as client:
        client.sendall(post(headers=b"X-Request-Id: mine\r\n", length=length))
        client.shutdown(socket.SHUT_WR)
        answer = read_to_end(client)
    assert (status(answer), request_id(answer)) == (400, b"mine")


def test_a_length_that_is_too_short_does_not_let_the_rest_pass_as_a_request(port: int) -> None:
    smuggled = post(b'{"text": "a"}' + get(b"/livez"), length=13)
    answer = ask(port, post(b'{"text": "my card"}', length=5))
    assert status(answer) == 400
    assert status(ask(port, smuggled)) == 200


def test_a_key_in_a_trailer_is_none_for_its_request_nor_for_the_next(make_server: Callable[..., Server]) -> None:
    key = b"k" * 32
    server = make_server(api_keys=key.decode())
    data = CHUNKED + b"13\r\n" + BODY + b"\r\n0\r\nX-API-Key: " + key + b"\r\n\r\n"
    with live(create_app(server)) as url, closing(connect(urlsplit(url).port or 0)) as client:
        for _ in range(2):
            client.sendall(data)
            assert status(read(client)) == 401
        client.sendall(post(headers=b"X-API-Key: " + key + b"\r\n"))
        assert status(read(client)) == 200


def offer(protocol: bytes, more: bytes = b"", path: bytes = b"/feedback") -> bytes:
    """The head of a request with an offer that is not taken out of it before it is parsed, for its upper case."""
    return b"POST %b HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUPGRADE: %b\r\n%b\r\n" % (path, protocol, more)


WEBSOCKET_KEY = b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
WEBSOCKET = offer(b"websocket", WEBSOCKET_KEY, b"/nope")


@pytest.mark.parametrize("cut", [0, WEBSOCKET.index(b"GRADE:")], ids=["at once", "in two"])
def test_an_offer_of_websockets_is_answered_as_if_not_made_and_stays_in_flight_no_longer(
    make_server: Callable[..., Server], cut: int
) -> None:
    server = make_server()
    with live(create_app(server), Behind(server.overload, direct_predict(server))) as url:
        with closing(connect(urlsplit(url).port or 0)) as client:
            client.sendall(WEBSOCKET[:cut])
            time.sleep(0.05)
            client.sendall(WEBSOCKET[cut:])
            assert status(read(client)) == 404
        time.sleep(0.1)
        assert server.overload.load.in_flight == 0


@pytest.mark.parametrize("pause_s", [0, 0.05], ids=["at once", "in two"])
@pytest.mark.parametrize("protocol", [b"h2c", b"websocket"])
def test_the_body_behind_an_offer_does_not_pass_as_a_request(port: int, protocol: bytes, pause_s: float) -> None:
    body = post(headers=b"X-Request-Id: smuggled\r\n")
    with closing(connect(port)) as client:
        client.sendall(offer(protocol, b"Content-Length: %d\r\n" % len(body)))
        time.sleep(pause_s)
        with contextlib.suppress(ConnectionError):
            client.sendall(body)
        received = read_to_end(client)
    assert received.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in received
    assert b"smuggled" not in received


def test_nothing_is_read_behind_a_request_with_an_offer_while_it_is_answered() -> None:
    async def answer(_: Request) -> Response:
        await asyncio.sleep(0.3)
        return Response()

    app = Starlette(routes=[Route("/", answer, methods=["POST"])])
    with live(app) as url, closing(connect(urlsplit(url).port or 0)) as client:
        client.sendall(offer(b"h2c", path=b"/"))
        time.sleep(0.05)
        client.sendall(b"no HTTP\r\n\r\n")
        assert status(read_to_end(client)) == 200


@pytest.mark.parametrize("num", [50, 3000])
def test_pipelined_requests_are_answered_in_order(port: int, num: int) -> None:
    with closing(connect(port)) as client:
        ids = b"".join(get(b"/livez", b"X-Request-Id: n-%d\r\n" % number) for number in range(num))
        thread = threading.Thread(target=client.sendall, args=(ids,))
        thread.start()
        received = b""
        while received.count(b"x-request-id") < num:
            received += client.recv(65536)
        thread.join()
    order = [int(part.split(b"\r")[0]) for part in received.split(b"x-request-id: n-")[1:]]
    assert order == list(range(num))


@pytest.mark.parametrize(
    "data", [post(length=1000), b"POST /pre", get(b"/livez")[:-2]], ids=["body", "first line", "headers"]
)
def test_a_client_that_closes_its_side_within_its_request_hears_why(port: int, data: bytes) -> None:
    with closing(connect(port)) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        received = read_to_end(client)
    assert status(received) == 400
    assert b"connection: close" in received
    assert b"incomplete_request" in received
    assert status(ask(port, post())) == 200


@pytest.mark.parametrize("data", [post(), b""], ids=["whole request", "nothing"])
def test_a_client_that_closes_its_side_is_taken_as_gone(port: int, data: bytes) -> None:
    with closing(connect(port)) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        client.settimeout(5)
        while receive(client):
            pass
    assert status(ask(port, post())) == 200


def test_a_client_that_goes_within_its_body_is_no_failure_of_the_service(
    make_server: Callable[..., Server], caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server()
    with live(create_app(server)) as url:
        with closing(connect(urlsplit(url).port or 0)) as client:
            client.sendall(post(length=1000))
            time.sleep(0.1)
        until = time.monotonic() + 5
        counted = {"route": "/predict", "status": "499"}
        while not server.metrics.registry.get_sample_value("retort_requests_total", counted):
            assert time.monotonic() < until
            time.sleep(0.01)
    assert "failed" not in caplog.text


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_WITHIN_S", 0.4)
    monkeypatch.setattr(connections, "ANSWER_WITHIN_S", 0.4)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("first", [b"", post()], ids=["at first", "after another request"])
@pytest.mark.parametrize("data", [b"GET /livez HTTP/1.1\r\nX: a", post(length=50)], ids=["headers", "body"])
def test_a_request_that_dribbles_is_a_408(port: int, first: bytes, data: bytes) -> None:
    with closing(connect(port)) as client:
        if first:
            client.sendall(first)
            assert status(read(client)) == 200
        started = time.monotonic()
        for start in range(0, len(data), 8):
            client.sendall(data[start : start + 8])
            time.sleep(0.01)
        answer = read(client)
        assert 0.35 < time.monotonic() - started < 2
        assert status(answer) == 408
        assert is_json_error(answer)
        assert receive(client) == b""


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("cut", [10, -5], ids=["headers", "body"])
def test_a_request_whose_beginning_comes_with_the_end_of_another_has_its_own_time(port: int, cut: int) -> None:
    data = post()
    with closing(connect(port)) as client:
        client.sendall(data[:cut])
        for _ in range(4):
            time.sleep(0.2)
            client.sendall(data[cut:] + data[:cut])
            assert status(read(client)) == 200
        client.sendall(data[cut:])
        assert status(read(client)) == 200


@pytest.mark.usefixtures("hasty")
def test_a_connection_that_asks_nothing_is_closed(port: int) -> None:
    with closing(connect(port)) as client:
        assert receive(client) == b""


REFUSED_EARLY = post(b"", length=5, path=b"/nope")


@pytest.mark.parametrize(
    ("first", "rest"),
    [(b"", b"\r\n"), (get(b"/livez"), b"\r\n"), (REFUSED_EARLY, b"12345")],
    ids=["at first", "after a request", "a body that nobody waited for"],
)
def test_bytes_that_ask_nothing_do_not_keep_a_connection_for_ever(
    make_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch, first: bytes, rest: bytes
) -> None:
    monkeypatch.setattr(connections, "KEEP_ALIVE_S", 1)
    server = make_server()
    behind = Behind(server.overload, direct_predict(server))
    with live(create_app(server), behind, keep_alive_s=1) as url, closing(connect(urlsplit(url).port or 0)) as client:
        if first:
            client.sendall(first)
            read(client)
        client.sendall(rest)
        assert client.recv(1) == b""


@pytest.mark.parametrize(("option_s", "kept_s"), [(1, 2), (3, 3)], ids=["too short", "longer"])
def test_an_idle_connection_is_kept_longer_than_balancers_keep_it(
    make_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch, option_s: int, kept_s: int
) -> None:
    assert connections.KEEP_ALIVE_S > 60
    monkeypatch.setattr(connections, "KEEP_ALIVE_S", 2)
    server = make_server()
    behind = Behind(server.overload, direct_predict(server))
    with (
        live(create_app(server), behind, keep_alive_s=option_s) as url,
        closing(connect(urlsplit(url).port or 0)) as client,
    ):
        client.sendall(post())
        assert status(read(client)) == 200
        started = time.monotonic()
        assert receive(client) == b""
        assert kept_s - 0.1 < time.monotonic() - started < kept_s + 8


@pytest.mark.usefixtures("hasty")
def test_a_refused_request_whose_body_goes_on_is_hung_up_on(port: int) -> None:
    with closing(connect(port)) as client:
        client.sendall(post(b"", length=1000, path=b"/nope"))
        assert status(read(client)) == 404
        assert receive(client) == b""


def test_a_client_that_does_not_read_its_answer_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "ANSWER_WITHIN_S", 0.3)
    num_bytes = 50_000_000  # more than the kernel takes

    async def answer(_: Request) -> Response:
        return Response(b"x" * num_bytes)

    app = Starlette(routes=[Route("/", answer)])
    with live(app) as url, closing(connect(urlsplit(url).port or 0)) as client:
        client.sendall(get(b"/"))
        time.sleep(0.6)
        assert len(read(client)) < num_bytes
        client.close()
        monkeypatch.setattr(connections, "ANSWER_WITHIN_S", 10)  # a busy machine keeps a reader from reading, too
        with closing(connect(urlsplit(url).port or 0)) as reader:
            reader.sendall(get(b"/"))
            assert len(read(reader)) > num_bytes


def test_many_slow_clients_do_not_slow_the_others(port: int) -> None:
    slow = [connect(port) for _ in range(200)]
    try:
        for number, client in enumerate(slow):
            client.sendall(b"POST /predict HTTP/1.1\r\nX: " if number % 2 else post(length=1000))
        took = []
        for _ in range(30):
            started = time.perf_counter()
            assert status(ask(port, post())) == 200
            took.append(time.perf_counter() - started)
        assert sorted(took)[15] < 0.5
    finally:
        for client in slow:
            client.close()
