"""The benchmarks behind `retort bench`: every figure with the baseline that it was measured against in the same run."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bento.errors import UserError
from flows.chain import make_candidate
from flows.config import Config
from tasks.evaluate import read_predictions
from tasks.store import Step

NUM_REQUESTS = 1_000
NUM_REFERENCE, NUM_WINDOW, NUM_COMPONENTS = 2_000, 1_000, 32
NUM_PERMUTATIONS = 9_999


def _row(
    metric: str, value: float, unit: str, against: str = "", ratio: float | None = None, target: str = "",
    met: bool | None = None,
) -> dict[str, Any]:  # fmt: skip
    return {
        "metric": metric, "value": value, "unit": unit, "against": against, "ratio": ratio, "target": target, "met": met
    }  # fmt: skip


def bench_compress(chosen: Config) -> dict[str, Any]:
    """Candidate against teacher: latency, throughput, size and accuracy, all from one interleaved evaluation."""
    built = make_candidate(chosen, None, stage=_plain)
    teacher, candidate, floor = (built.scores[name] for name in ("teacher", "candidate", "floor"))
    faster = teacher.latency_ms_p50 / candidate.latency_ms_p50
    size_mb = candidate.size_bytes / 1e6
    agreement = float(
        (
            read_predictions(built.evaluation.path, "teacher").probabilities_NC.argmax(axis=1)
            == read_predictions(built.evaluation.path, built.chain[-1]).probabilities_NC.argmax(axis=1)
        ).mean()
    )
    rows = [
        _row("one sentence, p50", candidate.latency_ms_p50, "ms", "teacher, PyTorch eager", faster, ">= 8",
             faster >= 8),
        _row("one sentence, p95", candidate.latency_ms_p95, "ms", "teacher, PyTorch eager",
             teacher.latency_ms_p95 / candidate.latency_ms_p95),
        _row("batches of 32", candidate.throughput_per_s, "sentences/s", "teacher, PyTorch eager",
             candidate.throughput_per_s / teacher.throughput_per_s),
        _row("model folder", size_mb, "MB", "teacher's weights", teacher.size_bytes / candidate.size_bytes, "<= 20 MB",
             size_mb <= 20),
        _row("accuracy", candidate.accuracy.value, "", "teacher", candidate.accuracy.value / teacher.accuracy.value),
        _row("accuracy of the teacher", teacher.accuracy.value, "", "TF-IDF floor",
             teacher.accuracy.value / floor.accuracy.value),
        _row("same answer as the teacher", agreement, ""),
    ]  # fmt: skip
    return {"title": f"Compression of {chosen.name}", "rows": rows, "stages": _stages(built.steps)}


def bench_serve(chosen: Config) -> dict[str, Any]:
    """The champion's Bento, started for this: readiness, memory, and HTTP against the predictor in this process."""
    import httpx
    import psutil

    from bento.predictor import Predictor
    from tasks.data import read_split
    from tasks.monitor.traffic import watch
    from tasks.release.boot import serving
    from tasks.release.ledger import read_champion
    from tasks.release.package import Package

    champion = read_champion(chosen.name)
    if champion is None:
        raise UserError(f"bench serve: {chosen.name} has no champion; `retort run CONFIG` makes one")
    watched = watch(chosen.name, champion.model_path, champion.model_sha256)
    texts = [text for text in read_split(watched.data.path, "test").texts if isinstance(text, str)]
    predictor = Predictor(champion.model_path)
    package = Package(bento=champion.bento, path=champion.model_path.parent.parent, model_path=champion.model_path)
    with serving(package, chosen.name) as (url, ready_s), httpx.Client(base_url=url) as client:
        calls: dict[str, Callable[[str], Any]] = {
            "http": lambda text: client.post("/predict", json={"text": text}).raise_for_status(),
            "inside": lambda text: predictor.predict([text]),
        }
        latency_ms = _paired(calls, texts)
        served = [p for p in psutil.Process().children(recursive=True) if "bentoml" in " ".join(p.cmdline())]
        served += [child for process in served for child in process.children(recursive=True)]
        rss_mb = sum(process.memory_info().rss for process in set(served)) / 1e6
    http, inside = (float(np.median(latency_ms[name])) for name in ("http", "inside"))
    p95 = float(np.quantile(latency_ms["http"], 0.95))
    rows = [
        _row("ready", ready_s, "s", target="<= 5 s", met=ready_s <= 5),
        _row("resident, all processes", rss_mb, "MB", target="<= 400 MB", met=rss_mb <= 400),
        _row("one sentence over HTTP, p50", http, "ms", "predictor in process", http / inside),
        _row("one sentence over HTTP, p95", p95, "ms", "predictor in process",
             p95 / float(np.quantile(latency_ms["inside"], 0.95))),
    ]  # fmt: skip
    return {"title": f"Serving of {chosen.name}", "rows": rows}


def bench_drift(chosen: Config) -> dict[str, Any]:
    """Time of one look, and its answers on synthetic embeddings without and with a shift."""
    from tasks.stats.two_sample import mmd_test

    rng = np.random.default_rng(0)

    def look(shift: float) -> tuple[float, float]:
        window = rng.normal(shift, 1, size=(NUM_WINDOW, NUM_COMPONENTS))
        reference = rng.normal(0, 1, size=(NUM_REFERENCE, NUM_COMPONENTS))
        start = time.perf_counter()
        found = mmd_test(window, reference, num_permutations=NUM_PERMUTATIONS, rng=rng)
        return time.perf_counter() - start, found.p_value

    seconds, p_same = look(0.0)
    _, p_moved = look(0.2)
    rows = [
        _row("one look, 2,000 against 1,000, 9,999 permutations", seconds, "s", target="<= 5 s", met=seconds <= 5),
        _row("p without a shift", p_same, ""),
        _row("p with a shift of 0.2", p_moved, "", "without", p_moved / p_same),
    ]
    return {"title": f"Drift tests, as {chosen.name} runs them", "rows": rows}


def _plain(_name: str, function: Callable[..., Step]) -> Callable[..., Step]:
    return function


def _paired(calls: Mapping[str, Callable[[str], Any]], texts: list[str]) -> dict[str, list[float]]:
    """Milliseconds of each call on the same texts in turn."""
    latency_ms: dict[str, list[float]] = {name: [] for name in calls}
    for at in range(NUM_REQUESTS):
        for name, call in calls.items():
            start = time.perf_counter()
            call(texts[at % len(texts)])
            latency_ms[name].append((time.perf_counter() - start) * 1e3)
    return {name: values[NUM_REQUESTS // 10 :] for name, values in latency_ms.items()}


def _stages(steps: tuple[Step, ...]) -> list[dict[str, Any]]:
    return [{"name": step.name, "cached": step.cached, "seconds": step.seconds} for step in steps]


BENCHMARKS: dict[str, Callable[[Config], dict[str, Any]]] = {
    "compress": bench_compress,
    "serve": bench_serve,
    "drift": bench_drift,
}
