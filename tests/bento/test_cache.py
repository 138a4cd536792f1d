"""Answers that were given before: found only for the same model and tokens, bounded, and never in the way."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bento.answer import Answer
from bento.cache import AnswerCache, RedisCache, cache_key
from bento.metrics import Metrics
from bento.predictor import Predictor
from tests.redis_server import redis_server, stopped

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0


def answer_to(predictor: Predictor, text: str) -> Answer:
    return predictor.answer([text], [predictor.encode(text)])[0]


def same(one: Answer | None, other: Answer) -> bool:
    return one is not None and (one.prediction, one.logged, one.named, one.probabilities()) == (
        other.prediction,
        other.logged,
        other.named,
        other.probabilities(),
    )


async def eventually(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not check():
            await asyncio.sleep(0.01)


def test_texts_of_the_same_tokens_share_an_answer_and_others_do_not(model: Path) -> None:
    predictor = Predictor(model)
    key = cache_key(predictor, "My card")
    for text in ("my card", "  MY   card\n"):
        assert cache_key(predictor, text) == key
        assert predictor.encode(text).ids == predictor.encode("My card").ids
    for text in ("my cards", "my [SEP] card", "my c\u0101rd", "my\x0bcard"):
        assert cache_key(predictor, text) != key
    assert cache_key(predictor, "[SEP]") != cache_key(predictor, "[sep]")
    assert cache_key(predictor, ("my", "card")) != key


def test_another_model_has_other_keys(model: Path, model_of_pairs: Path) -> None:
    assert cache_key(Predictor(model), "card") != cache_key(Predictor(model_of_pairs), "card")


def test_the_cache_forgets_what_was_used_longest_ago_and_stays_within_its_bytes(model: Path) -> None:
    predictor = Predictor(model)
    answer = answer_to(predictor, "card")
    metrics = Metrics()
    cache = AnswerCache(metrics, max_bytes=3 * (answer.size_bytes() + 4 * len("text 0")))
    keys = [cache_key(predictor, f"text {number}") for number in range(4)]
    for key in keys[:3]:
        cache.put(key, answer)
    assert cache.get(keys[0]) is answer
    cache.put(keys[3], answer)
    assert [cache.get(key) is not None for key in keys] == [True, False, True, True]
    assert cache.num_bytes <= cache.max_bytes
    assert value(metrics, "retort_cache_bytes") == cache.num_bytes


def test_a_cache_of_no_bytes_stores_nothing(model: Path) -> None:
    predictor = Predictor(model)
    cache = AnswerCache(Metrics(), max_bytes=0)
    cache.put(cache_key(predictor, "card"), answer_to(predictor, "card"))
    assert cache.get(cache_key(predictor, "card")) is None


def test_an_answer_comes_back_from_json_as_it_was(model: Path) -> None:
    answer = answer_to(Predictor(model), "card")
    assert same(Answer.load(answer.dump()), answer)
    with pytest.raises((TypeError, ValueError)):
        Answer.load(b'["a", 1, [], []]')


@asynccontextmanager
async def cache_in(url: str, metrics: Metrics, **settings: Any) -> AsyncIterator[RedisCache]:
    cache = RedisCache(metrics, url, **({"ttl_s": 60, "timeout_s": 1.0} | settings))
    try:
        yield cache
    finally:
        await cache.close()


async def test_one_process_finds_in_redis_what_another_stored(model: Path, redis_url: str) -> None:
    predictor = Predictor(model)
    key, answer = cache_key(predictor, "my card"), answer_to(predictor, "my card")
    async with cache_in(redis_url, Metrics()) as one:
        one.put(key, answer)
    async with cache_in(redis_url, Metrics()) as other:
        found = await asyncio.gather(*(other.get([key, cache_key(predictor, "unknown")]) for _ in range(20)))
    assert all(same(first, answer) and second is None for first, second in found)


async def test_an_answer_in_redis_ends_after_its_time(model: Path, redis_url: str) -> None:
    predictor = Predictor(model)
    key = cache_key(predictor, "lost")
    async with cache_in(redis_url, Metrics(), ttl_s=1) as cache:
        cache.put(key, answer_to(predictor, "lost"))
        await asyncio.sleep(0.2)
        assert (await cache.get([key]))[0] is not None
        await asyncio.sleep(1.2)
        assert await cache.get([key]) == [None]


async def test_what_is_no_answer_in_redis_counts_as_a_failure_and_not_as_an_answer(model: Path, redis_url: str) -> None:
    from redis.asyncio import Redis

    predictor, metrics = Predictor(model), Metrics()
    key = cache_key(predictor, "planted")
    async with cache_in(redis_url, metrics) as cache:
        cache.put(key, answer_to(predictor, "planted"))
    client = Redis.from_url(redis_url)
    for name in await client.keys("retort:*"):
        await client.set(name, b"no json")
    await client.aclose()
    async with cache_in(redis_url, metrics) as cache:
        assert await cache.get([key]) == [None]
    assert value(metrics, "retort_redis_errors_total") == 1


async def test_a_redis_that_is_gone_costs_one_bounded_wait_and_is_then_left_alone(model: Path) -> None:
    predictor, metrics = Predictor(model), Metrics()
    key = cache_key(predictor, "card")
    async with cache_in("redis://127.0.0.1:1/0", metrics, timeout_s=0.2) as cache:
        for _ in range(50):
            assert await cache.get([key]) == [None]
            cache.put(key, answer_to(predictor, "card"))
        assert cache.resting
    assert value(metrics, "retort_redis_errors_total") == 1
    assert value(metrics, "retort_redis_skipped_total") == 50


async def test_a_redis_that_hangs_is_waited_for_only_so_long_and_found_again_when_it_is_back(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bento.cache.REST_S", (0.1, 0.2))
    predictor, metrics = Predictor(model), Metrics()
    key, answer = cache_key(predictor, "card"), answer_to(predictor, "card")
    with redis_server(tmp_path) as server:
        async with cache_in(server.url, metrics, timeout_s=0.1) as cache:
            cache.put(key, answer)
            await asyncio.sleep(0.2)
            with stopped(server.process):
                started = time.perf_counter()
                assert await cache.get([key]) == [None]
                assert time.perf_counter() - started < 1
            await eventually(lambda: not cache.resting)

            async def found() -> bool:
                return same((await cache.get([key]))[0], answer)

            async with asyncio.timeout(5):
                while not await found():
                    await asyncio.sleep(0.05)
    assert value(metrics, "retort_redis_errors_total") >= 1
