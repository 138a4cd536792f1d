"""Clocks in the service, for a breakdown of its CPU time.

Calls of ONNX Runtime, the tokeniser, the JSON library and the HTTP protocol are timed on the CPU clock of their own
thread, which costs well under a microsecond a call. Every half second each process writes what its threads have used
so far into a folder.
"""

import functools
import json
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

WRITE_EVERY_S = 0.5
OWN = "probe"
"""The thread that writes, and the piece that is none of the service's."""
RUNTIME, TOKENISER, JSON_CODEC, HTTP_IN, HTTP_OUT = "ONNX Runtime", "tokeniser", "JSON", "HTTP in", "HTTP out"

used_s: defaultdict[tuple[str, str], float] = defaultdict(float)
"""(thread, piece) -> CPU seconds."""


def timed(piece: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` with its CPU time booked under `piece`."""

    @functools.wraps(function, updated=())
    def run(*arguments: Any, **settings: Any) -> Any:
        start = time.thread_time()
        try:
            return function(*arguments, **settings)
        finally:
            used_s[threading.current_thread().name, piece] += time.thread_time() - start

    return run


def install() -> None:
    """Put the clocks in."""
    import onnxruntime
    import orjson

    from bento.connections import BoundedProtocol
    from bento.predictor import Predictor

    for name in ("run", "run_with_iobinding", "run_with_ort_values"):
        run = getattr(onnxruntime.InferenceSession, name)
        setattr(onnxruntime.InferenceSession, name, timed(RUNTIME, run))
    for name in ("loads", "dumps"):
        setattr(orjson, name, timed(JSON_CODEC, getattr(orjson, name)))
    for name, piece in (("data_received", HTTP_IN), ("_send", HTTP_OUT)):
        setattr(BoundedProtocol, name, timed(piece, getattr(BoundedProtocol, name)))
    for name in ("encode", "tokenize"):
        setattr(Predictor, name, timed(TOKENISER, getattr(Predictor, name)))


def snapshot() -> dict[str, Any]:
    """CPU seconds of the process, of each Python thread by name, and of the timed pieces within them."""
    threads_s: defaultdict[str, float] = defaultdict(float)
    for thread in threading.enumerate():
        path = Path(f"/proc/self/task/{thread.native_id}/schedstat")
        if path.exists():
            threads_s[thread.name] += int(path.read_text(encoding="ascii").split()[0]) / 1e9
    pieces_s = [[*key, seconds] for key, seconds in used_s.copy().items()]
    return {"process_s": time.process_time(), "threads_s": threads_s, "pieces_s": pieces_s}


def write_for_ever(folder: Path) -> None:
    """Keep this process's file current."""
    path = folder / f"{os.getpid()}.json"
    while True:
        time.sleep(WRITE_EVERY_S)
        path.with_suffix(".new").write_text(json.dumps(snapshot()), encoding="utf-8")
        path.with_suffix(".new").rename(path)


def start_clocks(folder: Path) -> None:
    """Put the clocks in and begin to write."""
    install()
    threading.Thread(target=write_for_ever, args=(folder,), name=OWN, daemon=True).start()
