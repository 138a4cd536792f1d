"""Bare uvicorn and starlette with the micro-batcher that one writes first: run whatever waits, up to PEER_BATCH."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from classifier import Classifier
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

BATCH = int(os.environ["PEER_BATCH"])
Waiting = tuple[str, "asyncio.Future[dict[str, Any]]"]


async def work(classifier: Classifier, queue: "asyncio.Queue[Waiting]") -> None:
    """Answer for ever."""
    while True:
        waiting = [await queue.get()]
        while len(waiting) < BATCH and not queue.empty():
            waiting.append(queue.get_nowait())
        answers = await asyncio.to_thread(classifier, [text for text, _ in waiting])
        for (_, answer), found in zip(waiting, answers, strict=True):
            if not answer.done():
                answer.set_result(found)


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Load the model and start the worker."""
    app.state.queue = asyncio.Queue()
    worker = asyncio.create_task(work(Classifier(), app.state.queue))
    yield
    worker.cancel()


async def predict(request: Request) -> JSONResponse:
    """The answer to one text."""
    answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    request.app.state.queue.put_nowait(((await request.json())["text"], answer))
    return JSONResponse(await answer)


async def ready(request: Request) -> JSONResponse:
    """The model is loaded, since the lifespan has begun."""
    return JSONResponse({"ready": True})


app = Starlette(
    routes=[Route("/predict", predict, methods=["POST"]), Route("/readyz", ready, methods=["GET"])], lifespan=lifespan
)

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PEER_PORT"]), log_level="warning", access_log=False)
