"""An app behind the web server that the service has, on a port of its own."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette

from bento.connections import Behind, BoundedProtocol


@contextmanager
def live(app: Starlette, behind: Behind | None = None, *, keep_alive_s: int = 5) -> Iterator[str]:
    """Serve `app` from a thread; the URL. `keep_alive_s` is as BentoML's option."""
    protocol = type("Protocol", (BoundedProtocol,), {"behind": behind})
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, http=protocol, log_level="critical", server_header=False,
        timeout_keep_alive=keep_alive_s,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="live-server")
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server ended before it listened"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
