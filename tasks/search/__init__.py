"""The search: which student, how much pruning and which precision are best on this CPU, by measured trials.

Optuna (Akiba 2019, arXiv:1907.10902) proposes points for three objectives: accuracy on the validation split, time of
one sentence, size of the folder. Each point is first sketched: built without training, it has its true size and time
already, and a ridge regression on what the untrained student puts out says how much of the teacher's answers is left
in it. Only points that keep the limits, and that no trained point beats in all three, are trained; by the last alone
no point that prunes or rounds more beats one that does less, since both come after the probe. Every step of every
trial lies in the store, so trials share what they have in common and a killed search goes on.
"""

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tasks.compress.context import Context
from tasks.data import read_split
from tasks.ensemble import torch_logits
from tasks.search.choice import choose, with_front
from tasks.search.space import SearchConfig, chain_of
from tasks.search.study import Study
from tasks.search.trials import Proposed, Trial, run_apart, run_trial, validation_labels
from tasks.store import Step, run_step

log = logging.getLogger("retort.search")

Submit = Callable[[Sequence[Callable[[], Trial]], SearchConfig], list[Trial]]


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


def one_after_another(calls: Sequence[Callable[[], Trial]], config: SearchConfig) -> list[Trial]:
    """Trials without a task runner."""
    return [call() for call in calls]


def read_search(folder: Path) -> Found:
    """What `search` found."""
    values = json.loads((folder / "search.json").read_text(encoding="utf-8"))
    return Found(**(values | {"trials": [Trial(**row) for row in values["trials"]]}))


def _search(config: SearchConfig, context: Context, submit: Submit, out: Path, work: Path) -> None:
    study = Study(config, work)
    teacher_accuracy = _teacher_accuracy(context)
    least_accuracy = teacher_accuracy - config.accuracy_drop
    begin = time.monotonic() - study.spent_s
    while len(study.trials) < config.trials and time.monotonic() - begin < config.minutes * 60:
        proposed = study.ask(min(config.workers, config.trials - len(study.trials)))
        if not proposed:
            break
        known = tuple(study.trials)
        points = [
            Proposed(number=number, point=point, known=known, least_accuracy=least_accuracy)
            for number, point in proposed
        ]
        calls = [_call(config, context, one) for one in points]
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


def _call(config: SearchConfig, context: Context, proposed: Proposed) -> Callable[[], Trial]:
    """A trial to call; several side by side run in processes of their own, since loading and exporting models change
    what all threads of a process see."""
    run = run_trial if config.workers == 1 and config.runner == "threads" else run_apart
    return partial(run, config, context, proposed)


def _teacher_accuracy(context: Context) -> float:
    """Of the teacher alone, which the gate compares with."""
    texts = read_split(context.data.path, "validation").texts
    alone = not context.more_teachers
    stored = context.teacher_logits.path / "validation.npy"
    logits_NC = np.load(stored) if alone else torch_logits(context.teacher.path, texts, context.max_tokens)
    return float((logits_NC.argmax(axis=1) == validation_labels(context)).mean())
