"""One point of a search: sketched without training, then trained if it keeps the limits and can still win."""

import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from filelock import FileLock

from bento.errors import RetortError
from bento.manifest import folder_size_bytes
from bento.predictor import Predictor
from bento.settings import store_folder
from tasks.architecture import load_classifier
from tasks.batches import tokenize
from tasks.compress.context import Context
from tasks.compress.distil import Distil
from tasks.data import read_labels, read_split
from tasks.quantization.levels import Scheme
from tasks.search.space import SearchConfig, chain_of, is_packed
from tasks.students import NUM_PROBE_ROWS, probe_score
from tasks.task_types import SingleLabel
from tasks.types import Artifact

log = logging.getLogger("retort.search")

NUM_TIMED = 60
WATCH_S = 1.0
PACKED_SHARE = 0.12  # of a zero's bytes that packing still spends, as measured at nine tenths of zeros in 8 bits
SCHEMES: tuple[Scheme, ...] = ("float16", "weight_only", "int8_dynamic", "int8_static")
"""Those that lose least come first."""
State = Literal["trained", "beyond_limits", "cannot_win", "failed"]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One point and what is known of it."""

    number: int
    point: dict[str, Any]
    state: State
    why: str = ""
    probe: float | None = None
    """Share of the variance of the teacher's logits that the untrained student explains linearly."""
    latency_ms: float | None = None
    size_mb: float | None = None
    accuracy: float | None = None
    """On the validation split."""
    seconds: float = 0.0
    on_front: bool = False


@dataclass(frozen=True, kw_only=True)
class Proposed:
    """A point to try, and what decides whether it can still win."""

    number: int
    point: dict[str, Any]
    known: Sequence[Trial] = ()
    """Those before it."""
    least_accuracy: float
    """What the chosen point has to reach on the validation split."""


def run_apart(config: SearchConfig, context: Context, proposed: Proposed) -> Trial:
    """`run_trial` in a process of its own, with its share of the cores; one that dies is a failed trial."""
    with tempfile.TemporaryDirectory() as folder:
        spec, result = Path(folder) / "spec.json", Path(folder) / "result.json"
        values: dict[str, Any] = {"config": config.model_dump(mode="json"), "context": asdict(context)}
        values |= {"proposed": asdict(proposed), "parent": os.getpid()}
        spec.write_text(json.dumps(values, default=str), encoding="utf-8")
        cores = max(1, (os.cpu_count() or 1) // config.workers)
        environment = os.environ | {"OMP_NUM_THREADS": str(cores)}
        command = [sys.executable, "-m", "tasks.search.trials", str(spec), str(result)]
        done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)
        if done.returncode != 0:
            why = f"its process ended with {done.returncode}; see the log above"
            return Trial(number=proposed.number, point=proposed.point, state="failed", why=why)
        return Trial(**json.loads(result.read_text(encoding="utf-8")))


def run_trial(config: SearchConfig, context: Context, proposed: Proposed) -> Trial:
    """Sketch a point, and train it if it keeps the limits and can still win."""
    start, number, point = time.perf_counter(), proposed.number, proposed.point
    try:
        trial = _sketch(config, context, number, point)
        why_not = beyond_limits(config, trial)
        better = _better(config, trial, proposed)
        if why_not:
            trial = replace(trial, state="beyond_limits", why=why_not)
        elif better is not None:
            trial = replace(trial, state="cannot_win", why=f"point {better.number} is better in all that is known")
        else:
            trial = _train(config, context, trial)
    except RetortError as error:
        trial = Trial(number=number, point=point, state="failed", why=str(error))
    except Exception as error:  # whatever it is, it belongs to one point alone
        log.exception("point %d %s", number, _short(point))
        trial = Trial(number=number, point=point, state="failed", why=f"{type(error).__name__}: {error}")
    trial = replace(trial, seconds=round(time.perf_counter() - start, 1))
    log.info("point %d %s: %s %s", number, _short(point), trial.state, trial.why or told(trial))
    return trial


def _sketch(config: SearchConfig, context: Context, number: int, point: dict[str, Any]) -> Trial:
    """Size and time of the point as it would be, and its probe, all without training.

    Pruning is not sketched: it is expected to reach the time or the size that it is asked for.
    """
    plain = point | {"speedup": 1.0, "sparsity": 0.0}
    untrained = replace(context, untrained=True)
    artifact = context.teacher
    explained = None
    for technique in chain_of(config, plain):
        if isinstance(technique, Distil):
            artifact = technique.sketch(artifact, untrained).artifact
            explained = _probe(artifact.path, context)
        else:
            artifact = technique.run(artifact, untrained).artifact
    share = 1.0 - point["sparsity"] * (1 - PACKED_SHARE) if is_packed(point) else 1.0
    return Trial(
        number=number,
        point=point,
        state="trained",
        probe=explained,
        latency_ms=round(timed_ms(artifact.path, context) / point["speedup"], 4),
        size_mb=round(folder_size_bytes(artifact.path) * share / 1e6, 3),
    )


def _train(config: SearchConfig, context: Context, trial: Trial) -> Trial:
    artifact = context.teacher
    for technique in chain_of(config, trial.point):
        artifact = technique.run(artifact, context).artifact
    return replace(
        trial,
        state="trained",
        accuracy=round(onnx_accuracy(artifact, context), 4),
        latency_ms=round(timed_ms(artifact.path, context), 4),
        size_mb=round(folder_size_bytes(artifact.path) / 1e6, 3),
    )


def timed_ms(folder: Path, context: Context) -> float:
    """Median milliseconds of a validation sentence; one model is timed at a time, whatever else is going on."""
    texts = read_split(context.data.path, "validation").texts
    rows = np.random.default_rng(0).permutation(len(texts))[:NUM_TIMED]
    predictor = Predictor(folder, check=False)
    taken_ms = []
    with FileLock(store_folder() / "timing.lock"):
        for row in rows:
            predictor.predict_logits([texts[row]])
            start = time.perf_counter()
            predictor.predict_logits([texts[row]])
            taken_ms.append((time.perf_counter() - start) * 1e3)
    return float(np.median(taken_ms))


def beyond_limits(config: SearchConfig, trial: Trial) -> str:
    """Which limit the point breaks, if any."""
    if config.size_mb is not None and measured(trial.size_mb) > config.size_mb:
        return f"{trial.size_mb:.2f} MB, more than {config.size_mb:g}"
    if config.latency_ms is not None and measured(trial.latency_ms) > config.latency_ms:
        return f"{trial.latency_ms:.2f} ms, more than {config.latency_ms:g}"
    return ""


def _better(config: SearchConfig, trial: Trial, proposed: Proposed) -> Trial | None:
    """A trained point that is as small, as fast and as promising, and better in one of them.

    The probe does not see what pruning and quantization lose, so the other has to ask no more of both, or to be known
    as accurate enough where no more than that is wanted.
    """
    for other in proposed.known:
        if other.state != "trained":
            continue
        enough = config.prefer != "accuracy" and measured(other.accuracy) >= proposed.least_accuracy
        if not enough and not _loses_no_more(other.point, trial.point):
            continue
        pairs = [(other.latency_ms, trial.latency_ms), (other.size_mb, trial.size_mb)]
        pairs.append((-measured(other.probe), -measured(trial.probe)))
        if all(measured(a) <= measured(b) for a, b in pairs) and any(measured(a) < measured(b) for a, b in pairs):
            return other
    return None


def _loses_no_more(point: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether pruning and quantization leave of `point` at least as much as of `other`."""
    falling = ("sparsity", "speedup")
    rising = ("weight_bits", "embedding_bits")
    return (
        all(point[name] <= other[name] for name in falling)
        and all(point[name] >= other[name] for name in rising)
        and SCHEMES.index(point["scheme"]) <= SCHEMES.index(other["scheme"])
    )


def measured(value: float | None) -> float:
    """Raises: RetortError when something was not measured that has to be."""
    if value is None:
        raise RetortError("search: a trial lacks a measured value; report this with its search.json")
    return value


def told(trial: Trial) -> str:
    parts = [
        f"accuracy {trial.accuracy:.4f}" if trial.accuracy is not None else "",
        f"{trial.latency_ms:.2f} ms" if trial.latency_ms is not None else "",
        f"{trial.size_mb:.2f} MB" if trial.size_mb is not None else "",
    ]
    return ", ".join(part for part in parts if part)


def _short(point: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in point.items() if value is not None)


def _probe(folder: Path, context: Context) -> float:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = read_split(context.data.path, "train").texts[:NUM_PROBE_ROWS]
    rows = tokenize(tokenizer, texts, max_tokens=context.max_tokens)
    teacher_NC = np.load(context.teacher_logits.path / "train.npy")
    return round(probe_score(load_classifier(folder), rows, teacher_NC, tokenizer.pad_token_id), 4)


def onnx_accuracy(artifact: Artifact, context: Context) -> float:
    texts = read_split(context.data.path, "validation").texts
    predicted_N = Predictor(artifact.path, check=False).predict_logits(texts).argmax(axis=1)
    return float((predicted_N == validation_labels(context)).mean())


def validation_labels(context: Context) -> Any:
    return SingleLabel().targets(read_split(context.data.path, "validation"), read_labels(context.data.path))


def main() -> None:
    """One trial in a process of its own: `python -m tasks.search.trials SPEC.json RESULT.json`."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("retort").setLevel(logging.INFO)
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    threading.Thread(target=_end_with, args=(spec["parent"],), daemon=True).start()
    artifacts = {name: _artifact(spec["context"][name]) for name in ("data", "teacher", "teacher_logits")}
    more = tuple(map(_artifact, spec["context"]["more_teachers"]))
    context = Context(**(spec["context"] | artifacts | {"more_teachers": more}))
    known = [Trial(**row) for row in spec["proposed"]["known"]]
    trial = run_trial(
        SearchConfig.model_validate_json(json.dumps(spec["config"])),
        context,
        Proposed(**(spec["proposed"] | {"known": known})),
    )
    Path(sys.argv[2]).write_text(json.dumps(asdict(trial)), encoding="utf-8")


def _end_with(parent: int) -> None:
    """End this process when the search that started it is gone: however it was killed, nobody reads this trial."""
    while os.getppid() == parent:
        time.sleep(WATCH_S)
    os._exit(1)


def _artifact(row: dict[str, Any]) -> Artifact:
    return Artifact(**(row | {"path": Path(row["path"]), "parents": tuple(row["parents"])}))


if __name__ == "__main__":
    main()
