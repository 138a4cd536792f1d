"""An ASGI app in this process, its lifespan included: a synchronous client of it, or a socket that it listens on."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal
from starlette.applications import Starlette


class Client:
    """`get`, `post` and `options` as in httpx, run in the app's event loop."""

    def __init__(self, portal: BlockingPortal, http: httpx.AsyncClient) -> None:
        self.portal = portal
        self.http = http

    def get(self, path: str, **content: Any) -> httpx.Response:
        """One GET request; `headers=`."""
        return self.portal.call(partial(self.http.get, path, **content))

    def options(self, path: str, **content: Any) -> httpx.Response:
        """One OPTIONS request; `headers=`."""
        return self.portal.call(partial(self.http.options, path, **content))

    def post(self, path: str, **content: Any) -> httpx.Response:
        """One POST request; `json=`, `content=`, `headers=`."""
        return self.portal.call(partial(self.http.post, path, **content))


@contextmanager
def serving(app: Starlette) -> Iterator[Client]:
    """Start `app`, give a client of it, stop it."""
    http = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test")
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(app.router.lifespan_context(app)):
        yield Client(portal, http)
        portal.call(http.aclose)


def v2_body(texts: list[str], **changes: object) -> dict[str, object]:
    """A request of the open inference protocol for `texts`, its tensor changed by `changes`."""
    return {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts} | changes]}
