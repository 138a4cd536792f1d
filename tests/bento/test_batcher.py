"""Micro-batching: answers belong to their requests, whatever else is in the queue."""

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Encoding

from bento.batcher import Batcher, Job, QueueFullError, plan_runs
from bento.metrics import Metrics
from bento.predictor import Predictor, Text
from bento.task_types import Floats

pytestmark = pytest.mark.anyio


class GatedPredictor(Predictor):
    """Waits before its first run until the test says so, and refuses texts that hold the word `refund`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.gate = threading.Event()
        self.num_rows: list[int] = []

    def logits(self, texts: Sequence[Text], encodings: Sequence[Encoding]) -> Floats:
        self.gate.wait(5)
        if any("refund" in encoding.tokens for encoding in encodings):
            raise RuntimeError("planted")
        self.num_rows.append(len(encodings))
        return super().logits(texts, encodings)


@pytest.fixture
def gated(model: Path) -> GatedPredictor:
    return GatedPredictor(model)


@pytest.mark.parametrize("max_batch", [1, 4])
async def test_each_of_many_concurrent_requests_gets_its_own_answer(model: Path, max_batch: int) -> None:
    predictor = Predictor(model)
    batcher = Batcher(Metrics(), max_batch=max_batch)
    batcher.start()
    words = ["card", "lost", "money", "transfer", "balance"]
    requests = [[" ".join(words[: 1 + index % 5]), words[index % 5]] for index in range(60)]
    answers = await asyncio.gather(*(batcher.submit(predictor, texts) for texts in requests))
    for texts, probabilities_NC in zip(requests, answers, strict=True):
        alone_NC = np.concatenate([predictor.predict([text]) for text in texts])
        np.testing.assert_allclose(probabilities_NC, alone_NC, atol=0 if max_batch == 1 else 1e-6)
    await batcher.stop()
    assert batcher.num_queued == 0


async def test_what_waits_is_run_together_by_equal_length_within_max_batch(gated: GatedPredictor) -> None:
    batcher = Batcher(Metrics(), max_batch=3)
    batcher.start()
    first = batcher.submit(gated, ["card"])
    await asyncio.sleep(0.05)
    others = [batcher.submit(gated, [text]) for text in ("card", "my card", "money", "lost", "help", "my money")]
    gated.gate.set()
    await asyncio.gather(first, *others)
    assert gated.num_rows == [1, 3, 1, 2]
    await batcher.stop()


async def test_an_error_reaches_only_the_request_that_caused_it(gated: GatedPredictor) -> None:
    batcher = Batcher(Metrics(), max_batch=8)
    batcher.start()
    answers = [batcher.submit(gated, [text]) for text in ("card", "refund", "money")]
    gated.gate.set()
    good, bad, also_good = await asyncio.gather(*answers, return_exceptions=True)
    assert isinstance(bad, RuntimeError)
    assert isinstance(good, np.ndarray)
    assert isinstance(also_good, np.ndarray)
    await batcher.stop()


async def test_a_text_that_the_tokenizer_refuses_fails_alone(model: Path) -> None:
    predictor = Predictor(model)
    batcher = Batcher(Metrics())
    batcher.start()
    bad = batcher.submit(predictor, [None])  # type: ignore[list-item]
    good = batcher.submit(predictor, ["card"])
    with pytest.raises(TypeError):
        await bad
    assert (await good).shape == (1, 3)
    await batcher.stop()


async def test_a_full_queue_refuses_and_empties_again(gated: GatedPredictor) -> None:
    metrics = Metrics()
    batcher = Batcher(metrics, queue_limit=3)
    batcher.start()
    waiting = [batcher.submit(gated, ["card", "card"]), batcher.submit(gated, ["card"])]
    with pytest.raises(QueueFullError, match="3 texts wait and the limit is 3"):
        batcher.submit(gated, ["card"])
    gated.gate.set()
    await asyncio.gather(*waiting)
    assert (await batcher.submit(gated, ["card"])).shape == (1, 3)
    assert metrics.registry.get_sample_value("retort_rejected_total") == 1
    await batcher.stop()


async def test_a_cancelled_request_is_not_computed(gated: GatedPredictor) -> None:
    batcher = Batcher(Metrics())
    batcher.start()
    first = batcher.submit(gated, ["card"])
    await asyncio.sleep(0.05)
    gone, kept = batcher.submit(gated, ["money", "money"]), batcher.submit(gated, ["lost"])
    gone.cancel()
    gated.gate.set()
    await asyncio.gather(first, kept)
    assert gated.num_rows == [1, 1]
    await batcher.stop()
    assert batcher.num_queued == 0


async def test_stopping_answers_what_waits(gated: GatedPredictor) -> None:
    batcher = Batcher(Metrics())
    batcher.start()
    answers = [batcher.submit(gated, ["card"]) for _ in range(5)]
    gated.gate.set()
    await batcher.stop()
    assert len(await asyncio.gather(*answers)) == 5


async def test_runs_hold_one_predictor_and_one_length(model: Path) -> None:
    first, second = Predictor(model), Predictor(model)
    loop = asyncio.get_running_loop()
    jobs = [
        Job(first, ["card", "my card"], loop.create_future()),
        Job(second, ["money", "lost"], loop.create_future()),
        Job(first, ["help"], loop.create_future()),
    ]
    for job in jobs:
        job.tokenize()
    runs = list(plan_runs(jobs, 8))
    assert sorted(len(run) for run in runs) == [1, 2, 2]
    assert all(len({(row.job.predictor, row.num_tokens) for row in run}) == 1 for run in runs)
