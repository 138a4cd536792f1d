"""The load generator, a process of its own: `python -m flows.bench_serve.load PLAN RESULT`, both JSON files.

It has to be cheap, since it shares the cores with what it measures: request bytes are made before the clock starts,
answers are parsed in C and only their status is read. With arrivals, a request is due at its own time however slow the
answers are, and what finds no free connection waits here with its clock running.
"""

import asyncio
import contextlib
import gc
import json
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any, cast

import httptools
from pydantic import BaseModel, ConfigDict

LOST, TIMED_OUT = 0, -1
"""In place of an HTTP status."""
SWEEP_S = 0.02
TICK_S = 0.001
"""The loop's timers know no shorter time."""
READY_EVERY_S = 0.1
READY_TIMEOUT_S = 1.0


class Plan(BaseModel):
    """What to send, where and when."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ports: tuple[int, ...]
    """On the loopback. With several, each new connection goes to the next one that /readyz calls ready."""
    path: str
    bodies: list[str]
    """JSON of each request, in order."""
    arrivals_s: list[float] | None = None
    """When each request is due (open loop); without, `connections` send one after the other (closed loop)."""
    connections: int
    """How many are opened (closed loop), or may be open at once (open loop)."""
    seconds: float | None = None
    """A closed loop sends nothing new after this time."""
    timeout_s: float = 10.0
    """A request without an answer so long after it was due is given up."""
    retries: int = 0
    """How often a request is sent again whose connection was lost."""


def request_bytes(path: str, body: str) -> bytes:
    """A whole HTTP/1.1 request."""
    content = body.encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request in flight."""

    def __init__(self, load: "Load", port: int) -> None:
        """Not connected yet."""
        self.load = load
        self.port = port
        self.request: int | None = None
        self.transport: asyncio.WriteTransport | None = None
        self.parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of asyncio's protocol."""
        self.transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        """Part of asyncio's protocol."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.abort()

    def on_message_complete(self) -> None:
        """Called by the parser at the end of an answer."""
        self.load.on_answer(self, self.parser.get_status_code(), self.parser.should_keep_alive())

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of asyncio's protocol."""
        self.load.on_lost(self)

    def send(self, request: int, content: bytes) -> None:
        """Write one request."""
        self.request = request
        if self.transport is not None:
            self.transport.write(content)

    def abort(self) -> None:
        """Close at once, whatever is in flight."""
        if self.transport is not None:
            self.transport.abort()


class Load:
    """One run of a plan."""

    def __init__(self, plan: Plan) -> None:
        """Encode everything."""
        self.plan = plan
        self.contents = [request_bytes(plan.path, body) for body in plan.bodies]
        number = len(self.contents)
        self.due_s = [0.0] * number
        self.sent_s = [0.0] * number
        self.done_s = [0.0] * number
        self.status = [LOST] * number
        self.tries = [0] * number
        self.num_started = 0
        self.num_done = 0
        self.idle: list[Connection] = []
        self.open: set[Connection] = set()
        self.num_connecting = 0
        self.waiting: deque[int] = deque()
        self.ready = list(plan.ports)
        self.num_connects = 0
        self.connects: set[asyncio.Task[None]] = set()

    async def run(self) -> dict[str, Any]:
        """Send everything, wait for the last answer, and tell when each was due, sent and done."""
        self.loop = asyncio.get_running_loop()
        self.finished = asyncio.Event()
        several = self.plan.ports if len(self.plan.ports) > 1 else ()
        await asyncio.gather(*(self.ask(port) for port in several))
        watching = [asyncio.create_task(self.watch(port)) for port in several]
        self.num_connecting = 1 if self.plan.arrivals_s is not None else self.plan.connections
        await asyncio.gather(*(self.connect() for _ in range(self.num_connecting)))
        cpu_s, self.start_s = time.process_time(), time.perf_counter()  # the loop's own clock counts milliseconds
        self.sweep()
        if self.plan.arrivals_s is None:
            for _ in range(self.plan.connections):
                self.start_next()
        else:
            self.start_due()
        await self.finished.wait()
        cpu_s = time.process_time() - cpu_s
        await self.close(watching)
        columns = {name: getattr(self, name)[: self.num_started] for name in ("due_s", "sent_s", "done_s", "status")}
        return columns | {"tries": self.tries[: self.num_started], "cpu_s": cpu_s}

    async def close(self, watching: list[asyncio.Task[None]]) -> None:
        """Leave no task and no connection behind."""
        tasks = [*watching, *self.connects]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in list(self.open):
            connection.abort()
        while self.open:
            await asyncio.sleep(TICK_S)

    def now(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.start_s

    def start_next(self) -> None:
        """Closed loop: the next request is due now, as a connection is free."""
        over = self.plan.seconds is not None and self.now() >= self.plan.seconds
        if over or self.num_started == len(self.contents):
            self.check_finished(over=True)
            return
        request = self.num_started
        self.num_started += 1
        self.due_s[request] = self.now()
        self.dispatch(request)

    def start_due(self) -> None:
        """Open loop: all that is due by now, then sleep until the next one."""
        arrivals_s, now = self.plan.arrivals_s or [], self.now()
        while self.num_started < len(arrivals_s) and arrivals_s[self.num_started] <= now:
            request = self.num_started
            self.num_started += 1
            self.due_s[request] = arrivals_s[request]
            self.dispatch(request)
        if self.num_started < len(arrivals_s):
            self.loop.call_later(max(arrivals_s[self.num_started] - now, TICK_S), self.start_due)

    def dispatch(self, request: int) -> None:
        """Send over a free connection; without one, open another as far as allowed, and wait."""
        while self.idle:
            connection = self.idle.pop()
            if connection.port in self.ready:
                self.send(connection, request)
                return
            connection.abort()
        self.waiting.append(request)
        self.widen()

    def widen(self) -> None:
        """Begin another connection, if something waits and it may be opened."""
        if self.waiting and len(self.open) + self.num_connecting < self.plan.connections:
            self.num_connecting += 1
            task = self.loop.create_task(self.connect())
            self.connects.add(task)
            task.add_done_callback(self.connects.discard)

    def send(self, connection: Connection, request: int) -> None:
        """Put a request on the wire."""
        self.tries[request] += 1
        self.sent_s[request] = self.now()
        connection.send(request, self.contents[request])

    async def connect(self) -> None:
        """One more connection; without a port to connect to, what waits is lost."""
        try:
            connection = await self.try_ports()
        finally:
            self.num_connecting -= 1
        if connection is None:
            while self.waiting:
                self.finish(self.waiting.popleft(), LOST)
            return
        self.open.add(connection)
        self.free(connection)

    async def try_ports(self) -> Connection | None:
        """A connection to the next ready port that accepts one."""
        for _ in range(len(self.ready)):
            port = self.ready[self.num_connects % len(self.ready)]
            self.num_connects += 1
            try:
                _, connection = await self.loop.create_connection(lambda: Connection(self, port), "127.0.0.1", port)  # noqa: B023
            except OSError:
                if len(self.plan.ports) > 1:
                    self.set_ready(port, ready=False)
                if not self.ready:
                    return None
            else:
                return connection
        return None

    def free(self, connection: Connection) -> None:
        """A connection can take a request."""
        if self.waiting:
            self.send(connection, self.waiting.popleft())
        else:
            self.idle.append(connection)

    def on_answer(self, connection: Connection, status: int, keep: bool) -> None:
        """A whole answer has come."""
        request, connection.request = connection.request, None
        if keep and connection.port in self.ready:
            self.free(connection)
        else:
            connection.abort()
        if request is not None:
            self.finish(request, status)

    def on_lost(self, connection: Connection) -> None:
        """A connection is closed; what was in flight on it is tried again, or lost."""
        self.open.discard(connection)
        if connection in self.idle:
            self.idle.remove(connection)
        request, connection.request = connection.request, None
        if request is not None and len(self.plan.ports) > 1:
            self.set_ready(connection.port, ready=False)  # until it is asked again; its other connections may be dead
        if request is not None and self.tries[request] <= self.plan.retries:
            self.dispatch(request)
        elif request is not None:
            self.finish(request, LOST)
        self.widen()  # what waits may have waited for this one to go

    def finish(self, request: int, status: int) -> None:
        """Book the outcome; in a closed loop the next one follows."""
        self.status[request] = status
        self.done_s[request] = self.now()
        self.num_done += 1
        if self.plan.arrivals_s is None:
            self.start_next()
        self.check_finished(over=self.num_started == len(self.contents))

    def check_finished(self, *, over: bool) -> None:
        """End when nothing more will start and nothing is in flight."""
        if over and self.num_done == self.num_started:
            self.finished.set()

    def sweep(self) -> None:
        """Give up what has waited too long, on the wire or here."""
        until = self.now() - self.plan.timeout_s
        for connection in list(self.open):
            request = connection.request
            if request is not None and self.due_s[request] < until:
                connection.request = None
                connection.abort()
                self.finish(request, TIMED_OUT)
        while self.waiting and self.due_s[self.waiting[0]] < until:
            self.finish(self.waiting.popleft(), TIMED_OUT)
        self.loop.call_later(SWEEP_S, self.sweep)

    async def watch(self, port: int) -> None:
        """Ask /readyz now and then, as a balancer does."""
        while True:
            await asyncio.sleep(READY_EVERY_S)
            await self.ask(port)

    async def ask(self, port: int) -> None:
        """Send there or not, as /readyz says."""
        ready = False
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            async with asyncio.timeout(READY_TIMEOUT_S):
                ready = await is_ready(port)
        self.set_ready(port, ready=ready)

    def set_ready(self, port: int, *, ready: bool) -> None:
        """Send to this port, or no longer."""
        if ready and port not in self.ready:
            self.ready.append(port)
        elif not ready and port in self.ready:
            self.ready.remove(port)


async def is_ready(port: int) -> bool:
    """Whether /readyz answers 200."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        return b" 200 " in await reader.readuntil(b"\r\n")
    finally:
        writer.close()


def main(plan: Path, result: Path) -> None:
    """Run the plan of one file and write what came of it to the other."""
    import uvloop

    load = Load(Plan.model_validate_json(plan.read_bytes()))
    gc.disable()  # a pause here would look like one of the service's
    result.write_text(json.dumps(uvloop.run(load.run())), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
