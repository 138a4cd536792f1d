"""The search: which student, how much pruning and which precision are best on this CPU, by measured trials.

Optuna (Akiba 2019, arXiv:1907.10902) proposes points for three objectives: accuracy on the validation split, time of
one sentence, size of the folder. Each point is first sketched: built without training, it has its true size and time
already, and a ridge regression on what the untrained student puts out says how much of the teacher's answers is left
in it. Only points that keep the limits, and that no trained point beats in all three, are trained. Every step of every
trial lies in the store, so trials share what they have in common and a killed search goes on.
"""

import itertools
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from filelock import FileLock
from pydantic import Field, model_validator

from bento.errors import RetortError
from bento.manifest import folder_size_bytes
from bento.predictor import Predictor
from bento.settings import store_folder
from tasks.architecture import Architecture, load_classifier
from tasks.compress.context import Context
from tasks.compress.distil import Distil
from tasks.compress.export import Export
from tasks.compress.pack import Pack
from tasks.compress.prune_structure import PruneStructure
from tasks.compress.prune_vocabulary import PruneVocabulary
from tasks.compress.prune_weights import PruneWeights
from tasks.compress.quantize import Quantize
from tasks.data import read_labels, read_split
from tasks.ensemble import torch_logits
from tasks.quantization.levels import Scheme
from tasks.store import Step, run_step
from tasks.students import NUM_PROBE_ROWS, probe_score
from tasks.training import label_targets, tokenize
from tasks.types import Artifact, Section

if TYPE_CHECKING:
    from tasks.compress import Technique

log = logging.getLogger("retort.search")

NUM_TIMED = 60
PACKED_SHARE = 0.12  # of a zero's bytes that packing still spends, as measured at nine tenths of zeros in 8 bits
State = Literal["trained", "beyond_limits", "cannot_win", "failed"]
Submit = Callable[[Sequence[Callable[[], "Trial"]], "SearchConfig"], list["Trial"]]


class SearchConfig(Section):
    """What may be tried, within which limits, for how long."""

    trials: int = Field(default=24, ge=2, le=10_000)
    """Points to look at; most are sketched only."""
    minutes: float = Field(default=60, gt=0)
    """No trial begins after this time."""
    accuracy_drop: float = Field(default=0.01, ge=0, lt=1)
    """Accuracy on the validation split that the chosen point may lose against the teacher."""
    size_mb: float | None = Field(default=None, gt=0)
    """Largest folder."""
    latency_ms: float | None = Field(default=None, gt=0)
    """Longest median time of one sentence."""
    prefer: Literal["latency", "size", "accuracy"] = "latency"
    """What is best among the points that keep all limits."""
    vocabulary: list[float] = Field(default=[])
    """Coverages of the training text to cut the vocabulary to; empty leaves the teacher's."""
    num_layers: list[int] = Field(default=[2, 3, 6], min_length=1)
    """Depths of the student."""
    hidden_size: list[int] = Field(default=[])
    """Widths of the student; empty keeps the teacher's."""
    intermediate_size: list[int] = Field(default=[])
    """Feed-forward neurons of a layer; empty keeps the teacher's."""
    speedup: list[float] = Field(default=[1.0], min_length=1)
    """Structured pruning after the distillation: how many times faster; 1 is none."""
    sparsity: list[float] = Field(default=[0.0], min_length=1)
    """Unstructured pruning after the distillation; 0 is none."""
    scheme: list[Scheme] = Field(default=["int8_dynamic", "int8_static"], min_length=1)
    """Precisions."""
    weight_bits: list[Literal[4, 8]] = Field(default=[8], min_length=1)
    """Of a stored weight."""
    embedding_bits: list[Literal[4, 8]] = Field(default=[8], min_length=1)
    """Of a stored embedding."""
    threads: list[int] = Field(default=[1], min_length=1)
    """ONNX Runtime threads of one request."""
    distil: Distil = Distil()
    """How students are trained; depth and widths come from the point."""
    workers: int = Field(default=1, ge=1, le=256)
    """Trials side by side. Training takes all cores of a small machine, so 1 is often fastest there."""
    runner: Literal["threads", "dask", "ray"] = "threads"
    """Prefect's task runner for them; dask and ray need prefect-dask or prefect-ray."""
    seed: int = 0
    """Of the proposals."""

    @model_validator(mode="after")
    def _one_place_for_sizes(self) -> Self:
        sizes = [name for name in ("num_layers", "hidden_size", "intermediate_size") if getattr(self.distil, name)]
        if sizes or isinstance(self.distil.layers, list):
            raise ValueError(
                f"search.distil: expected no sizes here, got {', '.join(sizes or ['layers'])}; "
                "write the sizes to try under search"
            )
        return self

    @property
    def space(self) -> dict[str, list[Any]]:
        """Name of each dimension -> its values; one with a single value is fixed."""
        optional = {name: list(getattr(self, name)) or [None] for name in ("vocabulary", *WIDTHS)}
        names = ("num_layers", "speedup", "sparsity", "scheme", "weight_bits", "embedding_bits", "threads")
        return optional | {name: list(getattr(self, name)) for name in names}

    def check(self, shape: Architecture) -> None:
        """Raises: UserError where some point of the space cannot be made of this teacher."""
        space = self.space
        for values in itertools.product(space["num_layers"], *(space[name] for name in WIDTHS)):
            point = {name: choices[0] for name, choices in space.items()}
            for technique in chain_of(self, point | dict(zip(("num_layers", *WIDTHS), values, strict=True))):
                technique.check(shape)


WIDTHS = ("hidden_size", "intermediate_size")


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
class Found:
    """The end of a search."""

    trials: list[Trial]
    chosen: int
    """Number of the chosen trial."""
    words: str
    """Why it was chosen."""
    teacher_accuracy: float
    chain: list[dict[str, Any]] = field(default_factory=list)
    """The chosen techniques as config."""


def one_after_another(calls: Sequence[Callable[[], Trial]], config: SearchConfig) -> list[Trial]:
    """Trials without a task runner."""
    return [call() for call in calls]


def search(config: SearchConfig, context: Context, submit: Submit) -> Step:
    """Run, or find again, the search; its artifact holds `search.json`.

    `submit` runs trials side by side and returns their results in order. Raises: RetortError when no point could be
    trained.
    """
    return run_step(
        "search",
        kind="report",
        inputs=(context.data, *context.teachers, context.teacher_logits),
        config=config.model_dump(exclude={"workers", "runner"}) | {"max_tokens": context.max_tokens},
        code="tasks.search",
        make=lambda out, work: _search(config, context, submit, out, work),
    )


def read_search(folder: Path) -> Found:
    """What `search` found."""
    values = json.loads((folder / "search.json").read_text(encoding="utf-8"))
    return Found(**(values | {"trials": [Trial(**row) for row in values["trials"]]}))


def chain_of(config: SearchConfig, point: dict[str, Any]) -> "tuple[Technique, ...]":
    """The techniques that make a point."""
    sizes = {name: point[name] for name in ("num_layers", *WIDTHS)}
    chain: list[Any] = [config.distil.model_copy(update=sizes)]
    if point["vocabulary"] is not None:
        chain.insert(0, PruneVocabulary(keep=point["vocabulary"]))
    training = config.distil.model_dump(exclude={"kind", "layers", "num_layers", *WIDTHS, "transfer"})
    training["transfer"] = config.distil.transfer
    if point["speedup"] > 1:
        chain.append(PruneStructure(speedup=point["speedup"], **training))
    if point["sparsity"] > 0:
        chain.append(PruneWeights(sparsity=point["sparsity"], **training))
    bits: dict[str, Any] = {
        name: 8 if point["scheme"] == "float16" else point[name] for name in ("weight_bits", "embedding_bits")
    }
    chain += [Export(threads=point["threads"]), Quantize(scheme=point["scheme"], **bits)]
    return tuple([*chain, Pack()] if point["sparsity"] > 0 else chain)


def pareto_front(rows: Sequence[Sequence[float]]) -> list[bool]:
    """Whether no other row is at least as good in every column and better in one; larger is better."""
    values = np.asarray(rows, dtype=np.float64)
    front = []
    for row in values:
        at_least, better = (values >= row).all(axis=1), (values > row).any(axis=1)
        front.append(not bool((at_least & better).any()))
    return front


def choose(config: SearchConfig, trials: Sequence[Trial], teacher_accuracy: float) -> tuple[Trial, str]:
    """The best trained point within the limits, and why in words; without one, the most accurate.

    Raises: RetortError when nothing was trained.
    """
    trained = [trial for trial in trials if trial.state == "trained"]
    if not trained:
        reasons = "; ".join(f"{trial.number}: {trial.why}" for trial in list(trials)[:5])
        raise RetortError(
            f"search: none of {len(trials)} points could be trained ({reasons}); widen the limits or space"
        )
    least = teacher_accuracy - config.accuracy_drop
    within = [trial for trial in trained if _known(trial.accuracy) >= least and not _beyond(config, trial)]
    if not within:
        best = max(trained, key=lambda trial: _known(trial.accuracy))
        return best, (
            f"Point {best.number} is the most accurate of {len(trained)} trained ones ({_told(best)}); none kept the "
            f"accuracy of {least:.4f} that the teacher's {teacher_accuracy:.4f} less {config.accuracy_drop:g} asks for."
        )
    best = min(within, key=lambda trial: _preference(config, trial))
    others = [
        trial for trial in trained if trial not in within and _preference(config, trial) < _preference(config, best)
    ]
    passed_over = (
        f" Better in {config.prefer} but not accurate enough: "
        + ", ".join(f"point {trial.number} ({_told(trial)})" for trial in others[:3])
        + "."
        if others
        else ""
    )
    words = {"latency": "answers soonest", "size": "is smallest", "accuracy": "is most accurate"}[config.prefer]
    return best, (
        f"Point {best.number} {words} of the {len(within)} that keep every limit, among {len(trained)} trained and "
        f"{len(trials)} looked at: {_told(best)}; teacher {teacher_accuracy:.4f}.{passed_over}"
    )


def _search(config: SearchConfig, context: Context, submit: Submit, out: Path, work: Path) -> None:
    study = _Study(config, work)
    teacher_accuracy = _teacher_accuracy(context)
    begin = time.monotonic() - study.spent_s
    while len(study.trials) < config.trials and time.monotonic() - begin < config.minutes * 60:
        proposed = study.ask(min(config.workers, config.trials - len(study.trials)))
        if not proposed:
            break
        known = tuple(study.trials)
        calls = [_call(config, context, known, number, point) for number, point in proposed]
        for trial in submit(calls, config):
            study.tell(trial, time.monotonic() - begin)
    best, words = choose(config, study.trials, teacher_accuracy)
    log.info("%s", words)
    found = Found(
        trials=with_front(study.trials),
        chosen=best.number,
        words=words,
        teacher_accuracy=teacher_accuracy,
        chain=[technique.model_dump(mode="json") for technique in chain_of(config, best.point)],
    )
    (out / "search.json").write_text(json.dumps(asdict(found), indent=1), encoding="utf-8")


def with_front(trials: Sequence[Trial]) -> list[Trial]:
    """The trials, those marked that no other trained one beats in accuracy, time and size."""
    trained = [trial for trial in trials if trial.state == "trained"]
    rows = [(_known(t.accuracy), -_known(t.latency_ms), -_known(t.size_mb)) for t in trained]
    marks = dict(zip((trial.number for trial in trained), pareto_front(rows) if rows else [], strict=True))
    return [replace(trial, on_front=marks.get(trial.number, False)) for trial in trials]


def _call(
    config: SearchConfig, context: Context, known: Sequence[Trial], number: int, point: dict[str, Any]
) -> Callable[[], Trial]:
    """A trial to call; several side by side run in processes of their own, since loading and exporting models change
    what all threads of a process see."""
    run = run_trial if config.workers == 1 and config.runner == "threads" else run_apart
    return partial(run, config, context, known, number, point)


def run_apart(
    config: SearchConfig, context: Context, known: Sequence[Trial], number: int, point: dict[str, Any]
) -> Trial:
    """`run_trial` in a process of its own, with its share of the cores. Raises: RetortError when that process died."""
    with tempfile.TemporaryDirectory() as folder:
        spec, result = Path(folder) / "spec.json", Path(folder) / "result.json"
        spec.write_text(_spec(config, context, known, number, point), encoding="utf-8")
        cores = max(1, (os.cpu_count() or 1) // config.workers)
        environment = os.environ | {"OMP_NUM_THREADS": str(cores)}
        command = [sys.executable, "-m", "tasks.search", str(spec), str(result)]
        done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)
        if done.returncode != 0:
            raise RetortError(f"search: the process of point {number} ended with {done.returncode}; see above")
        return Trial(**json.loads(result.read_text(encoding="utf-8")))


def _spec(config: SearchConfig, context: Context, known: Sequence[Trial], number: int, point: dict[str, Any]) -> str:
    values = {"config": config.model_dump(mode="json"), "context": asdict(context), "known": [*map(asdict, known)]}
    return json.dumps(values | {"number": number, "point": point}, default=str)


def main() -> None:
    """One trial in a process of its own: `python -m tasks.search SPEC.json RESULT.json`."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("retort").setLevel(logging.INFO)
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    artifacts = {name: _artifact(spec["context"][name]) for name in ("data", "teacher", "teacher_logits")}
    more = tuple(map(_artifact, spec["context"]["more_teachers"]))
    context = Context(**(spec["context"] | artifacts | {"more_teachers": more}))
    trial = run_trial(
        SearchConfig.model_validate_json(json.dumps(spec["config"])),
        context,
        [Trial(**row) for row in spec["known"]],
        spec["number"],
        spec["point"],
    )
    Path(sys.argv[2]).write_text(json.dumps(asdict(trial)), encoding="utf-8")


def _artifact(row: dict[str, Any]) -> Artifact:
    return Artifact(**(row | {"path": Path(row["path"]), "parents": tuple(row["parents"])}))


def run_trial(
    config: SearchConfig, context: Context, known: Sequence[Trial], number: int, point: dict[str, Any]
) -> Trial:
    """Sketch a point, and train it if it keeps the limits and can still win."""
    start = time.perf_counter()
    try:
        trial = _sketch(config, context, number, point)
        why_not = _beyond(config, trial)
        better = _better(trial, known)
        if why_not:
            trial = replace(trial, state="beyond_limits", why=why_not)
        elif better is not None:
            trial = replace(trial, state="cannot_win", why=f"point {better.number} is better in all that is known")
        else:
            trial = _train(config, context, trial)
    except RetortError as error:
        trial = Trial(number=number, point=point, state="failed", why=str(error))
    trial = replace(trial, seconds=round(time.perf_counter() - start, 1))
    log.info("point %d %s: %s %s", number, _short(point), trial.state, trial.why or _told(trial))
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
    share = 1.0 - point["sparsity"] * (1 - PACKED_SHARE)
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
        accuracy=round(_accuracy(artifact, context), 4),
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


def _beyond(config: SearchConfig, trial: Trial) -> str:
    """Which limit the point breaks, if any."""
    if config.size_mb is not None and _known(trial.size_mb) > config.size_mb:
        return f"{trial.size_mb:.2f} MB, more than {config.size_mb:g}"
    if config.latency_ms is not None and _known(trial.latency_ms) > config.latency_ms:
        return f"{trial.latency_ms:.2f} ms, more than {config.latency_ms:g}"
    return ""


def _better(trial: Trial, known: Sequence[Trial]) -> Trial | None:
    """A trained point that is as small, as fast and as promising, and better in one of them."""
    for other in known:
        if other.state != "trained":
            continue
        pairs = [(other.latency_ms, trial.latency_ms), (other.size_mb, trial.size_mb)]
        pairs.append((-_known(other.probe), -_known(trial.probe)))
        if all(_known(a) <= _known(b) for a, b in pairs) and any(_known(a) < _known(b) for a, b in pairs):
            return other
    return None


class _Study:
    """Optuna's study in a journal file that outlives a kill, and our own record of each trial in it."""

    def __init__(self, config: SearchConfig, work: Path) -> None:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space = config.space
        self.study = optuna.create_study(
            study_name="search",
            storage=JournalStorage(JournalFileBackend(str(work / "optuna.journal"))),
            load_if_exists=True,
            directions=["maximize", "minimize", "minimize"],
            sampler=optuna.samplers.TPESampler(seed=config.seed, n_startup_trials=min(10, config.trials // 2)),
        )
        self.waiting: dict[int, Any] = {}
        if not self.study.trials:
            for corner in _corners(self.space):
                self.study.enqueue_trial(corner)
        self._take_up_the_cut_off()

    @property
    def trials(self) -> list[Trial]:
        """What was finished, now or before a kill, in the order of the numbers."""
        rows = [trial.user_attrs["row"] for trial in self.study.trials if "row" in trial.user_attrs]
        return [Trial(**row) for row in sorted(rows, key=lambda row: row["number"])]

    @property
    def spent_s(self) -> float:
        """Seconds that were spent before a kill."""
        return float(self.study.user_attrs.get("spent_s", 0.0))

    def ask(self, count: int) -> list[tuple[int, dict[str, Any]]]:
        """Up to `count` points that were not proposed before; fewer when the space is used up."""
        seen = {_key(trial.point) for trial in self.trials}
        fresh: list[tuple[int, dict[str, Any]]] = []
        tries = 0
        while len(fresh) < count and len(seen) < _num_points(self.space) and tries < 50:
            proposal = self.study.ask()
            point = {
                name: values[proposal.suggest_int(name, 0, len(values) - 1)] for name, values in self.space.items()
            }
            tries += 1
            if _key(point) in seen:
                self.study.tell(proposal, state=self._failed())
                continue
            seen.add(_key(point))
            fresh.append((self._waits(proposal), point))
        return fresh or self._first_unseen(seen, count)

    def tell(self, trial: Trial, spent_s: float) -> None:
        """Record a finished trial; one that was not trained counts as its probe says, at most."""
        proposal = self.waiting.pop(trial.number)
        proposal.set_user_attr("row", asdict(trial))
        self.study.set_user_attr("spent_s", spent_s)
        if trial.state == "failed":
            self.study.tell(proposal, state=self._failed())
            return
        accuracy = trial.accuracy if trial.accuracy is not None else min(_known(trial.probe), 0.0)
        self.study.tell(proposal, [accuracy, _known(trial.latency_ms), _known(trial.size_mb)])

    def _first_unseen(self, seen: set[str], count: int) -> list[tuple[int, dict[str, Any]]]:
        """When the sampler repeats itself: the next points of the grid."""
        found: list[tuple[int, dict[str, Any]]] = []
        names = list(self.space)
        for values in itertools.product(*self.space.values()):
            point = dict(zip(names, values, strict=True))
            if _key(point) not in seen and len(found) < count:
                self.study.enqueue_trial({name: self.space[name].index(value) for name, value in point.items()})
                proposal = self.study.ask()
                for name, choices in self.space.items():
                    proposal.suggest_int(name, 0, len(choices) - 1)
                found.append((self._waits(proposal), point))
        return found

    def _waits(self, proposal: Any) -> int:
        """Our number of a proposal: they count what is looked at, Optuna's also what it proposes again."""
        number = len(self.trials) + len(self.waiting)
        self.waiting[number] = proposal
        return number

    def _take_up_the_cut_off(self) -> None:
        """Trials that a kill interrupted are asked again."""
        import optuna

        for trial in self.study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
            self.study.tell(trial.number, state=self._failed())
            if trial.params:
                self.study.enqueue_trial(trial.params)

    @staticmethod
    def _failed() -> Any:
        import optuna

        return optuna.trial.TrialState.FAIL


def _corners(space: dict[str, list[Any]]) -> list[dict[str, int]]:
    """The largest and the smallest point, which say early what is possible."""

    def extreme(values: list[Any], *, largest: bool) -> int:
        if not all(isinstance(value, int | float) for value in values):
            return 0 if largest else len(values) - 1
        return int(np.argmax(values) if largest else np.argmin(values))

    falling = ("speedup", "sparsity")
    return [
        {name: extreme(values, largest=largest != (name in falling)) for name, values in space.items()}
        for largest in (True, False)
    ]


def _num_points(space: dict[str, list[Any]]) -> int:
    return int(np.prod([len(values) for values in space.values()]))


def _key(point: dict[str, Any]) -> str:
    return json.dumps(point, sort_keys=True)


def _known(value: float | None) -> float:
    """Raises: RetortError when something was not measured that has to be."""
    if value is None:
        raise RetortError("search: a trial lacks a measured value; report this with its search.json")
    return value


def _preference(config: SearchConfig, trial: Trial) -> float:
    value = {"latency": trial.latency_ms, "size": trial.size_mb, "accuracy": trial.accuracy}[config.prefer]
    return -_known(value) if config.prefer == "accuracy" else _known(value)


def _told(trial: Trial) -> str:
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


def _teacher_accuracy(context: Context) -> float:
    """Of the teacher alone, which the gate compares with."""
    texts = read_split(context.data.path, "validation").texts
    alone = not context.more_teachers
    stored = context.teacher_logits.path / "validation.npy"
    logits_NC = np.load(stored) if alone else torch_logits(context.teacher.path, texts, context.max_tokens)
    return float((logits_NC.argmax(axis=1) == _validation_labels(context)).mean())


def _accuracy(artifact: Artifact, context: Context) -> float:
    texts = read_split(context.data.path, "validation").texts
    predicted_N = Predictor(artifact.path, check=False).predict_logits(texts).argmax(axis=1)
    return float((predicted_N == _validation_labels(context)).mean())


def _validation_labels(context: Context) -> Any:
    return label_targets(read_split(context.data.path, "validation"), read_labels(context.data.path))["label"]


if __name__ == "__main__":
    main()
