"""All connections that wait are taken at once, and none after the server was closed."""

import asyncio
import errno
import socket
from contextlib import ExitStack

from bento.event_loop import Loop

NUMBER = 100


class Counted(asyncio.Protocol):
    made = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        Counted.made += 1


async def taken_in(iterations: int) -> tuple[int, int]:
    """Connections that are made in so many iterations, and those that are made once the server is closed."""
    Counted.made = 0
    server = await asyncio.get_running_loop().create_server(Counted, "127.0.0.1", 0, backlog=NUMBER)
    address = server.sockets[0].getsockname()
    with ExitStack() as clients:
        for _ in range(NUMBER):
            clients.enter_context(socket.create_connection(address))
        for _ in range(iterations):
            await asyncio.sleep(0)
        made = Counted.made
        server.close()
        late = socket.socket()
        late.setblocking(False)
        late.connect_ex(address)
        await asyncio.sleep(0.05)
        late.close()
    return made, Counted.made


def test_no_socket_is_left_when_the_loop_is_closed() -> None:
    async def serve_nobody() -> int:
        server = await asyncio.get_running_loop().create_server(Counted, "127.0.0.1", 0)
        port: int = server.sockets[0].getsockname()[1]
        server.close()
        return port

    with asyncio.Runner(loop_factory=Loop) as runner:
        port = runner.run(serve_nobody())
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED, "nothing listens any more"


def test_waiting_connections_are_taken_at_once_and_none_after_the_server_is_closed() -> None:
    with asyncio.Runner(loop_factory=Loop) as runner:
        made, in_the_end = runner.run(taken_in(10))
    assert made == in_the_end == NUMBER
