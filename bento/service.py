"""The BentoML service: lifecycle, process settings, and nothing else.

BentoML's own routes come before a mounted app's, so its /readyz and /metrics would answer in place of ours, and each
of its middlewares costs every request: the one for timeouts makes a task and a timer that lives for a minute, the one
for tracing rebuilds the URL. Our app is therefore put in front of all of them and answers every path. It is made on
first use: the parent process, which only supervises, never imports ONNX Runtime.
"""

import asyncio
import ctypes
import gc
import logging
import signal
import sys
from contextlib import AsyncExitStack
from functools import cache
from types import FrameType
from typing import TYPE_CHECKING, Any

import bentoml
import uvicorn.config

from bento.errors import UserError
from bento.processes import num_processes, share_token

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.types import ASGIApp, Receive, Scope, Send

    from bento.app import Server


# BentoML makes uvicorn's configuration itself and takes no others than those that have this name.
uvicorn.config.HTTP_PROTOCOLS["auto"] = "bento.connections:BoundedProtocol"
uvicorn.config.LOOP_FACTORIES["auto"] = "bento.event_loop:loop_factory"
YOUNG_COLLECTION_EVERY = 20_000
"""New objects between two collections of those, by default 700, of which a dozen waiting requests are made: at twice
the capacity looking through the hundreds that wait took 5 % of the time."""
FULL_COLLECTION_EVERY = 50
"""Collections of the younger objects between two of all. With a full cache each of all stops every answer for 50 to 100
ms, and it finds hardly anything, since answers leave no cycles behind."""
PR_SET_PDEATHSIG = 1
"""From Linux' <sys/prctl.h>."""


def _num_processes() -> int:
    """As the environment says. Raises: SystemExit with what is wrong with it."""
    try:
        return num_processes()
    except UserError as error:
        raise SystemExit(str(error)) from error


NUM_PROCESSES = _num_processes()
share_token()


def bento_tag() -> str:
    """`name:version` of the Bento that this process serves, or empty in a checkout."""
    from bentoml._internal.context import server_context

    version = server_context.bento_version
    return f"{server_context.bento_name}:{version}" if version and version != "not available" else ""


@cache
def server() -> "Server":
    """This process's server."""
    from bentoml._internal.context import server_context

    from bento.app import Server
    from bento.processes import Siblings
    from bento.serve_settings import ServeSettings

    index = server_context.worker_index
    siblings = Siblings(index) if NUM_PROCESSES > 1 and index is not None else None
    return Server(ServeSettings.from_env(), bento=bento_tag(), siblings=siblings)


@cache
def own_app() -> "Starlette":
    """This process's app."""
    from bento.app import create_app

    return create_app(server())


class AppFirst:
    """An ASGI app that answers every HTTP request with ours; only the lifespan stays with BentoML."""

    def __init__(self, app: "ASGIApp") -> None:
        """`app` is BentoML's."""
        self.bentoml_app = app
        self.app = own_app()

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Dispatch one connection."""
        await (self.app if scope["type"] == "http" else self.bentoml_app)(scope, receive, send)


def drain_at_sigterm(delay_s: float) -> None:
    """At SIGTERM become not ready first and let the web server close its socket `delay_s` later."""
    loop = asyncio.get_running_loop()
    close = signal.getsignal(signal.SIGTERM)

    def drain(number: int, frame: FrameType | None) -> None:
        server().drain()
        if callable(close):
            loop.call_soon_threadsafe(lambda: loop.call_later(delay_s, close, number, None))

    signal.signal(signal.SIGTERM, drain)


def end_with_supervisor() -> None:
    """Have the kernel send SIGTERM when the supervising process dies, however it dies.

    A worker that outlives a killed supervisor would hold the port, and the next start would fail. Linux only.
    """
    from bentoml._internal.context import server_context

    if sys.platform == "linux" and server_context.worker_index is not None:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class FrontedService(bentoml.Service[Any]):  # type: ignore[misc]
    """A BentoML service whose requests go to our app before BentoML's middlewares."""

    __slots__ = ()

    def to_asgi(self, is_main: bool = True) -> "ASGIApp":
        """The app that the worker serves."""
        return AppFirst(super().to_asgi(is_main))


class Lifetime:
    """A small, fast, gated text classifier; /docs.json describes it."""

    def __init__(self) -> None:
        """Nothing yet: the event loop is needed first."""
        self.lifetime = AsyncExitStack()

    @bentoml.on_startup  # type: ignore[untyped-decorator]
    async def start(self) -> None:
        """Load the model and start the threads."""
        from bento.app import direct_predict
        from bento.connections import Behind, BoundedProtocol

        logging.getLogger("bento").setLevel(logging.INFO)
        await self.lifetime.enter_async_context(own_app().router.lifespan_context(own_app()))
        BoundedProtocol.behind = Behind(server().overload, direct_predict(server()))
        gc.collect()
        gc.freeze()  # a full collection over all that was imported stops every answer for 70 ms, without it for 1 ms
        gc.set_threshold(YOUNG_COLLECTION_EVERY, gc.get_threshold()[1], FULL_COLLECTION_EVERY)
        drain_at_sigterm(server().settings.drain_ms / 1000)
        end_with_supervisor()

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    async def stop(self) -> None:
        """Answer what waits and write the rest of the log."""
        await self.lifetime.aclose()


Retort = FrontedService(
    name="retort",
    config={
        "workers": NUM_PROCESSES,
        "metrics": {"enabled": False},
        "logging": {"access": {"enabled": False}},
        "tracing": {"excluded_urls": ".*"},
    },
    inner=Lifetime,
)
"""A small, fast, gated text classifier; /docs.json describes it."""
