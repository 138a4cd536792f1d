"""Length-aware micro-batching: texts are tokenised first, and whichever worker is free takes the oldest and with it
those of similar length whose padding costs less than runs of their own.

There is no waiting window: batches grow by themselves while the workers are busy, and a lone text runs at once. All
workers take from one queue. A model whose answer to a text depends on its batch (dynamic int8 scales its activations
over all rows) runs a text at a time, so an answer never depends on who else is asking and is the one that was
evaluated.

The queue is bounded by time rather than by number: what is predicted to be answered after its deadline is refused at
once, and what has passed its deadline or lost its client while it waited is not computed.
"""

import asyncio
import itertools
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bento.answer import Answer
from bento.cost import companions
from bento.errors import RetortError
from bento.metrics import Metrics
from bento.predictor import Predictor, Text
from bento.uncased import Encoded

WINDOW_TEXTS = 64
"""The oldest that wait; a run's texts come from these."""
LEARNING_RATE = 0.1
"""Weight of the newest run in the ratio of measured to predicted time."""
SCALE_RANGE = (0.05, 100.0)


class QueueFullError(RetortError):
    """A text would be answered too late: the caller should come back in `retry_after_s`."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        """`retry_after_s` is when what waits now is answered."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DeadlineError(RetortError):
    """The deadline passed while the text waited, so it was not computed."""


@dataclass(eq=False, slots=True)
class Waiting:
    """One text in the queue."""

    predictor: Predictor
    text: Text
    encoding: Encoded
    num_tokens: int
    cost_ms: float
    queued_at: float
    deadline: float
    """Of whoever waits longest."""
    answers: list[asyncio.Future[Answer]]
    """One for each that waits for it."""
    taken_at: float = 0.0
    """When a worker took it; 0 while it waits."""
    then: Callable[[Answer | None], None] | None = None
    """Called in the event loop with the answer, or with None when there is none."""

    def join(self, deadline: float) -> asyncio.Future[Answer]:
        """Wait for the same answer as well."""
        self.deadline = max(self.deadline, deadline)
        self.answers.append(self.answers[0].get_loop().create_future())
        return self.answers[-1]

    def is_wanted(self, now: float) -> bool:
        """Whether somebody still waits."""
        return self.deadline >= now and not all(answer.done() for answer in self.answers)


class Batcher:
    """A bounded queue in front of inference threads; submit from one event loop."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        workers: int | None = None,
        batch_tokens: int | None = None,
        queue_limit: int = 1024,
        processes: int = 1,
    ) -> None:
        """`workers` and `batch_tokens` in place of those in the model's manifest; at most `queue_limit` texts wait.

        The manifest's workers are divided among `processes`.
        """
        self.metrics = metrics
        self.workers = workers
        self.batch_tokens = batch_tokens
        self.queue_limit = queue_limit
        self.processes = processes
        self.num_queued = 0
        self._backlog_ms = 0.0
        self._scale = 1.0
        self._queue: OrderedDict[int, Waiting] = OrderedDict()
        self._keys = itertools.count()
        self._changed = threading.Condition()
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Take the running event loop; the workers start with the first model that is asked."""
        self._loop = asyncio.get_running_loop()

    async def stop(self) -> None:
        """Answer what waits, then end the workers."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)
        await asyncio.sleep(0)  # the last answers are delivered in the loop

    def predicted_wait_s(self) -> float:
        """When what waits now will have been answered, as runs took lately."""
        return self._backlog_ms * self._scale / 1000 / max(1, len(self._threads))

    def admit(self, num_texts: int, timeout_s: float, cost_ms: float = 0.0) -> None:
        """Refuse what would be late; a text that waits for no other is always taken. Raises: QueueFullError."""
        wait_s = self.predicted_wait_s()
        full = self.num_queued + num_texts > self.queue_limit
        if not full and (wait_s == 0 or wait_s + cost_ms * self._scale / 1000 <= timeout_s):
            return
        self.metrics.rejected.inc()
        limit = f"the limit is {self.queue_limit}" if full else f"the request has {timeout_s * 1000:.0f} ms"
        message = f"{self.num_queued} texts wait, an answer in {wait_s * 1000:.0f} ms, and {limit}; try again later"
        raise QueueFullError(message, wait_s)

    def submit(
        self, predictor: Predictor, texts: Sequence[Text], encodings: Sequence[Encoded], *, deadline: float
    ) -> list[Waiting]:
        """Queue N texts with their encodings; the first future of each holds the answer, or why there is none.

        `deadline` is in the seconds of `time.perf_counter`. Cancelling all futures of a text before its turn saves the
        inference. Raises: QueueFullError for all of them.
        """
        cost = predictor.serving.cost
        costs_ms = [cost.of(1, len(encoding)) for encoding in encodings]
        now = time.perf_counter()
        self.admit(len(texts), deadline - now, sum(costs_ms))
        if len(self._threads) < self._num_workers(predictor):
            self._add_workers(self._num_workers(predictor))
        added = [
            Waiting(predictor, text, encoding, len(encoding), cost_ms, now, deadline, [self._create_future()])
            for text, encoding, cost_ms in zip(texts, encodings, costs_ms, strict=True)
        ]
        self._count(len(added), sum(costs_ms))
        with self._changed:
            for one in added:
                self._queue[next(self._keys)] = one
            self._changed.notify(len(added))
        return added

    def _num_workers(self, predictor: Predictor) -> int:
        return self.workers or max(1, predictor.serving.workers // self.processes)

    def _add_workers(self, num_workers: int) -> None:
        while len(self._threads) < num_workers:
            name = f"retort-inference-{len(self._threads)}"
            self._threads.append(threading.Thread(target=self._work, name=name, daemon=True))
            self._threads[-1].start()

    def _create_future(self) -> asyncio.Future[Answer]:
        if self._loop is None:
            raise RuntimeError("the batcher was not started")
        return self._loop.create_future()

    def _count(self, num_texts: int, cost_ms: float) -> None:
        self.num_queued += num_texts
        self._backlog_ms = max(0.0, self._backlog_ms + cost_ms) if self.num_queued else 0.0
        self.metrics.queue_texts.set(self.num_queued)

    def _work(self) -> None:
        while run := self._take():
            started = time.perf_counter()
            ready = self._unless_late(run, started)
            if ready:
                self._post(ready, self._run(ready))
                self._learn(ready, started)

    def _take(self) -> list[Waiting]:
        """The next run's texts; nothing when the batcher stops and all is answered."""
        with self._changed:
            while not self._queue:
                if self._stopping:
                    return []
                self._changed.wait()
            oldest = next(iter(self._queue.values()))
            budget = self._budget(oldest.predictor)
            if len(self._queue) == 1 or budget == 1:
                return [self._queue.popitem(last=False)[1]]
            window = [
                (key, one)
                for key, one in itertools.islice(self._queue.items(), WINDOW_TEXTS)
                if one.predictor is oldest.predictor
            ]
            lengths = [one.num_tokens for _, one in window]
            places = companions(lengths, oldest.predictor.serving.cost, budget)
            return [self._queue.pop(window[place][0]) for place in places]

    def _budget(self, predictor: Predictor) -> int:
        if self.batch_tokens is not None:
            return self.batch_tokens
        return predictor.serving.batch_tokens if predictor.manifest.batch_invariant else 1

    def _unless_late(self, run: Sequence[Waiting], now: float) -> list[Waiting]:
        """Those that somebody still waits for."""
        for one in run:
            one.taken_at = now
            self.metrics.queue_wait.observe(now - one.queued_at)
        late = [one for one in run if not one.is_wanted(now)]
        if not late:
            return list(run)
        self._post(late, [DeadlineError("the deadline passed while the text waited")] * len(late))
        return [one for one in run if one not in late]

    def _run(self, run: Sequence[Waiting]) -> Sequence[Answer | Exception]:
        """One run of the model; a failure of several is looked for one by one, so that it hits its owner only."""
        try:
            return run[0].predictor.answer([one.text for one in run], [one.encoding for one in run])
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to one request alone
            if len(run) == 1:
                return [error]
            return [outcome for one in run for outcome in self._run([one])]

    def _learn(self, run: Sequence[Waiting], started: float) -> None:
        """Count the run, and compare it with what its texts would take alone: batching makes the ratio smaller."""
        seconds = time.perf_counter() - started
        longest = max(one.num_tokens for one in run)
        predicted_ms = sum(one.cost_ms for one in run)
        scale = self._scale + LEARNING_RATE * (seconds * 1000 / predicted_ms - self._scale)
        self._scale = min(max(scale, SCALE_RANGE[0]), SCALE_RANGE[1])
        num_tokens = sum(one.num_tokens for one in run)
        self.metrics.inference.observe(seconds)
        self.metrics.batch.observe(len(run))
        self.metrics.batch_tokens.observe(longest * len(run))
        self.metrics.padding_tokens.inc(longest * len(run) - num_tokens)

    def _post(self, run: Sequence[Waiting], outcomes: Sequence[Answer | Exception]) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._deliver, run, outcomes)

    def _deliver(self, run: Sequence[Waiting], outcomes: Sequence[Any]) -> None:
        self._count(-len(run), -sum(one.cost_ms for one in run))
        for one, outcome in zip(run, outcomes, strict=True):
            failed = isinstance(outcome, Exception)
            # It knows `one`: the cycle would be left to garbage collections, which stop all answers.
            then, one.then = one.then, None
            if then is not None:
                then(None if failed else outcome)
            for answer in one.answers:
                if answer.done():  # its client has gone meanwhile
                    continue
                if failed:
                    answer.set_exception(outcome)
                else:
                    answer.set_result(outcome)
