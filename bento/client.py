"""Who asked, and whether they still wait for the answer."""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from functools import partial
from typing import Any, Protocol

from starlette.requests import Request

from bento.answer import Answer
from bento.batcher import DeadlineError

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

WATCH_AFTER_S = 0.05
"""A request that waits this long is watched for its client going away."""
CLIENT = "retort.client"
"""Key of a request's scope, where its connection tells of its end by itself."""


class ClientGoneError(Exception):
    """The client closed the connection before the answer was there."""


class Client(Protocol):
    """One request's other end."""

    def watch(self, gone: Callable[[], None]) -> Callable[[], object]:
        """Call `gone` when the client goes away or has gone, unless what is returned is called before."""


class AsgiClient:
    """Of a request that came through ASGI, which tells it to a task that asks."""

    def __init__(self, receive: Receive) -> None:
        """`receive` as ASGI has it, the body read."""
        self.receive = receive

    def watch(self, gone: Callable[[], None]) -> Callable[[], object]:
        """As `Client` has it."""
        return asyncio.ensure_future(self._wait(gone)).cancel

    async def _wait(self, gone: Callable[[], None]) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        gone()


def client_of(request: Request) -> Client:
    """The client of a request whose body was read."""
    client: Client | None = request.scope.get(CLIENT)
    return client or AsgiClient(request.receive)


class Watch:
    """Ends futures at their deadline, or when the client goes away before; begins with those that wait for a while."""

    __slots__ = ("_forget", "_loop", "_timer", "client", "deadline", "futures")

    def __init__(self, futures: Sequence[asyncio.Future[Answer]], deadline: float, client: Client) -> None:
        """`deadline` is in the seconds of `time.perf_counter`."""
        self.futures = futures
        self.deadline = deadline
        self.client = client
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(min(WATCH_AFTER_S, self._left_s()), self._begin)
        self._forget: Callable[[], object] | None = None

    def stop(self) -> None:
        """The futures are done."""
        self._timer.cancel()
        forget, self._forget = self._forget, None  # it knows this object: the cycle would be left to the collector
        if forget is not None:
            forget()

    def _begin(self) -> None:
        late = DeadlineError("the deadline passed before the answer was there")
        self._timer = self._loop.call_later(self._left_s(), self._end, late)
        self._forget = self.client.watch(partial(self._end, ClientGoneError()))

    def _left_s(self) -> float:
        return max(0.0, self.deadline - time.perf_counter())

    def _end(self, why: Exception) -> None:
        for future in self.futures:
            if not future.done():
                future.set_exception(why)
