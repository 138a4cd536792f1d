"""What waits in the event loop is counted, and what would be late is refused from its bytes, and only that."""

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import closing
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from bento.app import Server, create_app, direct_predict
from bento.connections import Behind
from bento.metrics import Metrics
from bento.overload import AT_ONCE, SAID_FOR_S, Load, Overload, Turns
from bento.request_ids import AccessLog, RequestIds
from tests.bento.test_connections import CHUNKED, connect, get, post, read_to_end
from tests.live import live


def make_overload(deadline_ms: float = 100, *, is_away: bool = False, access_log: AccessLog | None = None) -> Overload:
    return Overload(
        Metrics(), deadline_ms=deadline_ms, ids=RequestIds(), is_away=lambda: is_away, access_log=access_log
    )


def burden(load: Load, number: int, interval_s: float) -> None:
    """So many in flight, with this mean time from one answer to the next."""
    for _ in range(number):
        load.begin()
    load._interval_s = interval_s


def test_the_wait_is_what_is_in_flight_times_the_mean_time_between_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    load = Load()
    for _ in range(1_000):  # always four in flight, an answer every 2 ms
        while load.in_flight < 4:
            load.begin()
        now += 0.002
        load.end()
    load.begin()
    assert load.wait_s() == pytest.approx(3 * 0.002, rel=1e-3)
    load.give_up(3)
    assert load.wait_s() == 0  # the one that is left waits for nobody
    load.end()
    now += 60  # idle time is no time between answers
    for _ in range(10):
        load.begin()
    assert load.wait_s() == pytest.approx(9 * 0.002, rel=0.05)


@pytest.mark.anyio
async def test_a_few_begin_in_each_iteration_and_in_the_order_in_which_they_came() -> None:
    turns, begun, per_iteration = Turns(), list[int](), list[int]()
    for number in range(3 * AT_ONCE + 1):
        turns.take(lambda number=number: begun.append(number))  # type: ignore[misc]
    while len(begun) < 3 * AT_ONCE + 1:
        per_iteration.append(len(begun))
        await asyncio.sleep(0)
    assert begun == list(range(3 * AT_ONCE + 1))
    assert per_iteration[0] == AT_ONCE
    assert set(per_iteration) <= {AT_ONCE, 2 * AT_ONCE, 3 * AT_ONCE}
    await asyncio.sleep(0)
    turns.take(lambda: begun.append(-1))
    assert begun[-1] == -1  # nothing waits, so it begins at once


def test_nothing_is_refused_while_answers_come_in_time() -> None:
    overload = make_overload(deadline_ms=100)
    burden(overload.load, 20, 0.001)
    assert overload.refusal([]) is None
    overload.load.in_flight += 2  # a fifth of the deadline is over
    assert overload.refusal([]) is not None


def test_what_would_be_late_is_refused_with_the_reason_and_counted() -> None:
    overload = make_overload(deadline_ms=100)
    burden(overload.load, 2_001, 0.001)
    answer = overload.refusal([(b"x-request-id", b"mine-7")])
    assert answer is not None
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 429 Too Many Requests"
    assert {"retry-after: 2", "x-request-id: mine-7", f"content-length: {len(body)}"} <= set(lines)
    error = json.loads(body)["error"]
    assert error["code"] == "queue_full"
    assert "2001 requests wait, an answer in 2000 ms, and the request has at most 100 ms" in error["message"]
    read = overload.metrics.registry.get_sample_value
    assert read("retort_requests_total", {"route": "/predict", "status": "429"}) == 1
    assert read("retort_rejected_total") == 1
    assert read("retort_errors_total", {"code": "queue_full"}) == 1
    assert read("retort_request_seconds_count", {"route": "/predict", "outcome": "overload"}) == 1


def test_what_a_refusal_says_follows_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    overload = make_overload(deadline_ms=100)
    burden(overload.load, 2_001, 0.001)
    first = overload.refusal([(b"x-request-id", b"one")])
    burden(overload.load, 1_000, 0.001)
    second = overload.refusal([(b"x-request-id", b"two")])
    assert first is not None
    assert second == first.replace(b"one", b"two")
    now += SAID_FOR_S
    third = overload.refusal([])
    assert third is not None
    assert b"3001 requests wait" in third
    assert b"retry-after: 3" in third


def lines(captured: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in captured.readouterr().err.splitlines() if line.startswith("{")]


def test_what_is_refused_is_in_the_access_log_as_others_are(
    make_server: Callable[..., Server], capsys: pytest.CaptureFixture[str]
) -> None:
    server = make_server(access_log=1)
    with live(create_app(server), Behind(server.overload)) as url:
        burden(server.overload.load, 100_000, 0.01)
        headers = {"X-Request-Id": "mine-7", "X-API-Key": "secret"}
        assert httpx.post(f"{url}/predict", json={"text": "my card"}, headers=headers).status_code == 429
    (line,) = lines(capsys)
    assert set(line) == {"time", "id", "method", "route", "status", "ms"}
    assert (line["id"], line["method"], line["route"], line["status"]) == ("mine-7", "POST", "/predict", 429)


@pytest.mark.parametrize(("share", "low", "high"), [(0.5, 60, 140), (0, 0, 0)])
def test_a_share_of_what_is_refused_is_in_the_access_log(
    capsys: pytest.CaptureFixture[str], share: float, low: int, high: int
) -> None:
    overload = make_overload(access_log=AccessLog(share))
    burden(overload.load, 2_001, 0.001)
    for _ in range(200):
        overload.refusal([])
    assert low <= len(lines(capsys)) <= high


def test_a_service_that_shuts_down_or_has_no_model_says_so_itself() -> None:
    overload = make_overload(is_away=True)
    burden(overload.load, 2_001, 0.001)
    assert overload.refusal([]) is None


def test_a_forged_id_does_not_come_back() -> None:
    overload = make_overload()
    burden(overload.load, 2_001, 0.001)
    answer = overload.refusal([(b"x-request-id", b"a b")])
    assert answer is not None
    assert b"a b" not in answer


def test_the_service_refuses_under_load_answers_again_after_it_and_keeps_the_connection(
    make_server: Callable[..., Server],
) -> None:
    server = make_server()
    with live(create_app(server), Behind(server.overload)) as url, httpx.Client(base_url=url) as client:
        assert client.post("/predict", json={"text": "my card"}).status_code == 200
        assert server.overload.load.in_flight == 0
        burden(server.overload.load, 100_000, 0.01)
        refused = client.post("/predict", json={"text": "my card"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
        assert int(refused.headers["retry-after"]) > 900
        v2 = client.post("/v2/models/tiny/infer", json={})
        assert (v2.status_code, "requests wait" in v2.json()["error"]) == (429, True)
        assert client.get("/livez").status_code == 200
        server.overload.load.give_up(100_000)
        assert client.post("/predict", json={"text": "my card"}).status_code == 200
        assert server.overload.load.in_flight == 0


def test_requests_wait_in_order_and_a_client_that_leaves_is_no_longer_counted() -> None:
    overload = make_overload(deadline_ms=60_000)

    async def slow(_request: Request) -> Response:
        await asyncio.sleep(0.2)
        return PlainTextResponse("done")

    with live(Starlette(routes=[Route("/slow", slow)]), Behind(overload)) as url:
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(f"{url}/slow", timeout=0.05)
        assert httpx.get(f"{url}/slow").text == "done"
    assert overload.load.in_flight == 0
    assert overload.load.wait_s() == 0


UNFINISHED = {
    "a body": post(b"", length=100_000),
    "chunks": CHUNKED,
    "a body behind another request": get(b"/livez") + post(b"", length=100_000),
}


@pytest.mark.parametrize("data", UNFINISHED.values(), ids=UNFINISHED)
def test_a_request_that_is_still_on_its_way_is_not_in_flight(make_server: Callable[..., Server], data: bytes) -> None:
    server = make_server()
    behind = Behind(server.overload)
    with live(create_app(server), behind) as url, closing(connect(urlsplit(url).port or 0)) as client:
        client.sendall(data)
        time.sleep(0.2)
        assert server.overload.load.in_flight == 0


def test_requests_of_one_connection_are_in_flight_one_after_the_other() -> None:
    overload, seen = make_overload(deadline_ms=60_000), list[int]()

    async def note(_request: Request) -> Response:
        seen.append(overload.load.in_flight)
        return PlainTextResponse("done")

    app = Starlette(routes=[Route("/", note)])
    with live(app, Behind(overload)) as url, closing(connect(urlsplit(url).port or 0)) as client:
        client.sendall(get(b"/") * 49 + get(b"/", b"Connection: close\r\n"))
        assert read_to_end(client).count(b"HTTP/1.1 200") == 50
    assert seen == [1] * 50
    assert overload.load.in_flight == 0


def test_a_request_whose_client_does_not_read_is_not_in_flight() -> None:
    overload, num_begun = make_overload(deadline_ms=60_000), 0

    async def answer(_request: Request) -> Response:
        nonlocal num_begun
        num_begun += 1
        return Response(b"x" * 20_000_000)  # more than the kernel takes

    app = Starlette(routes=[Route("/", answer)])
    with live(app, Behind(overload)) as url, closing(connect(urlsplit(url).port or 0)) as client:
        client.sendall(get(b"/") * 2)
        time.sleep(0.5)
        assert (num_begun, overload.load.in_flight) == (2, 0)


def test_under_load_whoever_has_no_key_is_refused_alike_on_both_ways(make_server: Callable[..., Server]) -> None:
    server = make_server(api_keys="k" * 32)
    with live(create_app(server), Behind(server.overload, direct_predict(server))) as url:
        burden(server.overload.load, 100_000, 0.01)
        plain = httpx.post(f"{url}/predict", json={"text": "my card"})
        long = httpx.post(f"{url}/predict", json={"text": "my card"}, headers={"Origin": url})
        v2 = httpx.post(f"{url}/v2/models/tiny/infer", json={})
    assert [answer.status_code for answer in (plain, long, v2)] == [429, 429, 429]
