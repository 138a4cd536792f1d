"""From texts to answers: known ones come from the cache, what several ask at once runs once, nobody waits in vain."""

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator, MutableMapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Encoding

from bento.answer import Answer
from bento.batcher import Batcher
from bento.cache import AnswerCache, RedisCache
from bento.client import WATCH_AFTER_S, AsgiClient, Receive
from bento.inference import Inference
from bento.metrics import Metrics
from bento.predictor import Predictor, Text
from bento.schemas import ApiError
from tests.redis_server import redis_server

pytestmark = pytest.mark.anyio


class CountingPredictor(Predictor):
    """Remembers what it ran, and waits for the gate before."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.gate = threading.Event()
        self.gate.set()
        self.ran: list[Text] = []

    def answer(self, texts: Sequence[Text], encodings: Sequence[Encoding]) -> list[Answer]:
        self.gate.wait(5)
        self.ran += texts
        return super().answer(texts, encodings)


@pytest.fixture
def predictor(model: Path) -> CountingPredictor:
    return CountingPredictor(model)


@asynccontextmanager
async def inference(
    metrics: Metrics | None = None, *, cache_bytes: int = 1 << 20, redis: RedisCache | None = None
) -> AsyncIterator[Inference]:
    metrics = metrics or Metrics()
    one = Inference(metrics, Batcher(metrics, workers=1), AnswerCache(metrics, cache_bytes), redis)
    one.start()
    try:
        yield one
    finally:
        await one.stop()


async def waits() -> MutableMapping[str, Any]:
    """A client that stays."""
    await asyncio.sleep(60)
    return {"type": "http.disconnect"}


async def leaves() -> MutableMapping[str, Any]:
    """A client that goes at once."""
    return {"type": "http.disconnect"}


async def ask(
    one: Inference, predictor: Predictor, *texts: Text, timeout_s: float = 5, receive: Receive = waits
) -> Any:
    return await one.answer(predictor, texts, time.perf_counter() + timeout_s, AsgiClient(receive))


async def test_answers_are_in_order_and_a_known_text_is_not_run_again(predictor: CountingPredictor) -> None:
    metrics = Metrics()
    async with inference(metrics) as one:
        first = await ask(one, predictor, "card", "lost", "card", "money")
        again = await ask(one, predictor, "Lost", "refund")
    assert sorted(map(str, predictor.ran)) == ["card", "lost", "money", "refund"]
    assert first[0] is first[2]
    assert again[0] is first[1]
    for text, answer in zip(("card", "lost", "card", "money"), first, strict=True):
        assert answer.probabilities() == pytest.approx(predictor.predict([text])[0].tolist(), abs=1e-6)
    assert metrics.registry.get_sample_value("retort_cache_total", {"tier": "memory", "found": "hit"}) == 1


async def test_what_many_ask_at_the_same_time_is_run_once(predictor: CountingPredictor) -> None:
    predictor.gate.clear()
    async with inference(cache_bytes=0) as one:
        asking = [asyncio.create_task(ask(one, predictor, "card", f"other {at}")) for at in range(20)]
        await asyncio.sleep(0.05)
        predictor.gate.set()
        answers = await asyncio.gather(*asking)
        assert not one._in_flight
    assert len({id(first) for first, _ in answers}) == 1
    assert predictor.ran.count("card") == 1
    assert len(predictor.ran) == 21


async def test_one_client_that_leaves_takes_nobody_elses_answer_away(predictor: CountingPredictor) -> None:
    predictor.gate.clear()
    async with inference() as one:
        leaving = asyncio.create_task(ask(one, predictor, "card", receive=leaves))
        staying = asyncio.create_task(ask(one, predictor, "card"))
        with pytest.raises(ApiError) as gone:
            await leaving
        predictor.gate.set()
        assert (await staying)[0].prediction["label"] in predictor.labels
    assert gone.value.status == 499


async def test_a_text_whose_only_client_left_is_not_run_and_a_later_one_is_answered(
    predictor: CountingPredictor,
) -> None:
    predictor.gate.clear()
    async with inference() as one:
        busy = asyncio.create_task(ask(one, predictor, "money"))
        await asyncio.sleep(0.05)
        with pytest.raises(ApiError):
            await ask(one, predictor, "card", receive=leaves)
        later = asyncio.create_task(ask(one, predictor, "card"))
        await asyncio.sleep(0.02)
        predictor.gate.set()
        assert isinstance((await later)[0], Answer)
        await busy
    assert predictor.ran == ["money", "card"]


@pytest.mark.parametrize("timeout_s", [0.02, 0.15])
async def test_a_deadline_is_kept_while_the_model_hangs(predictor: CountingPredictor, timeout_s: float) -> None:
    predictor.gate.clear()
    async with inference() as one:
        with pytest.raises(ApiError) as late:
            async with asyncio.timeout(2):
                await ask(one, predictor, "card", timeout_s=timeout_s)
        predictor.gate.set()
    assert (late.value.status, late.value.code) == (503, "deadline_exceeded")


@pytest.mark.parametrize("delay_s", [0.0, 2 * WATCH_AFTER_S], ids=["at once", "late enough to be watched"])
async def test_an_answer_leaves_nothing_to_the_garbage_collector(predictor: CountingPredictor, delay_s: float) -> None:
    """Cycles would stay until a full collection, during which nobody is answered."""
    async with inference() as one:
        await ask(one, predictor, "card")
        gc.collect()
        gc.disable()
        try:
            for round_ in range(4):
                predictor.gate.clear()
                asking = [asyncio.create_task(ask(one, predictor, f"{round_} {at}")) for at in range(10)]
                await asyncio.sleep(delay_s)
                predictor.gate.set()
                await asyncio.gather(*asking)
            del asking
            await asyncio.sleep(0.01)
            num_found = gc.collect()
        finally:
            gc.enable()
    assert num_found < 40


async def test_long_texts_are_tokenised_beside_the_event_loop(predictor: CountingPredictor) -> None:
    threads: list[str] = []
    tokenize = predictor.tokenize

    def seen(texts: Sequence[Text]) -> list[Encoding]:
        threads.append(threading.current_thread().name)
        return tokenize(texts)

    predictor.tokenize = seen  # type: ignore[method-assign]
    async with inference() as one:
        (answer,) = await ask(one, predictor, "card " * 2_000)
    assert isinstance(answer, Answer)
    assert threads[0].startswith("retort-tokenizer")


async def test_a_replica_finds_what_another_answered(model: Path, tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        predictors = [CountingPredictor(model), CountingPredictor(model)]
        for predictor in predictors:
            metrics = Metrics()
            redis = RedisCache(metrics, server.url, ttl_s=60, timeout_s=1)
            async with inference(metrics, redis=redis) as one:
                (answer,) = await ask(one, predictor, "my card")
                assert answer.prediction["label"] in predictor.labels
    assert [predictor.ran for predictor in predictors] == [["my card"], []]
    assert metrics.registry.get_sample_value("retort_cache_total", {"tier": "redis", "found": "hit"}) == 1


async def test_a_redis_that_is_gone_fails_no_request(predictor: CountingPredictor) -> None:
    metrics = Metrics()
    redis = RedisCache(metrics, "redis://127.0.0.1:1/0", ttl_s=60, timeout_s=0.2)
    async with inference(metrics, redis=redis) as one:
        answers = await asyncio.gather(*(ask(one, predictor, f"card {at}") for at in range(50)))
    assert len(answers) == 50
    assert metrics.registry.get_sample_value("retort_redis_errors_total") == 1
