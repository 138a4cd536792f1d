"""Plain requests are told from all others by their bytes, and are answered as through the web server's own layers."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

from bento import connections
from bento.app import Server, create_app, direct_predict
from bento.connections import Behind, BoundedProtocol
from bento.direct import MAX_HELD_BYTES, MAX_KNOWN, MAX_KNOWN_BYTES, Head, _known_head, read_head, response_bytes
from bento.schemas import DEADLINE_HEADER
from tests.bento.test_connections import connect, get, post, read, status
from tests.live import live

KEY = "k" * 32


@contextmanager
def direct(server: Server) -> Iterator[str]:
    """The URL of a service that answers plain requests directly, and nothing else to /predict."""
    predict = direct_predict(server)
    assert predict is not None
    with live(create_app(server), Behind(server.overload, predict)) as url:
        yield url


@pytest.mark.parametrize(
    "headers",
    [b"", b"Connection: keep-alive\r\n", b"X-Forwarded-For: 10.0.0.1\r\nTE: trailers\r\n", b"X:\r\n", b"X: \xe4\r\n"],
)
def test_a_plain_request_is_read_as_its_headers_and_its_body(headers: bytes) -> None:
    data = post(headers=headers)
    head = read_head(data)
    assert head is not None
    assert data[head.body_start : head.end] == b'{"text": "my card"}'
    assert head.end == len(data)
    assert head.headers[0] == (b"host", b"x")
    assert dict(head.headers)[b"content-length"] == b"19"


def test_a_head_that_is_known_is_told_from_one_that_differs_in_one_sign() -> None:
    for length in (10, 19, 10, 19):
        head = read_head(post(b"a" * length, b"X-Request-Id: %d\r\n" % length))
        assert head is not None
        assert head.end - head.body_start == length
        assert dict(head.headers)[b"x-request-id"] == b"%d" % length
    assert read_head(post(b"a" * 10, b"Expect: 10\r\n")) is None


def test_known_heads_are_bounded_in_number_and_length() -> None:
    _known_head.cache_clear()
    long = post(headers=b"X: " + b"a" * MAX_KNOWN_BYTES + b"\r\n")
    assert read_head(long) is not None
    assert _known_head.cache_info().currsize == 0
    for number in range(MAX_KNOWN + 10):
        read_head(post(headers=b"X: %d\r\n" % number))
    assert _known_head.cache_info().currsize == MAX_KNOWN


CHUNKED = b"POST /predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
OTHERS = {
    "a probe": get(b"/livez"),
    "another route": post(path=b"/feedback"),
    "a query": post(path=b"/predict?a=b"),
    "HTTP/1.0": post(version=b"1.0"),
    "a last request": post(headers=b"Connection: close\r\n"),
    "a page of another origin": post(headers=b"Origin: https://example.org\r\n"),
    "a body held back": post(headers=b"Expect: 100-continue\r\n"),
    "an offer": post(headers=b"Connection: Upgrade\r\nUpgrade: h2c\r\n"),
    "half a head": post()[:40],
    "chunks": CHUNKED,
    "length and chunks": post(headers=b"Transfer-Encoding: chunked\r\n"),
    "two lengths": post(headers=b"Content-Length: 19\r\n"),
    "a signed length": post().replace(b"Length: 19", b"Length: +19"),
    "a length of many digits": post().replace(b"Length: 19", b"Length: " + b"0" * 50 + b"19"),
    "no length": post().replace(b"Content-Length: 19\r\n", b""),
    "a folded header": post(headers=b"X: a\r\n b\r\n"),
    "a space before the colon": post(headers=b"Transfer-Encoding : chunked\r\n"),
    "a bare line feed": post(headers=b"X: a\nTransfer-Encoding: chunked\r\n"),
    "a bare carriage return": post(headers=b"X: a\rb\r\n"),
    "NUL in a header": post(headers=b"X: \0\r\n"),
    "65 headers": post(headers=b"X: a\r\n" * 63),
}


@pytest.mark.parametrize("data", OTHERS.values(), ids=OTHERS)
def test_what_is_not_plain_goes_the_long_way(data: bytes) -> None:
    assert read_head(post()) is not None
    assert read_head(data) is None


@pytest.mark.parametrize(
    "rest", [b"X:" + b" " * 400_000, b"X: a\r\n" * 60_000, b"a" * 400_000, b"X:" + b" a" * 200_000]
)
def test_a_head_without_end_is_given_up_in_time_that_grows_with_its_length_only(rest: bytes) -> None:
    started = time.process_time()
    assert read_head(b"POST /predict HTTP/1.1\r\n" + rest) is None
    assert time.process_time() - started < 0.5  # 160 billion steps where it grows with the square


def test_the_answers_are_those_of_the_long_way(make_server: Callable[..., Server]) -> None:
    requests = [
        (b'{"text": "my card"}', b"X-Request-Id: mine\r\n"),
        (b'{"texts": ["my card", "a refund"], "return_all": true}', b""),
        (b"{", b""),
        (b'{"text": " "}', b""),
        (b'{"text": "a"}', DEADLINE_HEADER.encode() + b": soon\r\n"),
    ]
    with direct(make_server()) as url, live(create_app(make_server())) as long_url:
        for body, headers in requests:
            answers = []
            for port in (urlsplit(url).port, urlsplit(long_url).port):
                with closing(connect(port or 0)) as client:
                    client.sendall(post(body, headers))
                    answers.append(parsed(read(client)))
            assert answers[0] == answers[1]


@pytest.fixture
def parsed_bytes(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What goes the long way."""
    found: list[bytes] = []
    parse = BoundedProtocol._parse

    def note(self: BoundedProtocol, data: bytes) -> None:
        found.append(data)
        parse(self, data)

    monkeypatch.setattr(BoundedProtocol, "_parse", note)
    return found


@pytest.mark.parametrize("cuts", [[-19], [-18, -3], [-1], list(range(-19, 0))])
def test_a_body_that_comes_after_its_head_is_waited_for(
    make_server: Callable[..., Server], parsed_bytes: list[bytes], cuts: list[int]
) -> None:
    with direct(make_server()) as url, closing(connect(urlsplit(url).port or 0)) as client:
        for _ in range(2):
            for start, end in zip([0, *cuts], [*cuts, len(post())], strict=True):
                client.sendall(post()[start:end])
                time.sleep(0.01)
            assert status(read(client)) == 200
    assert not parsed_bytes


def test_the_head_of_a_body_that_dribbles_is_read_once(
    make_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[bytes] = []

    def note(data: bytes) -> Head | None:
        found.append(bytes(data))
        return read_head(data)

    monkeypatch.setattr(connections, "read_head", note)
    with direct(make_server()) as url, closing(connect(urlsplit(url).port or 0)) as client:
        client.sendall(post()[:-10])
        for byte in post()[-10:]:
            time.sleep(0.01)
            client.sendall(bytes([byte]))
        assert status(read(client)) == 200
    assert found == [post()[:-10]]


@pytest.mark.parametrize("rest", [b'"my card"}' + get(b"/livez"), b'"my card"}' + post()])
def test_what_comes_behind_a_body_is_answered_too(
    make_server: Callable[..., Server], parsed_bytes: list[bytes], rest: bytes
) -> None:
    with direct(make_server()) as url, closing(connect(urlsplit(url).port or 0)) as client:
        client.sendall(post()[:-10])
        time.sleep(0.05)
        client.sendall(rest)
        received = b""
        while received.count(b"HTTP/1.1 200") < 2:
            received += client.recv(65536)
    assert parsed_bytes == [post()[:-10] + rest]


def test_a_long_body_is_not_held(make_server: Callable[..., Server], parsed_bytes: list[bytes]) -> None:
    long = post(json.dumps({"texts": ["card " * 100] * 250}).encode())
    assert len(long) > MAX_HELD_BYTES
    with direct(make_server()) as url, closing(connect(urlsplit(url).port or 0)) as client:
        client.sendall(long[:1000])
        time.sleep(0.05)
        assert parsed_bytes == [long[:1000]]
        client.sendall(long[1000:])
        assert status(read(client)) == 200


def test_a_request_that_began_before_a_shutdown_is_answered(make_server: Callable[..., Server]) -> None:
    server = make_server()
    with closing(socket.socket()) as client:
        with direct(server) as url:
            client.connect(("127.0.0.1", urlsplit(url).port or 0))
            client.sendall(post()[:-5])
            time.sleep(0.1)
            threading.Timer(0.3, client.sendall, (post()[-5:],)).start()
        client.settimeout(5)
        assert status(read(client)) == 200


def parsed(answer: bytes) -> tuple[int, set[str], object]:
    """Status, names of the headers and content, but for what is another each time."""
    head, _, body = answer.partition(b"\r\n\r\n")
    content = json.loads(body)
    content.pop("request_id", None)
    return status(answer), {line.split(":")[0] for line in head.decode().split("\r\n")[1:]}, content


def test_one_connection_asks_both_ways_in_turn_and_all_is_counted(make_server: Callable[..., Server]) -> None:
    server = make_server()
    with direct(server) as url, closing(connect(urlsplit(url).port or 0)) as client:
        for number in range(20):
            client.sendall(post(b'{"text": "my card %d"}' % number))
            assert status(read(client)) == 200
            client.sendall(get(b"/livez"))
            assert status(read(client)) == 200
        client.sendall(post(b'{"text": "first"}'))
        client.sendall(post(b'{"text": "second"}'))  # comes while the first is answered, or after it
        received = b""
        while received.count(b"HTTP/1.1 200") < 2 or not received.endswith(b"}"):
            received += client.recv(65536)
        assert server.overload.load.in_flight == 0
    read_value = server.metrics.registry.get_sample_value
    assert read_value("retort_requests_total", {"route": "/predict", "status": "200"}) == 22
    assert read_value("retort_request_seconds_count", {"route": "/predict", "outcome": "ok"}) == 22


def test_a_client_that_goes_while_it_waits_is_noticed_and_not_counted_as_in_flight(
    make_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = make_server()
    with direct(server) as url:
        monkeypatch.setattr(server.inference.batcher, "_take", stopped(server))
        with closing(connect(urlsplit(url).port or 0)) as client:
            client.sendall(post(b'{"text": "never answered"}'))
            wait(lambda: server.overload.load.in_flight == 1)
        wait(lambda: server.metrics.registry.get_sample_value(
            "retort_requests_total", {"route": "/predict", "status": "499"}) == 1)  # fmt: skip
        assert server.overload.load.in_flight == 0


def stopped(server: Server) -> Callable[[], list[object]]:
    """In place of the batcher's queue: nothing is ever taken from it until the service stops."""

    def take() -> list[object]:
        while not server.inference.batcher._stopping:
            time.sleep(0.01)
        return []

    return take


def wait(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 15
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_service_that_drains_answers_and_closes(make_server: Callable[..., Server]) -> None:
    server = make_server()
    with direct(server) as url, closing(connect(urlsplit(url).port or 0)) as client:
        server.draining = True
        client.sendall(post())
        answer = read(client)
        assert b"connection: close" in answer.lower()
        assert client.recv(1) == b""


def test_keys_are_asked_for_and_limits_hold(make_server: Callable[..., Server]) -> None:
    with direct(make_server(api_keys=KEY, rate_limit=1, rate_burst=1)) as url, httpx.Client(base_url=url) as client:
        assert client.post("/predict", json={"text": "my card"}).status_code == 401
        allowed = {"X-API-Key": KEY}
        answers = [client.post("/predict", json={"text": "my card"}, headers=allowed).status_code for _ in range(2)]
        assert answers == [200, 429]


def test_callers_without_keys_are_told_apart_by_the_address_that_a_proxy_forwards(
    make_server: Callable[..., Server],
) -> None:
    assert direct_predict(make_server(rate_limit=1)) is None
    assert direct_predict(make_server(rate_limit=1, api_keys=KEY)) is not None


def test_a_response_is_written_whole_and_ends_the_connection_only_where_it_must() -> None:
    response = Response(b"{}", 422, media_type="application/json")
    kept = response_bytes(response, [(b"x-request-id", b"1")], keep_alive=True)
    assert kept.startswith(b"HTTP/1.1 422 ")
    assert kept.endswith(b"\r\nx-request-id: 1\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{}")
    assert b"\r\nconnection: close\r\n" in response_bytes(response, [], keep_alive=False)
    response.headers["Connection"] = "close"
    assert response_bytes(response, [], keep_alive=False).count(b"connection: close") == 1


def test_a_failure_of_the_handler_hangs_up(make_server: Callable[..., Server]) -> None:
    server = make_server()

    async def fail(_request: Request) -> Response:
        raise RuntimeError("planted")

    with live(create_app(server), Behind(server.overload, fail)) as url:
        with closing(connect(urlsplit(url).port or 0)) as client:
            client.sendall(post())
            assert client.recv(1) == b""
        assert httpx.get(f"{url}/livez").status_code == 200
