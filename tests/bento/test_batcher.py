"""Micro-batching: answers belong to their requests, whatever else is in the queue."""

import asyncio
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Encoding

from bento.answer import Answer
from bento.batcher import Batcher, DeadlineError, QueueFullError, Waiting
from bento.metrics import Metrics
from bento.predictor import Predictor, Text

pytestmark = pytest.mark.anyio


class GatedPredictor(Predictor):
    """Waits before its first run until the test says so, and refuses texts that hold the word `refund`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.gate = threading.Event()
        self.runs: list[list[Text]] = []

    def answer(self, texts: Sequence[Text], encodings: Sequence[Encoding]) -> list[Answer]:
        self.gate.wait(5)
        if "refund" in texts:
            raise RuntimeError("planted")
        self.runs.append(list(texts))
        return super().answer(texts, encodings)


@pytest.fixture
def gated(model: Path) -> GatedPredictor:
    return GatedPredictor(model)


def submit(batcher: Batcher, predictor: Predictor, texts: Sequence[Text], timeout_s: float = 5.0) -> list[Waiting]:
    deadline = time.perf_counter() + timeout_s
    return batcher.submit(predictor, texts, [predictor.encode(text) for text in texts], deadline=deadline)


async def answers(*waiting: Waiting) -> list[Any]:
    return await asyncio.gather(*(one.answers[0] for one in waiting), return_exceptions=True)


async def held_by(batcher: Batcher, predictor: GatedPredictor) -> Waiting:
    """A text that keeps the worker busy until the gate opens."""
    (first,) = submit(batcher, predictor, ["card"])
    await asyncio.sleep(0.05)
    return first


@pytest.mark.parametrize(("workers", "batch_tokens"), [(1, 1), (1, 64), (3, 64)])
async def test_each_of_many_concurrent_requests_gets_its_own_answer(
    model: Path, workers: int, batch_tokens: int
) -> None:
    predictor = Predictor(model)
    batcher = Batcher(Metrics(), workers=workers, batch_tokens=batch_tokens)
    batcher.start()
    words = ["card", "lost", "money", "transfer", "balance"]
    texts = [" ".join([*words[: 1 + at % 5], words[at % 3]]) for at in range(120)]
    found = await answers(*(one for text in texts for one in submit(batcher, predictor, [text])))
    for text, answer in zip(texts, found, strict=True):
        alone_C = predictor.predict([text])[0]
        np.testing.assert_allclose(answer.probabilities_C, alone_C, atol=0 if batch_tokens == 1 else 1e-6)
        assert answer.prediction["label"] == predictor.labels[alone_C.argmax()]
    await batcher.stop()
    assert batcher.num_queued == 0
    assert batcher.predicted_wait_s() == 0


async def test_the_oldest_runs_with_those_of_similar_length(gated: GatedPredictor) -> None:
    batcher = Batcher(Metrics(), workers=1, batch_tokens=32)
    batcher.start()
    first = await held_by(batcher, gated)
    long = " ".join(["card"] * 12)
    others = submit(batcher, gated, ["my card", long, "lost", "my money", long + " lost"])
    gated.gate.set()
    await answers(first, *others)
    assert gated.runs == [["card"], ["my card", "my money", "lost"], [long, long + " lost"]]
    await batcher.stop()


async def test_a_model_whose_answers_depend_on_the_batch_runs_a_text_at_a_time(gated: GatedPredictor) -> None:
    gated.manifest = gated.manifest.model_copy(update={"lineage": {"scheme": "int8_dynamic"}})
    batcher = Batcher(Metrics(), workers=1)
    batcher.start()
    first = await held_by(batcher, gated)
    others = submit(batcher, gated, ["lost", "money"])
    gated.gate.set()
    await answers(first, *others)
    assert [len(run) for run in gated.runs] == [1, 1, 1]
    await batcher.stop()


async def test_an_error_reaches_only_the_text_that_caused_it(gated: GatedPredictor) -> None:
    batcher = Batcher(Metrics(), workers=1)
    batcher.start()
    first = await held_by(batcher, gated)
    others = submit(batcher, gated, ["lost", "refund", "money"])
    gated.gate.set()
    _, good, bad, also_good = await answers(first, *others)
    assert isinstance(bad, RuntimeError)
    assert isinstance(good, Answer)
    assert isinstance(also_good, Answer)
    await batcher.stop()


async def test_a_full_queue_refuses_and_empties_again(gated: GatedPredictor) -> None:
    metrics = Metrics()
    batcher = Batcher(metrics, workers=1, queue_limit=3)
    batcher.start()
    waiting = [*submit(batcher, gated, ["card", "lost"]), *submit(batcher, gated, ["money"])]
    with pytest.raises(QueueFullError, match=r"3 texts wait, .* the limit is 3"):
        submit(batcher, gated, ["card"])
    gated.gate.set()
    await answers(*waiting)
    assert isinstance((await answers(*submit(batcher, gated, ["card"])))[0], Answer)
    assert metrics.registry.get_sample_value("retort_rejected_total") == 1
    await batcher.stop()


async def test_what_would_be_late_is_refused_at_once_and_what_has_more_time_is_not(gated: GatedPredictor) -> None:
    batcher = Batcher(Metrics(), workers=1)
    batcher.start()
    first = await held_by(batcher, gated)
    backlog = submit(batcher, gated, ["card lost"] * 50)
    wait_s = batcher.predicted_wait_s()
    assert wait_s > 0
    with pytest.raises(QueueFullError, match="the request has"):
        submit(batcher, gated, ["money"], timeout_s=wait_s / 2)
    patient = submit(batcher, gated, ["money"], timeout_s=wait_s * 100)
    gated.gate.set()
    found = await answers(first, *backlog, *patient)
    assert all(isinstance(answer, Answer) for answer in found)
    await batcher.stop()


async def test_the_predicted_wait_follows_how_long_runs_take(gated: GatedPredictor) -> None:
    batcher = Batcher(Metrics(), workers=1, batch_tokens=1)
    batcher.start()
    gated.gate.set()
    slow = gated.answer

    def late(texts: Sequence[Text], encodings: Sequence[Encoding]) -> list[Answer]:
        time.sleep(0.02)
        return slow(texts, encodings)

    gated.answer = late  # type: ignore[method-assign]
    await answers(*submit(batcher, gated, ["card"] * 60))
    waiting = submit(batcher, gated, ["card"] * 10)
    predicted_s, started = batcher.predicted_wait_s(), time.perf_counter()
    await answers(*waiting)
    taken_s = time.perf_counter() - started
    assert taken_s / 2 < predicted_s < taken_s * 2
    await batcher.stop()


async def test_what_nobody_waits_for_is_not_computed(gated: GatedPredictor) -> None:
    batcher = Batcher(Metrics(), workers=1, batch_tokens=1)
    batcher.start()
    first = await held_by(batcher, gated)
    (gone, shared, kept) = submit(batcher, gated, ["money", "balance", "lost"])
    joined = shared.join(time.perf_counter() + 5)
    gone.answers[0].cancel()
    shared.answers[0].cancel()
    gated.gate.set()
    await answers(first, kept)
    assert isinstance(await joined, Answer)
    assert gated.runs == [["card"], ["balance"], ["lost"]]
    await batcher.stop()
    assert batcher.num_queued == 0


async def test_what_has_passed_its_deadline_in_the_queue_is_not_computed(gated: GatedPredictor) -> None:
    batcher = Batcher(Metrics(), workers=1, batch_tokens=1)
    batcher.start()
    first = await held_by(batcher, gated)
    (late,) = submit(batcher, gated, ["money"], timeout_s=0.02)
    await asyncio.sleep(0.05)
    gated.gate.set()
    found = await answers(first, late)
    assert isinstance(found[1], DeadlineError)
    assert gated.runs == [["card"]]
    await batcher.stop()


async def test_stopping_answers_what_waits(gated: GatedPredictor) -> None:
    batcher = Batcher(Metrics(), workers=2)
    batcher.start()
    waiting = submit(batcher, gated, ["card", "lost", "money"])
    gated.gate.set()
    await batcher.stop()
    assert all(isinstance(answer, Answer) for answer in await answers(*waiting))


@pytest.mark.parametrize(("processes", "expected"), [(1, 4), (2, 2), (8, 1)])
async def test_processes_share_the_runs_that_the_manifest_wants(
    gated: GatedPredictor, processes: int, expected: int
) -> None:
    gated.__dict__["serving"] = gated.serving.model_copy(update={"workers": 4})
    gated.gate.set()
    batcher = Batcher(Metrics(), processes=processes)
    batcher.start()
    await answers(*submit(batcher, gated, ["card", "lost"]))
    assert len(batcher._threads) == expected
    await batcher.stop()


async def test_a_run_holds_texts_of_one_model(model: Path, gated: GatedPredictor) -> None:
    other = GatedPredictor(model)
    other.gate.set()
    batcher = Batcher(Metrics(), workers=1)
    batcher.start()
    first = await held_by(batcher, gated)
    waiting = [
        *submit(batcher, gated, ["lost"]),
        *submit(batcher, other, ["money"]),
        *submit(batcher, gated, ["balance"]),
    ]
    gated.gate.set()
    await answers(first, *waiting)
    assert gated.runs == [["card"], ["lost", "balance"]]
    assert other.runs == [["money"]]
    await batcher.stop()
