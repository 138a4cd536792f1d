"""A tiny HTTP server in a thread whose faults are planted: what a request's text says is what it does."""

import asyncio
import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Planted:
    """`429` is refused, `drop` closes the connection, `drop once` only at its first try, `hang` is never answered."""

    def __init__(self, delay_s: float = 0.0, *, ready: bool = True, stall_s: tuple[float, float] = (0.0, 0.0)) -> None:
        self.delay_s = delay_s
        self.ready = ready
        self.stall_s = stall_s
        """Seconds after the first request between which nothing is answered."""
        self.seen: Counter[str] = Counter()
        self.first_s: float | None = None
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await self.answer(reader, writer):  # until the client goes
                pass

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; False when the connection ends."""
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET /readyz"):
            writer.write(b"HTTP/1.1 %d x\r\ncontent-length: 0\r\n\r\n" % (200 if self.ready else 503))
            return False
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        text = json.loads(await reader.readexactly(length))["text"]
        self.seen[text] += 1
        if text == "drop" or (text == "drop once" and self.seen[text] == 1):
            return False
        if text == "hang":
            await asyncio.sleep(60)
        await self.wait()
        status = 429 if text == "429" else 200
        writer.write(b"HTTP/1.1 %d x\r\nContent-Length: 2\r\n\r\n{}" % status)
        return True

    async def wait(self) -> None:
        """The delay of every answer, and the stall."""
        now = time.monotonic()
        self.first_s = now if self.first_s is None else self.first_s
        begin, end = (self.first_s + at for at in self.stall_s)
        await asyncio.sleep(max(self.delay_s, end - now if begin <= now < end else 0.0))


@contextmanager
def serving(planted: Planted) -> Iterator[Planted]:
    """Start it on a free port, stop it at the end."""
    started, ended = threading.Event(), threading.Event()

    async def run() -> None:
        server = await asyncio.start_server(planted.serve, "127.0.0.1", 0)
        planted.port = server.sockets[0].getsockname()[1]
        started.set()
        await asyncio.to_thread(ended.wait)
        server.close()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    started.wait()
    try:
        yield planted
    finally:
        ended.set()
        thread.join()
