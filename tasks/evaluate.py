"""Evaluation: what teacher, candidate, floor and champion do on the test split.

Answers come through `bento.predictor` only (the teacher's through its ONNX export, whose parity is checked). The
teacher's size and latency are those of PyTorch eager, which is what it would be served as without Retort.

Shapes: N rows, C classes.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bento.entities import entity_types
from bento.errors import UserError
from bento.manifest import Manifest, folder_size_bytes
from bento.predictor import Predictor
from bento.task_types import Target, sigmoid, softmax
from tasks.architecture import load_classifier
from tasks.data import FRESH, read_labels, read_split, read_target
from tasks.data.truths import write_entities
from tasks.floor import fit_task_floor
from tasks.metrics import metric_intervals
from tasks.stats.multi_label import best_threshold
from tasks.store import Step, run_step
from tasks.task_types import SingleLabel, task_type
from tasks.training import model_inputs
from tasks.types import (
    SPLITS,
    AnyPredictions,
    Artifact,
    EntityPredictions,
    Interval,
    Predictions,
    Scores,
    SigmoidPredictions,
    Split,
)

Answer = Callable[[Sequence[Any]], Any]


class Classifier(Protocol):
    """What answers: a `Predictor`, or a torch model run eagerly."""

    labels: tuple[str, ...]
    """Class names in the order of its outputs."""

    def predict(self, texts: Sequence[Any], *, batch_size: int = 1) -> Any:
        """probabilities_NC in the order of the texts."""


NUM_TIMED = 200
NUM_WARMUP = 3
BLOCK = 20  # sentences that one model answers before the other's turn
CHUNK = 512  # rows of entities whose words are in memory at a time
PAUSE_S = 0.02  # lets the other runtime's spinning threads go to sleep
WEIGHT_FILES = ("*.safetensors", "*.bin")


def evaluate(*, data: Artifact, teacher: Artifact, models: Mapping[str, Artifact], seed: int) -> Step:
    """Predict and time everything on the test split.

    `models` are ONNX artifacts by name; `teacher` (the torch folder) is timed against the last of them, the candidate.
    """
    return run_step(
        "evaluate",
        kind="scores",
        inputs=(data, teacher, *models.values()),
        config={"models": list(models), "seed": seed},
        code="tasks.evaluate",
        make=lambda out, work: _evaluate(data.path, teacher.path, {k: v.path for k, v in models.items()}, seed, out),
    )


def evaluate_champion(*, data: Artifact, folder: Path, sha256: str) -> Step:
    """The serving champion's answers on this test split."""
    return _answer_split("evaluate_champion", "test", "champion", data=data, folder=folder, sha256=sha256)


def evaluate_fresh(name: str, *, data: Artifact, folder: Path, sha256: str) -> Step:
    """The answers of one model, stored under `name`, on the fresh holdout of a retrain."""
    return _answer_split(f"evaluate_fresh_{name}", FRESH, name, data=data, folder=folder, sha256=sha256)


def _answer_split(step: str, split: str, name: str, *, data: Artifact, folder: Path, sha256: str) -> Step:
    def make(out: Path, work: Path) -> None:
        labels, rows, target = read_labels(data.path), read_split(data.path, split), read_target(data.path)
        write_predictions(out, name, predict_task(Predictor(folder), rows, labels, target))

    return run_step(step, kind="scores", inputs=(data, sha256), config={}, code="tasks.evaluate", make=make)


def predict(predictor: Classifier, split: Split, labels: Sequence[str], *, batch_size: int = 1) -> Predictions:
    """Answers of a model, its classes put in the order of `labels`.

    One text a run is how the service answers; float models answer the same in larger batches, only sooner. A class that
    the model does not know has probability 0; one that `labels` does not have is dropped.
    """
    return Predictions(
        ids=split.ids,
        probabilities_NC=_in_order(predictor, split, labels, batch_size),
        labels_N=SingleLabel().targets(split, tuple(labels)),
        latency_ms_N=np.empty(0),
    )


def predict_task(
    predictor: Predictor, split: Split, labels: tuple[str, ...], target: Target, *, batch_size: int = 1
) -> AnyPredictions:
    """Answers of a model for data of any task; `target` is the data's. Raises: UserError for a model of another."""
    own = predictor.manifest.target
    if own.task != target.task:
        raise UserError(
            f"{predictor.manifest.name}: expected a {target.task} model, as the data is, got {own.task}; "
            "give the build another name, so that it has no champion of another task"
        )
    if target.task == "entities":
        return _predict_entities(predictor, split, labels, batch_size)
    if target.task == "single_label":
        return predict(predictor, split, labels, batch_size=batch_size)
    if target.task == "score":  # the model may have another name for it, and another range
        own_N1 = predictor.predict(list(split.texts), batch_size=batch_size)
        probabilities_NC = target.share(own.score(own_N1)).astype(np.float32)
    else:
        probabilities_NC = _in_order(predictor, split, labels, batch_size)
    return SigmoidPredictions(
        ids=split.ids,
        task=target.task,
        probabilities_NC=probabilities_NC,
        truth_NC=task_type(target).targets(split, labels),
        threshold=predictor.manifest.threshold,
        latency_ms_N=np.empty(0),
    )


def _predict_entities(
    predictor: Predictor, split: Split, labels: tuple[str, ...], batch_size: int
) -> EntityPredictions:
    """Those of types that the data does not have are dropped; a few hundred rows at a time, for a text has an answer of
    as many words as there can be tokens."""
    types = entity_types(labels)
    found: list[list[dict[str, Any]]] = []
    for at in range(0, len(split), CHUNK):
        texts = split.texts[at : at + CHUNK]
        answers = predictor.answers(texts, predictor.predict(texts, batch_size=batch_size))["entities"]
        found += [[one for one in row if one["label"] in types] for row in answers]
    return EntityPredictions(
        ids=split.ids,
        types=tuple(types),
        answers=tuple(write_entities([(one["start"], one["end"], one["label"]) for one in row]) for row in found),
        truth=split.labels,
        latency_ms_N=np.empty(0),
        confidences=tuple(json.dumps([one["score"] for one in row]) for row in found),
    )


def _in_order(classifier: Classifier, split: Split, labels: Sequence[str], batch_size: int) -> Any:
    """probabilities_NC with a column a label, 0 where the model does not know it."""
    own_NC = classifier.predict(list(split.texts), batch_size=batch_size)
    column = {label: at for at, label in enumerate(classifier.labels)}
    probabilities_NC = np.zeros((len(split), len(labels)), dtype=np.float32)
    for at, label in enumerate(labels):
        if label in column:
            probabilities_NC[:, at] = own_NC[:, column[label]]
    return probabilities_NC


def is_calibrated(manifest: Manifest) -> bool:
    """Whether the model is the chain's last, whose temperature and thresholds are fitted."""
    return "uncalibrated" in manifest.lineage


def with_threshold(predictor: Predictor, validation: Split, target: Target) -> Predictor:
    """The model answering label sets from the threshold that suits it, as the calibrated candidate does: the models
    are compared by what they know, not by how high their probabilities are."""
    logits_NC = predictor.predict_logits(validation.texts, batch_size=evaluation_batch(predictor.manifest))
    truth_NC = task_type(target).targets(validation, predictor.labels)
    threshold = best_threshold(sigmoid(logits_NC), truth_NC)
    predictor.manifest = predictor.manifest.model_copy(update={"threshold": threshold})
    return predictor


def evaluation_batch(manifest: Manifest) -> int:
    """Texts a run: as many as is fast, or one where a text's answer depends on the others in its batch."""
    return 32 if manifest.batch_invariant else 1


def score(predictions: AnyPredictions, *, size_bytes: int, throughput_per_s: float, seed: int = 0) -> Scores:
    """The task's metrics with 95 % bootstrap intervals, and the latency quantiles."""
    latencies = predictions.latency_ms_N
    return Scores(
        metrics=metric_intervals(predictions, np.random.default_rng(seed)),
        num_rows=len(predictions.ids),
        size_bytes=size_bytes,
        latency_ms_p50=float(np.quantile(latencies, 0.5)) if len(latencies) else float("nan"),
        latency_ms_p95=float(np.quantile(latencies, 0.95)) if len(latencies) else float("nan"),
        throughput_per_s=throughput_per_s,
    )


def write_predictions(folder: Path, name: str, predictions: AnyPredictions) -> None:
    """Store as `NAME.npz`, plain arrays only."""
    arrays = {field.name: np.asarray(getattr(predictions, field.name)) for field in fields(predictions)}
    np.savez_compressed(folder / f"{name}.npz", allow_pickle=False, **arrays)


def read_predictions(folder: Path, name: str) -> AnyPredictions:
    """What `write_predictions` stored."""
    with np.load(folder / f"{name}.npz", allow_pickle=False) as stored:
        values: dict[str, Any] = dict(stored)
    values["ids"] = tuple(values["ids"].tolist())
    if "answers" in values:
        texts = {name: tuple(values[name].tolist()) for name in ("types", "answers", "truth", "confidences")}
        return EntityPredictions(**(values | texts))
    if "task" not in values:
        return Predictions(**values)
    return SigmoidPredictions(**(values | {name: values[name].item() for name in ("task", "threshold")}))


def read_class_predictions(folder: Path, name: str) -> Predictions:
    """What `write_predictions` stored of a single_label model. Raises: UserError for another task."""
    found = read_predictions(folder, name)
    if not isinstance(found, Predictions):
        raise UserError(f"expected the answers of a single_label model, got {found.task}; this works for classes only")
    return found


def read_scores(folder: Path) -> dict[str, Scores]:
    """Scores by model name: teacher, each ONNX step, candidate (the last of them), floor."""
    found = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    return {name: _scores_from(values) for name, values in found.items()}


def _scores_from(values: dict[str, Any]) -> Scores:
    metrics = {name: Interval(**found) for name, found in values["metrics"].items()}
    return Scores(**(values | {"metrics": metrics}))


def _evaluate(data: Path, teacher: Path, models: dict[str, Path], seed: int, out: Path) -> None:
    labels, target = read_labels(data), read_target(data)
    train, validation, test = (read_split(data, name) for name in SPLITS)
    predictors = {name: Predictor(folder) for name, folder in models.items()}
    eager = Eager(teacher, next(iter(predictors.values())).manifest.max_tokens)
    answers = {name: predictor.predict for name, predictor in predictors.items()} | {"teacher": eager.answer}
    sizes = {name: folder_size_bytes(folder) for name, folder in models.items()} | {"teacher": eager.size_bytes}
    latency_ms = interleaved(answers, sample(test, seed))
    scores = {}
    for name, predictor in predictors.items():
        if target.task == "multi_label" and not is_calibrated(predictor.manifest):
            predictor = with_threshold(predictor, validation, target)
        answered = predict_task(predictor, test, labels, target, batch_size=evaluation_batch(predictor.manifest))
        predictions = replace(answered, latency_ms_N=np.array(latency_ms[name]))
        write_predictions(out, name, predictions)
        batched = eager.answer if name == "teacher" else partial(predictor.predict, batch_size=32)
        throughput_per_s = throughput(batched, test)
        scores[name] = score(predictions, size_bytes=sizes[name], throughput_per_s=throughput_per_s, seed=seed)
    floor, floor_size = fit_task_floor(train, validation, test, labels, target)
    write_predictions(out, "floor", floor)
    scores["floor"] = score(floor, size_bytes=floor_size, throughput_per_s=float("nan"), seed=seed)
    text = json.dumps({name: asdict(value) for name, value in scores.items()}, indent=1)
    (out / "scores.json").write_text(text, encoding="utf-8")


class Eager:
    """The teacher as PyTorch runs it without a compiler, from text to probabilities."""

    def __init__(self, folder: Path, max_tokens: int) -> None:
        from transformers import AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = load_classifier(folder).eval()
        self.labels: tuple[str, ...] = class_names(self.model.config)
        self.max_tokens = max_tokens
        self.size_bytes = sum(path.stat().st_size for pattern in WEIGHT_FILES for path in folder.glob(pattern))

    def answer(self, texts: Sequence[Any]) -> Any:
        """probabilities_NC of one batch."""
        import torch

        first = [text if isinstance(text, str) else text[0] for text in texts]
        second = None if isinstance(texts[0], str) else [text[1] for text in texts]
        inputs = self.tokenizer(
            first, second, padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        )
        with torch.inference_mode():
            return softmax(self.model(**model_inputs(self.model, inputs)).logits.numpy())

    def predict(self, texts: Sequence[Any], *, batch_size: int = 1) -> Any:
        """probabilities_NC of batches in the order of the texts."""
        parts = [self.answer(texts[at : at + batch_size]) for at in range(0, len(texts), batch_size)]
        return np.concatenate(parts)


def class_names(config: Any) -> tuple[str, ...]:
    """The classes of a `transformers` config in the order of the model's outputs."""
    return tuple(name for _, name in sorted((int(at), str(name)) for at, name in config.id2label.items()))


def sample(test: Split, seed: int) -> list[Any]:
    rows = np.random.default_rng(seed).permutation(len(test))[:NUM_TIMED]
    return [test.texts[row] for row in rows]


def interleaved(answers: Mapping[str, Answer], sentences: list[Any]) -> dict[str, list[float]]:
    """Milliseconds of each sentence alone, in blocks that go round the models, so that all meet the same machine."""
    latency_ms: dict[str, list[float]] = {name: [] for name in answers}
    for start in range(0, len(sentences), BLOCK):
        block = sentences[start : start + BLOCK]
        for name, answer in answers.items():
            time.sleep(PAUSE_S)
            for sentence in block[:NUM_WARMUP]:
                answer([sentence])
            for sentence in block:
                begin = time.perf_counter()
                answer([sentence])
                latency_ms[name].append((time.perf_counter() - begin) * 1e3)
    return latency_ms


def throughput(answer: Answer, test: Split, num_rows: int = 320) -> float:
    """Sentences per second in batches of 32 of similar length."""
    texts = sorted(test.texts[:num_rows], key=lambda text: len(text if isinstance(text, str) else "".join(text)))
    batches = [texts[at : at + 32] for at in range(0, len(texts), 32)]
    answer(batches[0])
    start = time.perf_counter()
    for batch in batches:
        answer(batch)
    return len(texts) / (time.perf_counter() - start)
