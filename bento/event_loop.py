"""uvloop with an accept loop: by itself it takes one new connection an iteration.

While the service is busy an iteration lasts long, and new connections would wait for seconds in the kernel, where
nothing can refuse them.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any

import uvloop

from bento.connections import BoundedProtocol
from bento.processes import num_processes

MAX_AT_ONCE = 256
FEW_AT_ONCE = 4
GROWTH = 4
"""Of several processes one takes a quarter as many as it has, so that those that find it first do not take all."""


def most_at_once(processes: int, num_open: int) -> int:
    """How many new connections a process with `num_open` takes in one iteration."""
    return MAX_AT_ONCE if processes == 1 else min(MAX_AT_ONCE, max(FEW_AT_ONCE, num_open // GROWTH))


class Loop(uvloop.Loop):  # type: ignore[misc]  # uvloop has no types
    """uvloop whose servers take all connections that wait, up to 256 an iteration, or their share where several do."""

    def __init__(self) -> None:
        """No server yet."""
        super().__init__()
        self._beside: set[socket.socket] = set()

    def close(self) -> None:
        """As asyncio's."""
        for beside in list(self._beside):
            self._leave(beside)
        super().close()

    def _leave(self, beside: socket.socket) -> None:
        """Take no more connections from it."""
        self._beside.discard(beside)
        self.remove_reader(beside)
        beside.close()

    async def create_server(self, protocol_factory: Any, *args: Any, **settings: Any) -> asyncio.Server:
        """As asyncio's."""
        server: asyncio.Server = await super().create_server(protocol_factory, *args, **settings)
        if not settings.get("ssl"):
            for listening in server.sockets:
                self._accept_more(server, listening, protocol_factory)
        return server

    def _accept_more(self, server: asyncio.Server, listening: Any, protocol_factory: Callable[[], Any]) -> None:
        """Beside uvloop's own watcher, which goes on taking one at a time, until the server is closed."""
        beside = socket.fromfd(listening.fileno(), listening.family, listening.type)
        beside.setblocking(False)

        def accept() -> None:
            if not server.is_serving():
                self._leave(beside)
                return
            with contextlib.suppress(BlockingIOError):  # none waits any more
                for _ in range(most_at_once(processes, BoundedProtocol.num_open)):
                    taken, _ = beside.accept()
                    taken.setblocking(False)
                    task = self.create_task(self._connect(protocol_factory, taken))
                    connecting.add(task)
                    task.add_done_callback(connecting.discard)

        processes = num_processes()
        connecting: set[asyncio.Task[None]] = set()
        self._beside.add(beside)
        self.add_reader(beside, accept)

    async def _connect(self, protocol_factory: Callable[[], Any], taken: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the client has gone
            await self.connect_accepted_socket(protocol_factory, taken)


def loop_factory(use_subprocess: bool = False) -> type[Loop]:
    """As uvicorn asks for it."""
    return Loop
