"""A client that goes away, and a deadline that passes, end what is waited for, once and only while it is."""

import asyncio
import time
from collections.abc import MutableMapping
from typing import Any

import pytest
from starlette.requests import Request

from bento.batcher import DeadlineError
from bento.client import CLIENT, WATCH_AFTER_S, AsgiClient, Client, ClientGoneError, Watch, client_of
from bento.direct import Exchange

pytestmark = pytest.mark.anyio


class Other:
    """A client through ASGI, and one of a plain request, that go away when told."""

    def __init__(self, kind: str) -> None:
        self.exchange = Exchange(b"")
        self.left = asyncio.Event()
        self.client: Client = self.exchange if kind == "plain" else AsgiClient(self.receive)

    async def receive(self) -> MutableMapping[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    def leave(self) -> None:
        """As a connection says it."""
        self.exchange.disconnected = True
        self.exchange.message_event.set()
        self.left.set()


@pytest.fixture(params=["plain", "ASGI"])
async def other(request: pytest.FixtureRequest) -> Other:
    return Other(request.param)


def watched(client: Client, timeout_s: float = 5.0, number: int = 2) -> tuple[Watch, list[asyncio.Future[Any]]]:
    futures = [asyncio.get_running_loop().create_future() for _ in range(number)]
    return Watch(futures, time.perf_counter() + timeout_s, client), futures


@pytest.mark.parametrize("after_s", [0.0, 2 * WATCH_AFTER_S])
async def test_a_client_that_leaves_ends_what_is_not_done(other: Other, after_s: float) -> None:
    watch, (known, open_) = watched(other.client)
    known.set_result("answer")
    await asyncio.sleep(after_s)
    other.leave()
    with pytest.raises(ClientGoneError):
        async with asyncio.timeout(4 * WATCH_AFTER_S):
            await open_
    assert known.result() == "answer"
    watch.stop()


@pytest.mark.parametrize("timeout_s", [-1.0, 0.0, WATCH_AFTER_S / 2, 3 * WATCH_AFTER_S])
async def test_a_deadline_ends_what_is_not_done_and_not_before(other: Other, timeout_s: float) -> None:
    started = time.perf_counter()
    watch, futures = watched(other.client, timeout_s)
    with pytest.raises(DeadlineError):
        await futures[0]
    assert isinstance(futures[1].exception(), DeadlineError)
    assert timeout_s - 0.01 <= time.perf_counter() - started < max(timeout_s, 0) + 1
    watch.stop()


@pytest.mark.parametrize("after_s", [0.0, 2 * WATCH_AFTER_S])
async def test_what_was_stopped_ends_nothing(other: Other, after_s: float) -> None:
    watch, futures = watched(other.client, 3 * WATCH_AFTER_S)
    await asyncio.sleep(after_s)
    watch.stop()
    other.leave()
    await asyncio.sleep(4 * WATCH_AFTER_S)
    assert not any(future.done() for future in futures)


async def test_a_plain_request_tells_of_its_end_by_itself_and_others_are_asked() -> None:
    exchange = Exchange(b"")
    scope: dict[str, Any] = {"type": "http", CLIENT: exchange}
    assert client_of(Request(scope, exchange.receive)) is exchange
    assert isinstance(client_of(Request({"type": "http"}, exchange.receive)), AsgiClient)


async def test_a_plain_request_can_be_received_from_as_asgi_has_it() -> None:
    exchange = Exchange(b"body")
    assert await exchange.receive() == {"type": "http.request", "body": b"body", "more_body": False}
    later = asyncio.create_task(exchange.receive())
    await asyncio.sleep(0.01)
    exchange.message_event.set()  # also set for other reasons
    await asyncio.sleep(0.01)
    assert not later.done()
    exchange.disconnected = True
    exchange.message_event.set()
    assert await later == {"type": "http.disconnect"} == await exchange.receive()
