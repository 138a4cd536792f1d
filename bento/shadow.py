"""The shadow: a sample of the requests is asked again of another model, while nobody waits for anything.

A request is copied after its answer was sent, into a short queue in front of one thread. The thread runs a text only
while no text of a real request waits; else it skips the text and counts it. What the shadow says is logged with the
arm `shadow`, to be compared with the answer under the same request id.
"""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from bento.answer import Answer, answers_of
from bento.arm_counts import ArmCounts
from bento.arms import SHADOW
from bento.handlers import log_rows
from bento.metrics import Metrics
from bento.predictor import Text
from bento.records import Row
from bento.request_log import RequestLog
from bento.router import Champion, Router

logger = logging.getLogger(__name__)

MAX_WAITING_REQUESTS = 64


@dataclass(frozen=True, kw_only=True)
class Copy:
    """One request for the shadow."""

    model: Champion
    request_id: str
    texts: Sequence[Text]
    received_at: float


class Shadow:
    """A bounded queue of copies in front of one thread."""

    def __init__(
        self, metrics: Metrics, router: Router, log: RequestLog, counts: ArmCounts, *, is_idle: Callable[[], bool]
    ) -> None:
        """`is_idle` says that no text of a real request waits or is computed."""
        self.metrics = metrics
        self.router = router
        self.log = log
        self.counts = counts
        self.is_idle = is_idle
        self._copies: queue.Queue[Copy | None] = queue.Queue(MAX_WAITING_REQUESTS)
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="retort-shadow", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the text that it is at; what waits is given up."""
        self._stopping = True
        with suppress(queue.Full):  # then a copy wakes the thread
            self._copies.put_nowait(None)
        self._thread.join()

    def mirror(self, request_id: str, texts: Sequence[Text], received_at: float) -> None:
        """Copy the request if the shadow draws it, once the event loop has sent the answer."""
        shadow = self.router.serving.beside.get(SHADOW)
        if shadow is not None and shadow.arm.draws(request_id):
            copy = Copy(model=shadow.model, request_id=request_id, texts=texts, received_at=received_at)
            asyncio.get_running_loop().call_soon(self.offer, copy)

    def offer(self, copy: Copy) -> None:
        """Queue the copy, or skip it at once."""
        if not self.is_idle():
            self._skip("busy", len(copy.texts))
            return
        try:
            self._copies.put_nowait(copy)
        except queue.Full:
            self._skip("queue_full", len(copy.texts))

    def _work(self) -> None:
        while (copy := self._copies.get()) is not None and not self._stopping:
            self._answer(copy)

    def _answer(self, copy: Copy) -> None:
        for item, text in enumerate(copy.texts):
            if not self.is_idle():
                self._skip("busy", len(copy.texts) - item)
                return
            try:
                row, answers = _row(copy, item, text)
            except Exception:  # a model on trial may fail in any way, and nobody has asked it
                logger.exception("the shadow %s failed", copy.model.identity)
                self._skip("failed", 1)
                self.counts.add_shadow(copy.model, None)
            else:
                self.log.append([row])
                self.metrics.shadow_rows.inc()
                self.counts.add_shadow(copy.model, answers)

    def _skip(self, reason: str, num_texts: int) -> None:
        self.metrics.shadow_skipped.labels(reason=reason).inc(num_texts)


def _row(copy: Copy, item: int, text: Text) -> tuple[Row, list[Answer]]:
    """What the shadow answers to one text, for the log, and as it is."""
    predictor = copy.model.predictor
    started = time.perf_counter()
    answers = answers_of(predictor, [text], predictor.predict([text]))
    latency_ms = (time.perf_counter() - started) * 1000
    common = {"request_id": copy.request_id, "received_at": copy.received_at, "latency_ms": latency_ms, "caller": None}
    (row,) = log_rows(copy.model, [text], answers, common, audit_rate=0.0)
    return row | {"item": item}, answers
