"""All connections that wait are taken at once, and none after the server was closed."""

import asyncio
import errno
import socket
from contextlib import ExitStack

import pytest

from bento.connections import BoundedProtocol
from bento.event_loop import FEW_AT_ONCE, MAX_AT_ONCE, Loop, most_at_once

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


def test_one_of_several_processes_takes_a_few_or_a_quarter_of_what_it_has() -> None:
    assert [most_at_once(2, number) for number in (0, 10, 100, 10_000)] == [FEW_AT_ONCE, FEW_AT_ONCE, 25, MAX_AT_ONCE]
    assert most_at_once(1, 0) == MAX_AT_ONCE


def test_one_of_several_processes_leaves_connections_to_the_others_and_takes_all_that_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RETORT_PROCESSES", "2")
    assert BoundedProtocol.num_open == 0
    with asyncio.Runner(loop_factory=Loop) as runner:
        made, _ = runner.run(taken_in(3))
    assert made < NUMBER / 2
    with asyncio.Runner(loop_factory=Loop) as runner:
        made, _ = runner.run(taken_in(100))
    assert made == NUMBER
