"""The benchmarks behind `retort bench`: every figure with the baseline that it was measured against in the same run."""

import logging
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from bento.predictor import Predictor
from flows.chain import Built, make_candidate
from flows.config import Config
from flows.peers import Missing, Peer, load_peers, predict_with
from tasks.data import read_split
from tasks.evaluate import Answer, interleaved, read_class_predictions, sample, throughput
from tasks.gate import GateConfig, MarginGate, judge
from tasks.store import Step
from tasks.types import Artifact

log = logging.getLogger("retort.bench")

NUM_BATCH_ROUNDS = 3
FASTER = {"PyTorch eager": 25.0, "optimum int8": 3.0}
SMALLER = {"optimum int8": 5.0}
NO_LESS_ACCURATE_THAN = ("optimum int8",)
FOLDER_MB = 4.5
MARGIN = 0.01
INT8_SAVED, INT8_KEPT = 74.0, 99.0  # per cent


def row(
    metric: str, value: float | None, unit: str, against: str = "", ratio: float | None = None, target: str = "",
    met: bool | None = None,
) -> dict[str, Any]:  # fmt: skip
    """One figure of a benchmark, what it is compared with, and whether it meets its target."""
    return {
        "metric": metric, "value": value, "unit": unit, "against": against, "ratio": ratio, "target": target, "met": met
    }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One model in one run of the benchmark."""

    name: str
    version: str
    size_bytes: int
    accuracy: float
    latency_ms_p50: float
    """One sentence at a time."""
    latency_ms_p95: float
    throughput_per_s: float
    """Sentences per second in batches of 32."""

    @property
    def title(self) -> str:
        return f"{self.name} {self.version}".strip()


def bench_compress(chosen: Config) -> dict[str, Any]:
    """The candidate against its teacher as PyTorch, ONNX Runtime, optimum and OpenVINO run it, on the test split.

    All take turns in this run; a repeat finds everything but the timings in the store. Two threads of PyTorch lose
    more than the rest where other processes want the cores, so the machine's load is told.
    """
    load = os.getloadavg()[0]
    built = make_candidate(chosen, None, stage=plain)
    teacher = _artifact(built, "teacher")
    predictor = Predictor(built.model.path)
    peers = load_peers(teacher, built.data, max_tokens=predictor.manifest.max_tokens)
    present = [peer for peer in peers if isinstance(peer, Peer)]
    ours, *theirs = _measure(built, predictor, present, chosen.teacher.seed)
    rows: list[dict[str, Any]] = []
    for rows_of in (_latency_rows, _batch_rows, _size_rows, _accuracy_rows):
        rows += rows_of(ours, theirs)
    rows += [_missing_row(peer) for peer in peers if isinstance(peer, Missing)]
    rows += [_non_inferior_row(built), *_int8_rows(built), *_teacher_rows(built)]
    rows.append(row("load of the machine before this run", load, "processes", target="<= 0.5", met=load <= 0.5))
    measured = [asdict(model) for model in (ours, *theirs)]
    return {
        "title": f"Compression of {chosen.name}", "rows": rows, "models": measured, "stages": _stages(built.steps)
    }  # fmt: skip


def _missing_row(peer: Missing) -> dict[str, Any]:
    return row(peer.name, None, "", f"not installed; pip install {' '.join(peer.packages)}")


def _measure(built: Built, predictor: Predictor, peers: list[Peer], seed: int) -> list[Measured]:
    """The candidate first, then the peers."""
    test = read_split(built.data.path, "test")
    answers: dict[str, Answer] = {"candidate": predictor.predict} | {peer.name: peer.answer for peer in peers}
    sentences = sample(test, seed)
    for answer in answers.values():
        for sentence in sentences:
            answer([sentence])  # a runtime may compile for each length that it meets first
    latency_ms = interleaved(answers, sentences)
    batched = answers | {"candidate": partial(predictor.predict, batch_size=32)}
    per_s = [{name: throughput(answer, test) for name, answer in batched.items()} for _ in range(NUM_BATCH_ROUNDS)]
    ours = built.scores["candidate"]
    about = {"candidate": ("", ours.size_bytes, ours.metrics["accuracy"].value)}
    for peer in peers:
        predictions = predict_with(peer, built.data, max_tokens=predictor.manifest.max_tokens)
        about[peer.name] = (peer.version, peer.size_bytes, float(predictions.correct_N.mean()))
    return [
        Measured(
            name=name, version=version, size_bytes=size_bytes, accuracy=accuracy,
            latency_ms_p50=float(np.median(latency_ms[name])),
            latency_ms_p95=float(np.quantile(latency_ms[name], 0.95)),
            throughput_per_s=float(np.median([round_[name] for round_ in per_s])),
        )
        for name, (version, size_bytes, accuracy) in about.items()
    ]  # fmt: skip


def _latency_rows(ours: Measured, theirs: list[Measured]) -> list[dict[str, Any]]:
    rows = []
    for peer in theirs:
        faster = peer.latency_ms_p50 / ours.latency_ms_p50
        wanted = FASTER.get(peer.name)
        rows.append(
            row("one sentence, p50", ours.latency_ms_p50, "ms", f"{peer.title}: {peer.latency_ms_p50:.3g} ms", faster,
                 *_at_least(faster, wanted, "{:g} times"))
        )  # fmt: skip
    for peer in theirs:
        rows.append(
            row("one sentence, p95", ours.latency_ms_p95, "ms", f"{peer.title}: {peer.latency_ms_p95:.3g} ms",
                 peer.latency_ms_p95 / ours.latency_ms_p95)
        )  # fmt: skip
    return rows


def _batch_rows(ours: Measured, theirs: list[Measured]) -> list[dict[str, Any]]:
    return [
        row("batches of 32", ours.throughput_per_s, "sentences/s", f"{peer.title}: {peer.throughput_per_s:,.0f}/s",
             ours.throughput_per_s / peer.throughput_per_s)
        for peer in theirs
    ]  # fmt: skip


def _size_rows(ours: Measured, theirs: list[Measured]) -> list[dict[str, Any]]:
    size_mb = ours.size_bytes / 1e6
    rows = [row("model folder", size_mb, "MB", target=f"<= {FOLDER_MB} MB", met=size_mb <= FOLDER_MB)]
    for peer in theirs:
        smaller = peer.size_bytes / ours.size_bytes
        rows.append(
            row("model folder", size_mb, "MB", f"{peer.title}: {peer.size_bytes / 1e6:.3g} MB", smaller,
                 *_at_least(smaller, SMALLER.get(peer.name), "{:g} times"))
        )  # fmt: skip
    return rows


def _accuracy_rows(ours: Measured, theirs: list[Measured]) -> list[dict[str, Any]]:
    rows = []
    for peer in theirs:
        asked = peer.name in NO_LESS_ACCURATE_THAN
        rows.append(
            row("accuracy", ours.accuracy, "", f"{peer.title}: {peer.accuracy:.4f}", ours.accuracy / peer.accuracy,
                 "no lower" if asked else "", ours.accuracy >= peer.accuracy if asked else None)
        )  # fmt: skip
    return rows


def _non_inferior_row(built: Built) -> dict[str, Any]:
    """Tango's test at one point, whatever margin the config's gate has; only a pass meets the target."""
    candidate = read_class_predictions(built.evaluation.path, built.chain[-1])
    teacher = read_class_predictions(built.evaluation.path, "teacher")
    rule = GateConfig(accuracy=MarginGate(margin=MARGIN))
    (verdict,) = judge(candidate, teacher, reference_name="teacher", config=rule)
    return row(
        "accuracy less the teacher's", 100 * verdict.observed, "points", f"{verdict.outcome}: {verdict.reason}",
        target="pass: non-inferior at 1 point", met=verdict.outcome == "pass",
    )  # fmt: skip


def _int8_rows(built: Built) -> list[dict[str, Any]]:
    """What the quantize step alone did to what the export step gave it, where the chain has both."""
    if not {"export", "quantize"} <= built.scores.keys():
        return []
    before, after = built.scores["export"], built.scores["quantize"]
    saved = 100 * (1 - after.size_bytes / before.size_bytes)
    float_accuracy, accuracy = (each.metrics["accuracy"].value for each in (before, after))
    kept = 100 * accuracy / float_accuracy
    return [
        row("int8 alone: folder saved", saved, "%", f"export: {before.size_bytes / 1e6:.3g} MB",
             before.size_bytes / after.size_bytes, *_at_least(saved, INT8_SAVED, "{:g} %")),
        row("int8 alone: accuracy kept", kept, "%", f"export: {float_accuracy:.4f}",
             accuracy / float_accuracy, *_at_least(kept, INT8_KEPT, "{:g} %")),
    ]  # fmt: skip


def _teacher_rows(built: Built) -> list[dict[str, Any]]:
    teacher, floor = (built.scores[name].metrics["accuracy"].value for name in ("teacher", "floor"))
    same = _predicted(built, "teacher") == _predicted(built, built.chain[-1])
    return [
        row("accuracy of the teacher", teacher, "", f"TF-IDF floor: {floor:.4f}", teacher / floor),
        row("same answer as the teacher", float(same.mean()), ""),
    ]  # fmt: skip


def _predicted(built: Built, name: str) -> Any:
    return read_class_predictions(built.evaluation.path, name).probabilities_NC.argmax(axis=1)


def _at_least(value: float, wanted: float | None, pattern: str) -> tuple[str, bool | None]:
    """Target and whether it is met; neither where nothing is asked."""
    return ("", None) if wanted is None else (f">= {pattern.format(wanted)}", value >= wanted)


def _artifact(built: Built, name: str) -> Artifact:
    """What the stage of this name made."""
    return next(step.artifact for step in built.steps if step.name == name)


def plain(name: str, function: Callable[..., Step]) -> Callable[..., Step]:
    """A stage outside of Prefect, which says that it begins."""

    def run(*arguments: Any, **settings: Any) -> Step:
        log.info("%s", name)
        return function(*arguments, **settings)

    return run


def _stages(steps: tuple[Step, ...]) -> list[dict[str, Any]]:
    return [{"name": step.name, "cached": step.cached, "seconds": step.seconds} for step in steps]


def _attention(chosen: Config) -> dict[str, Any]:
    from flows.bench_attention import bench_attention

    return bench_attention(chosen)


def _geometry(chosen: Config) -> dict[str, Any]:
    from flows.bench_geometry import bench_geometry

    return bench_geometry(chosen)


def _training(chosen: Config) -> dict[str, Any]:
    from flows.bench_training import bench_training

    return bench_training(chosen)


def _techniques(chosen: Config) -> dict[str, Any]:
    from flows.bench_techniques import bench_techniques

    return bench_techniques(chosen)


def _serve(chosen: Config, **settings: Any) -> dict[str, Any]:
    from flows.bench_serve.run import bench_serve

    return bench_serve(chosen, **settings)


def _drift(chosen: Config, **settings: Any) -> dict[str, Any]:
    from flows.bench_drift.run import bench_drift

    return bench_drift(chosen, **settings)


def _gate(chosen: Config) -> dict[str, Any]:
    from flows.bench_gate import bench_gate

    return bench_gate(chosen)


def _experiment(chosen: Config) -> dict[str, Any]:
    from flows.bench_experiment import bench_experiment

    return bench_experiment(chosen)


BENCHMARKS: dict[str, Callable[..., dict[str, Any]]] = {
    "compress": bench_compress,
    "serve": _serve,
    "drift": _drift,
    "gate": _gate,
    "attention": _attention,
    "geometry": _geometry,
    "experiment": _experiment,
}
PARTS_OF_COMPRESS: dict[str, Callable[..., dict[str, Any]]] = {"training": _training, "techniques": _techniques}
"""Those that `bench compress` runs in place of its own, when asked."""
