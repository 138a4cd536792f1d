"""Answers that were given before: in this process, then in Redis where there is one.

A key is the model's digest and the normalised text, so an answer can only come from the very model that would be asked,
and a new model starts with nothing. Redis is shared by all replicas. Slow or gone, it is left alone for a while, and
the service works as if there were none.
"""

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from bento.answer import Answer
from bento.metrics import Metrics
from bento.predictor import Predictor, Text, num_characters

logger = logging.getLogger(__name__)

Key = tuple[str, Text]
"""Model digest and normalised text."""

REST_S = (1.0, 30.0)
"""First and longest time for which a Redis that failed is left alone."""
MAX_UNWRITTEN = 10_000
"""Answers that wait for Redis; further ones are not stored there."""
MAX_KEYS_AT_ONCE = 1_000


class AnswerCache:
    """The most recently used answers, up to so many bytes; for one event loop, so without a lock."""

    def __init__(self, metrics: Metrics, max_bytes: int) -> None:
        """`max_bytes` is about what the answers and their texts may take; 0 stores nothing."""
        self.metrics = metrics
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self._answers: OrderedDict[Key, Answer] = OrderedDict()

    def get(self, key: Key) -> Answer | None:
        """The answer, if it is known."""
        answer = self._answers.get(key)
        if answer is not None:
            self._answers.move_to_end(key)
        return answer

    def put(self, key: Key, answer: Answer) -> None:
        """Remember it, and forget what was used longest ago."""
        if key in self._answers:
            return
        size = _size(key, answer)
        if size > self.max_bytes:
            return
        self._answers[key] = answer
        self.num_bytes += size
        while self.num_bytes > self.max_bytes:
            self.num_bytes -= _size(*self._answers.popitem(last=False))
        self.metrics.cache_bytes.set(self.num_bytes)


def _size(key: Key, answer: Answer) -> int:
    return answer.size_bytes() + 4 * num_characters(key[1])


def cache_key(predictor: Predictor, text: Text) -> Key:
    """What has this key has this answer."""
    return predictor.sha256, predictor.normalized(text)


class RedisCache:
    """Answers in Redis, with a time limit on each call and a rest after a failure; never raises."""

    def __init__(self, metrics: Metrics, url: str, *, ttl_s: int, timeout_s: float) -> None:
        """Connects when first asked. An answer lives for `ttl_s`; a call that takes longer than `timeout_s` failed."""
        self.metrics = metrics
        self.ttl_s = ttl_s
        self.timeout_s = timeout_s
        self._redis = Redis.from_url(url, socket_connect_timeout=timeout_s, socket_timeout=timeout_s)
        self._rest_until = 0.0
        self._rest_s = REST_S[0]
        self._asked: dict[bytes, asyncio.Future[Answer | None]] = {}
        self._unwritten: dict[bytes, Answer] = {}
        self._reading: asyncio.Task[None] | None = None
        self._writing: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Write what waits and close the connections."""
        if self._writing is not None:
            await self._writing
        await self._redis.aclose()

    @property
    def resting(self) -> bool:
        """Whether it failed a moment ago and is left alone."""
        return time.monotonic() < self._rest_until

    async def get(self, keys: Sequence[Key]) -> list[Answer | None]:
        """The answers that are known, in order. Whoever asks while a call is under way is in the next one."""
        if self.resting:
            return [None] * len(keys)
        loop = asyncio.get_running_loop()
        names = [_name(key) for key in keys]
        futures = [self._asked.setdefault(name, loop.create_future()) for name in names]
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
        return [await asyncio.shield(future) for future in futures]

    def put(self, key: Key, answer: Answer) -> None:
        """Store it soon; at once for the caller."""
        if self.resting or len(self._unwritten) >= MAX_UNWRITTEN:
            self.metrics.redis_skipped.inc()
            return
        self._unwritten[_name(key)] = answer
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())

    async def _read(self) -> None:
        while self._asked:
            asked, self._asked = self._asked, {}
            try:
                async with asyncio.timeout(self.timeout_s):
                    found: list[Any] = await self._redis.mget(list(asked))
                answers = [None if stored is None else Answer.load(stored) for stored in found]
                self._rest_s = REST_S[0]
            except (RedisError, OSError, TimeoutError, ValueError, TypeError) as error:
                self._rest(error)
                answers = [None] * len(asked)
            for future, answer in zip(asked.values(), answers, strict=True):
                if not future.done():
                    future.set_result(answer)

    async def _write(self) -> None:
        while self._unwritten and not self.resting:
            names = list(self._unwritten)[:MAX_KEYS_AT_ONCE]
            try:
                async with asyncio.timeout(self.timeout_s), self._redis.pipeline(transaction=False) as pipe:
                    for name in names:
                        pipe.set(name, self._unwritten.pop(name).dump(), ex=self.ttl_s)
                    await pipe.execute()
            except (RedisError, OSError, TimeoutError) as error:
                self._rest(error)
        self._unwritten.clear()

    def _rest(self, error: Exception) -> None:
        self.metrics.redis_errors.inc()
        self._rest_until = time.monotonic() + self._rest_s
        logger.warning("Redis fails and is left alone for %.0f s: %s", self._rest_s, error or type(error).__name__)
        self._rest_s = min(2 * self._rest_s, REST_S[1])


def _name(key: Key) -> bytes:
    sha256, text = key
    return b"retort:" + hashlib.blake2b(sha256.encode() + orjson.dumps(text), digest_size=20).hexdigest().encode()
