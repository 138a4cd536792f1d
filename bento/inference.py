"""From texts to answers: cache, texts that several ask at the same time, queue, deadline, and clients that leave."""

import asyncio
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from bento.answer import Answer
from bento.batcher import Batcher, DeadlineError, QueueFullError, Waiting
from bento.cache import AnswerCache, Key, RedisCache, cache_key
from bento.client import Client, ClientGoneError, Watch
from bento.metrics import Metrics
from bento.predictor import Predictor, Text, num_characters
from bento.schemas import ApiError
from bento.uncased import Encoded

if TYPE_CHECKING:
    from bento.tracing import Tracing

MAX_INLINE_CHARACTERS = 4_000
"""Longer requests are tokenised in a thread, since the event loop stands still meanwhile."""


class Inference:
    """Answers texts; for one event loop."""

    def __init__(
        self,
        metrics: Metrics,
        batcher: Batcher,
        cache: AnswerCache,
        redis: RedisCache | None,
        tracing: "Tracing | None" = None,
    ) -> None:
        """`redis` is None where answers are kept in this process only, `tracing` where no spans are wanted."""
        self.metrics = metrics
        self.batcher = batcher
        self.cache = cache
        self.redis = redis
        self.tracing = tracing
        self._in_flight: dict[Key, Waiting] = {}
        self._tokenizing = ThreadPoolExecutor(1, "retort-tokenizer")

    def start(self) -> None:
        """Take the running event loop."""
        self.batcher.start()

    async def stop(self) -> None:
        """Answer what waits."""
        await self.batcher.stop()
        self._tokenizing.shutdown(wait=False)
        if self.redis is not None:
            await self.redis.close()

    async def answer(
        self, predictor: Predictor, texts: Sequence[Text], deadline: float, client: Client
    ) -> list[Answer]:
        """N answers in order; `deadline` is in the seconds of `time.perf_counter`. Raises: ApiError 429, 499, 503."""
        keys = [cache_key(predictor, text) for text in texts]
        known: list[Answer | None] = [self.cache.get(key) for key in keys]
        self._count("memory", known)
        missing = [at for at, answer in enumerate(known) if answer is None]
        if missing and self.redis is not None:
            missing = await self._from_redis(self.redis, keys, known, missing)
        if missing:
            asked = {keys[at]: texts[at] for at in missing}
            found = await self._run(predictor, asked, deadline, client)
            for at in missing:
                known[at] = found[keys[at]]
        return [answer for answer in known if answer is not None]

    def _count(self, tier: str, found: Sequence[Answer | None]) -> None:
        num_misses = sum(answer is None for answer in found)
        hits, misses = self.metrics.cache_counters[tier]
        if num_misses < len(found):
            hits.inc(len(found) - num_misses)
        if num_misses:
            misses.inc(num_misses)

    async def _from_redis(
        self, redis: RedisCache, keys: Sequence[Key], known: list[Answer | None], missing: list[int]
    ) -> list[int]:
        found = await redis.get([keys[at] for at in missing])
        self._count("redis", found)
        for at, answer in zip(missing, found, strict=True):
            known[at] = answer
            if answer is not None:
                self.cache.put(keys[at], answer)
        return [at for at in missing if known[at] is None]

    async def _run(
        self, predictor: Predictor, asked: dict[Key, Text], deadline: float, client: Client
    ) -> dict[Key, Answer]:
        """Whatever of `asked` is not in the queue already is put there."""
        began_at = time.perf_counter()
        flying = self._flying(asked)
        new = {key: text for key, text in asked.items() if key not in flying}
        try:
            if new:
                self.batcher.admit(len(new), deadline - began_at)  # what is refused is not tokenised
            encodings = await self._encode(predictor, new)
            flying = self._flying(asked)  # as it is now
            new = {key: text for key, text in asked.items() if key not in flying}
            added = self.batcher.submit(
                predictor,
                list(new.values()),
                # what flew a moment ago and has landed since was not encoded
                [encodings.get(key) or predictor.encode(text) for key, text in new.items()],
                deadline=deadline,
            )
        except QueueFullError as error:
            seconds = str(max(1, math.ceil(error.retry_after_s)))
            raise ApiError(429, "queue_full", str(error), headers={"Retry-After": seconds}) from error
        futures = {key: waiting.join(deadline) for key, waiting in flying.items()}
        for key, waiting in zip(new, added, strict=True):
            self._in_flight[key] = waiting
            waiting.then = partial(self._store, key, waiting)
            futures[key] = waiting.answers[0]
        try:
            return await self._wait(futures, deadline, client)
        finally:
            if self.tracing is not None:
                self.tracing.phases([*flying.values(), *added], began_at)

    async def _encode(self, predictor: Predictor, texts: Mapping[Key, Text]) -> dict[Key, Encoded]:
        if sum(map(num_characters, texts.values())) <= MAX_INLINE_CHARACTERS:
            return {key: predictor.encode(text) for key, text in texts.items()}
        loop = asyncio.get_running_loop()
        encodings = await loop.run_in_executor(self._tokenizing, predictor.tokenize, list(texts.values()))
        return dict(zip(texts, encodings, strict=True))

    def _flying(self, keys: Iterable[Key]) -> dict[Key, Waiting]:
        """Those of `keys` that are in the queue and will be answered; what nobody waits for any more will not."""
        now = time.perf_counter()
        found = ((key, self._in_flight.get(key)) for key in keys)
        return {key: waiting for key, waiting in found if waiting is not None and waiting.is_wanted(now)}

    def _store(self, key: Key, waiting: Waiting, answer: Answer | None) -> None:
        """Called when a text has left the queue, with its answer if there is one."""
        if self._in_flight.get(key) is waiting:
            del self._in_flight[key]
        if answer is not None:
            self.cache.put(key, answer)
            if self.redis is not None:
                self.redis.put(key, answer)

    async def _wait(
        self, futures: dict[Key, asyncio.Future[Answer]], deadline: float, client: Client
    ) -> dict[Key, Answer]:
        watch = Watch(list(futures.values()), deadline, client)
        try:
            return {key: await future for key, future in futures.items()}
        except DeadlineError as error:
            message = "no answer within the request's time; try again later"
            raise ApiError(503, "deadline_exceeded", message, headers={"Retry-After": "1"}) from error
        except ClientGoneError as error:
            raise ApiError(499, "client_gone", "the client closed the connection") from error
        finally:
            watch.stop()
            for future in futures.values():
                if not future.cancel() and not future.cancelled():
                    future.exception()  # seen, so asyncio does not complain of those after the first
