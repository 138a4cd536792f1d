"""`retort bench gate`: planted faults and equal models through the gate, its exact size and power, and what it costs.

A population is the test rows of a build with the answers of its teacher and of a planted candidate; a trial draws rows
of it with replacement. Faults that lie in the model itself are planted in real model folders of the build.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from bento.predictor import Predictor
from flows import bench_gate_trials as trials
from flows.bench import plain, row
from flows.bench_gate_tasks import task_rows
from flows.bench_gate_trials import (
    MAX_AT_MARGIN,
    MAX_BEYOND,
    outcomes,
    passed_row,
    passes,
    refusals,
    refused_row,
)
from flows.chain import Built, make_candidate, make_context
from flows.config import Config
from tasks.compress.quantize import Quantize
from tasks.data import read_split
from tasks.evaluate import evaluation_batch, read_predictions
from tasks.gate import GateConfig, MarginGate, Probes, SliceGate, judge, judge_measured, num_unknown
from tasks.gate.verdicts import ALPHA
from tasks.quantization.invariance import in_one_batch, largest_shift
from tasks.stats.bootstrap import macro_f1
from tasks.stats.calibration import brier_loss, in_wrong_order
from tasks.stats.paired import needed_n, tango_p
from tasks.stats.power import pass_rate
from tasks.types import AnyPredictions, Predictions, Verdict

NUM_MARGIN_TRIALS = 10_000
"""At the margin, where the rate is near its target: of 1,000 trials chance alone would decide on which side."""
NUM_PROBE_TRIALS = 100
"""Of the fault that takes a model's run each time."""
MARGIN = 0.02
DISAGREEMENT = 0.04
SLICE_MARGIN = 0.05
NUM_CLASSES = 3
LIMITS = {"calibration_error": 0.05, "unknown_words": 0.01, "batch_shift": 1e-3}
CUT_TOKENIZERS = ("WordPiece", "WordLevel")
"""Those that need nothing of a piece beside the piece: BPE has merges of them, Unigram a probability of each."""
TEMPERATURE = 4.0
SIZES = (300, 1_000, 3_000)
DISAGREEMENTS = (0.02, 0.04, 0.1)
CURVE_MARGIN = 0.01
MAX_SIZE = 5.3
NUM_EVALUATED = 10_000
CHUNK = 500
MAX_SLOWDOWN = 1.3

Rng = np.random.Generator


def bench_gate(chosen: Config) -> dict[str, Any]:
    """Trials on the test rows of one build, which is made, or found in the store."""
    built = make_candidate(chosen, None, stage=plain)
    teacher = read_predictions(built.evaluation.path, "teacher")
    rng = np.random.default_rng(0)
    if not isinstance(teacher, Predictions):
        rows = [*task_rows(teacher, chosen.gate, rng), *model_rows(chosen, built, rng), _evaluation(built)]
        return {"title": f"The gate on the test rows of {chosen.name}, of data.task {teacher.task}", "rows": rows}
    rows = [
        *accuracy_rows(teacher, DISAGREEMENT, rng),
        *loss_rows(teacher, rng),
        class_row(teacher, rng),
        calibration_row(teacher, rng),
        *model_rows(chosen, built, rng),
        *curve_rows(),
        _evaluation(built),
    ]
    title = f"The gate on the test rows of {chosen.name}; planted models differ on {100 * DISAGREEMENT:g} % of them"
    return {"title": title, "rows": rows}


def _evaluation(built: Built) -> dict[str, Any]:
    return evaluation_row(Predictor(built.model.path), read_split(built.data.path, "test").texts)


def accuracy_rows(teacher: Predictions, disagreement: float, rng: Rng) -> list[dict[str, Any]]:
    """Candidates that are equal, worse by the margin and by twice the margin, and one with its classes exchanged."""
    config = GateConfig(accuracy=MarginGate(margin=MARGIN))
    n = needed_n(disagreement, MARGIN) or 0
    wrong = replace(teacher, probabilities_NC=in_wrong_order(teacher.probabilities_NC))
    planted = (
        ("worse by the margin", worse_by(teacher, MARGIN, disagreement, rng), NUM_MARGIN_TRIALS, MAX_AT_MARGIN),
        ("worse by twice the margin", worse_by(teacher, 2 * MARGIN, disagreement, rng), None, MAX_BEYOND),
        ("wrong label order", wrong, None, MAX_BEYOND),
    )
    rows = []
    for name, candidate, num_trials, most in planted:
        passed = outcomes(partial(_compare, candidate, teacher, n, config, rng), num_trials)
        rows.append(passed_row(name, passed, most, f"accuracy, margin {100 * MARGIN:g} points, on {n:,} rows"))
    equal = worse_by(teacher, 0.0, disagreement, rng)
    refused = refusals(lambda number: _compare(equal, teacher, number, config, rng))
    return [*rows, refused_row(refused, "accuracy")]


def loss_rows(teacher: Predictions, rng: Rng) -> list[dict[str, Any]]:
    """Candidates that are worse by the margin on so few rows that in many a draw nothing speaks against them."""
    candidate, n = worse_by(teacher, MARGIN, MARGIN, rng), GateConfig().min_rows
    brier = brier_loss(candidate.probabilities_NC, candidate.labels_N) - brier_loss(
        teacher.probabilities_NC, teacher.labels_N
    )
    macro = _macro_f1(teacher) - _macro_f1(candidate)
    rows = []
    for name, margin in (("macro_f1", macro), ("brier", brier)):
        config = GateConfig.model_validate({"accuracy": {"margin": 0.999}, name: {"margin": margin}})
        passed = outcomes(partial(_compare, candidate, teacher, n, config, rng))
        against = f"{name}, margin {margin:.3g}, on {n:,} rows, of which {100 * MARGIN:g} % differ"
        rows.append(passed_row(f"worse by the margin on few rows, {name}", passed, MAX_AT_MARGIN, against))
    return rows


def _macro_f1(predictions: Predictions) -> float:
    return macro_f1(predictions.labels_N, predictions.probabilities_NC.argmax(axis=1))


def class_row(teacher: Predictions, rng: Rng) -> dict[str, Any]:
    """Half of the right answers of one class are lost, which the accuracy of all rows may not show."""
    counts_C = np.bincount(teacher.labels_N, minlength=teacher.probabilities_NC.shape[1])
    classes = np.argsort(-counts_C, kind="stable")[:NUM_CLASSES]
    inside_N = (teacher.labels_N == classes[-1]) & teacher.correct_N
    rows = np.flatnonzero(inside_N)
    candidate = _with_errors(teacher, rng.permutation(rows)[: -(-len(rows) // 2)])
    rule = SliceGate(by="class", only=tuple(str(at) for at in classes), margin=SLICE_MARGIN)
    config = GateConfig(accuracy=MarginGate(margin=MARGIN), slices=(rule,))
    n = int(np.ceil((needed_n(SLICE_MARGIN, SLICE_MARGIN) or 0) / (counts_C[classes[-1]] / counts_C.sum())))
    verdicts = [_compare(candidate, teacher, n, config, rng) for _ in range(trials.NUM_TRIALS)]
    alone = 100 * float(np.mean([passes(found[:1]) for found in verdicts]))
    against = f"slices by class on {n:,} rows; accuracy alone: {alone:.1f} % pass"
    return passed_row("one class broken", [passes(found) for found in verdicts], MAX_BEYOND, against)


def calibration_row(teacher: Predictions, rng: Rng) -> dict[str, Any]:
    """The same answers with a confidence that means nothing any more."""
    flat_NC = teacher.probabilities_NC.astype(np.float64) ** (1 / TEMPERATURE)
    candidate = replace(teacher, probabilities_NC=(flat_NC / flat_NC.sum(axis=1, keepdims=True)).astype(np.float32))
    config = GateConfig(calibration_error=LIMITS["calibration_error"])
    n = needed_n(2 * MARGIN, MARGIN) or 0
    nothing = Probes(num_texts=n)

    def trial() -> list[Verdict]:
        drawn = _rows_of(candidate, rng.integers(len(candidate.ids), size=n))
        return judge_measured(drawn, nothing, config)

    against = f"calibration error of at most {100 * LIMITS['calibration_error']:g} % on {n:,} rows"
    return passed_row("calibration broken", outcomes(trial), MAX_BEYOND, against)


def model_rows(chosen: Config, built: Built, rng: Rng) -> list[dict[str, Any]]:
    """Faults of the model folder: a vocabulary of which half is gone, and int8 ranges that the whole batch shares."""
    texts = list(read_split(built.data.path, "test").texts)
    candidate = read_predictions(built.evaluation.path, built.chain[-1])
    vocabulary = vocabulary_row(Predictor(built.model.path).tokenizer, texts, candidate, rng)
    dynamic = _dynamic(chosen, built)
    config = GateConfig(batch_shift=LIMITS["batch_shift"])
    shifts = [_shift(dynamic, texts, rng) for _ in range(NUM_PROBE_TRIALS)]
    passed = [passes(judge_measured(candidate, Probes(num_texts=0, batch_shift=one), config)) for one in shifts]
    against = (
        f"dynamic int8, largest change of a probability at most {LIMITS['batch_shift']:g}; least {min(shifts):.2g}"
    )
    return [vocabulary, passed_row("batch-dependent answers", passed, MAX_BEYOND, against)]


def vocabulary_row(tokenizer: Tokenizer, texts: Sequence[Any], candidate: AnyPredictions, rng: Rng) -> dict[str, Any]:
    """Half of the pieces are gone; not of tokenizers that lose no word with a piece."""
    kind = json.loads(tokenizer.to_str())["model"]["type"]
    if kind not in CUT_TOKENIZERS:
        against = f"does not apply to a tokenizer of type {kind}, only to {' and '.join(CUT_TOKENIZERS)}"
        return row("vocabulary truncated", None, "", against)
    unknown_N = unknown_texts(half_vocabulary(tokenizer), texts)
    config = GateConfig(unknown_words=LIMITS["unknown_words"])
    passed = outcomes(lambda: judge_measured(candidate, _drawn_unknown(unknown_N, rng), config))
    against = (
        f"texts with an unknown piece, at most {100 * LIMITS['unknown_words']:g} %; {unknown_N.mean():.0%} have one"
    )
    return passed_row("vocabulary truncated", passed, MAX_BEYOND, against)


def curve_rows() -> list[dict[str, Any]]:
    """Exact size at the margin, Wald's beside it, and the power of equal models around the needed n."""
    rows = []
    for disagreement in DISAGREEMENTS:
        for n in SIZES:
            size, walds = (
                100 * pass_rate(test, n, disagreement=disagreement, difference=-CURVE_MARGIN)
                for test in (_tango, _wald)
            )
            rows.append(
                row(f"size, {n:,} rows, {100 * disagreement:g} % disagreement", size, "%", f"Wald: {walds:.2g} %",
                    size / walds if walds else None, f"<= {MAX_SIZE:g} %", size <= MAX_SIZE)
            )  # fmt: skip
    for disagreement in DISAGREEMENTS:
        needed = needed_n(disagreement, CURVE_MARGIN) or 0
        for factor in (0.5, 1.0, 2.0):
            n = round(factor * needed)
            power = 100 * pass_rate(_tango, n, disagreement=disagreement, difference=0.0)
            asked = factor == 1
            rows.append(
                row(f"power, {n:,} rows, {100 * disagreement:g} % disagreement", power, "%",
                    f"{factor:g} times the needed n, margin {100 * CURVE_MARGIN:g} point",
                    target=f">= {100 - trials.MAX_REFUSED:g} %" if asked else "",
                    met=power >= 100 - trials.MAX_REFUSED if asked else None)
            )  # fmt: skip
    return rows


def evaluation_row(predictor: Predictor, texts: Sequence[Any]) -> dict[str, Any]:
    """From text to probabilities against ONNX Runtime on the same batches, tokenised and padded before."""
    batch_size = evaluation_batch(predictor.manifest)
    many = [texts[at % len(texts)] for at in range(NUM_EVALUATED)]
    whole_s = bare_s = 0.0
    for start in range(0, NUM_EVALUATED, CHUNK):
        chunk = many[start : start + CHUNK]
        encodings = sorted(predictor.tokenize(chunk), key=lambda encoding: len(encoding.ids))
        feeds = [predictor.feeds(encodings[at : at + batch_size]) for at in range(0, CHUNK, batch_size)]
        begin = time.perf_counter()
        predictor.predict(chunk, batch_size=batch_size)
        middle = time.perf_counter()
        for feed in feeds:
            predictor.session.run(None, feed)
        whole_s, bare_s = whole_s + middle - begin, bare_s + time.perf_counter() - middle
    return row(
        f"evaluation of {NUM_EVALUATED:,} texts", whole_s, "s", f"ONNX Runtime alone: {bare_s:.3g} s, batches of "
        f"{batch_size}", whole_s / bare_s, f"<= {MAX_SLOWDOWN:g} times", whole_s <= MAX_SLOWDOWN * bare_s,
    )  # fmt: skip


def worse_by(reference: Predictions, loss: float, disagreement: float, rng: Rng) -> Predictions:
    """A candidate that is less accurate by `loss`, or by a row more, and differs on a share `disagreement` of rows.

    Where the reference has too few errors to mend, both differ on fewer rows.
    """
    n = len(reference.ids)
    right, wrong = np.flatnonzero(reference.correct_N), np.flatnonzero(~reference.correct_N)
    num_gained = min(len(wrong), int((disagreement - loss) / 2 * n))
    lost = rng.permutation(right)[: num_gained + int(np.ceil(loss * n - 1e-9))]
    gained = rng.permutation(wrong)[:num_gained]
    return _with_errors(_mended(reference, gained), lost)


def _with_errors(reference: Predictions, rows: NDArray[np.int64]) -> Predictions:
    """The true class's probability exchanged with that of the next class."""
    other_R = (reference.labels_N[rows] + 1) % reference.probabilities_NC.shape[1]
    return _exchanged(reference, rows, reference.labels_N[rows], other_R)


def _mended(reference: Predictions, rows: NDArray[np.int64]) -> Predictions:
    """The true class's probability exchanged with the greatest."""
    return _exchanged(reference, rows, reference.labels_N[rows], reference.probabilities_NC[rows].argmax(axis=1))


def _exchanged(reference: Predictions, rows: Any, first_R: Any, second_R: Any) -> Predictions:
    probabilities_NC = reference.probabilities_NC.copy()
    probabilities_NC[rows, first_R] = reference.probabilities_NC[rows, second_R]
    probabilities_NC[rows, second_R] = reference.probabilities_NC[rows, first_R]
    return replace(reference, probabilities_NC=probabilities_NC)


def _rows_of(predictions: Predictions, rows: NDArray[np.int64]) -> Predictions:
    return Predictions(
        ids=tuple(map(str, rows)),
        probabilities_NC=predictions.probabilities_NC[rows],
        labels_N=predictions.labels_N[rows],
        latency_ms_N=np.empty(0),
    )


def _compare(candidate: Predictions, reference: Predictions, n: int, config: GateConfig, rng: Rng) -> list[Verdict]:
    """The gate on `n` rows drawn for both."""
    rows = rng.integers(len(reference.ids), size=n)
    drawn, other = _rows_of(candidate, rows), _rows_of(reference, rows)
    columns = {"class": [str(label) for label in drawn.labels_N]}
    return judge(drawn, other, reference_name="teacher", config=config, columns=columns)


def half_vocabulary(tokenizer: Tokenizer) -> Tokenizer:
    """The first half of the pieces is gone, special tokens aside: words, and letters that they could be made of."""
    state = json.loads(tokenizer.to_str())
    special = {token["content"] for token in state["added_tokens"]} | {state["model"]["unk_token"]}
    pieces = [token for token in state["model"]["vocab"] if token not in special]
    gone = set(pieces[: len(pieces) // 2])
    kept = [token for token in state["model"]["vocab"] if token not in gone]
    state["model"]["vocab"] = {token: at for at, token in enumerate(kept)}
    return Tokenizer.from_str(json.dumps(state))


def unknown_texts(tokenizer: Tokenizer, texts: Sequence[Any]) -> NDArray[np.bool_]:
    """Whether each text has a piece that the tokenizer does not know."""
    return np.array([num_unknown(tokenizer, [text]) > 0 for text in texts])


def _drawn_unknown(unknown_N: NDArray[np.bool_], rng: Rng) -> Probes:
    drawn_N = unknown_N[rng.integers(len(unknown_N), size=len(unknown_N))]
    return Probes(num_texts=len(drawn_N), num_unknown=int(drawn_N.sum()))


def _dynamic(chosen: Config, built: Built) -> Predictor:
    """The student's export, or the teacher's, in dynamic int8, whose ranges are those of the whole batch."""
    artifacts = {step.name: step.artifact for step in built.steps}
    context = make_context(chosen, built.data, [artifacts["teacher"]], artifacts["teacher_logits"])
    exported = artifacts.get("export", artifacts["export_teacher"])
    return Predictor(Quantize().run(exported, context).artifact.path)


def _shift(predictor: Predictor, texts: Sequence[Any], rng: Rng) -> float:
    asked = [texts[at] for at in rng.integers(len(texts), size=16)]
    return largest_shift(in_one_batch(predictor.predict), asked, rng)


def _tango(b: Any, c: Any, n: int) -> Any:
    return tango_p(b, c, n, CURVE_MARGIN) < ALPHA


def _wald(b: Any, c: Any, n: int) -> Any:
    """The test that is usual and too generous: the observed difference with its observed spread."""
    difference = (b - c) / n
    with np.errstate(divide="ignore", invalid="ignore"):
        return (difference + CURVE_MARGIN) / np.sqrt(((b + c) / n - difference**2) / n) > 1.6449
