"""Which trained point is best, and why in words."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bento.errors import RetortError
from tasks.search.space import SearchConfig
from tasks.search.trials import Trial, beyond_limits, measured, told


def pareto_front(rows: Sequence[Sequence[float]]) -> list[bool]:
    """Whether no other row is at least as good in every column and better in one; larger is better."""
    values = np.asarray(rows, dtype=np.float64)
    front = []
    for row in values:
        at_least, better = (values >= row).all(axis=1), (values > row).any(axis=1)
        front.append(not bool((at_least & better).any()))
    return front


def with_front(trials: Sequence[Trial]) -> list[Trial]:
    """The trials, those marked that no other trained one beats in accuracy, time and size."""
    trained = [trial for trial in trials if trial.state == "trained"]
    rows = [(measured(t.accuracy), -measured(t.latency_ms), -measured(t.size_mb)) for t in trained]
    marks = dict(zip((trial.number for trial in trained), pareto_front(rows) if rows else [], strict=True))
    return [replace(trial, on_front=marks.get(trial.number, False)) for trial in trials]


def choose(config: SearchConfig, trials: Sequence[Trial], teacher_accuracy: float) -> tuple[Trial, str]:
    """The best trained point within the limits, and why in words; without one, the most accurate.

    Raises: RetortError when nothing was trained.
    """
    trained = [trial for trial in trials if trial.state == "trained"]
    if not trained:
        reasons = "; ".join(f"{trial.number}: {trial.why}" for trial in list(trials)[:5])
        if trials and all(trial.state == "failed" for trial in trials):
            raise RetortError(
                f"search: expected a point that can be made, but all {len(trials)} failed ({reasons}); the log has "
                "each with its cause: mend that, or take it out of the space"
            )
        raise RetortError(
            f"search: none of {len(trials)} points could be trained ({reasons}); widen the limits or space"
        )
    least = teacher_accuracy - config.accuracy_drop
    within = [trial for trial in trained if measured(trial.accuracy) >= least and not beyond_limits(config, trial)]
    if not within:
        best = max(trained, key=lambda trial: measured(trial.accuracy))
        return best, (
            f"Point {best.number} is the most accurate of {len(trained)} trained ones ({told(best)}); none kept the "
            f"accuracy of {least:.4f} that the teacher's {teacher_accuracy:.4f} less {config.accuracy_drop:g} asks for."
        )
    best = min(within, key=lambda trial: _preference(config, trial))
    others = [
        trial for trial in trained if trial not in within and _preference(config, trial) < _preference(config, best)
    ]
    passed_over = (
        f" Better in {config.prefer} but not accurate enough: "
        + ", ".join(f"point {trial.number} ({told(trial)})" for trial in others[:3])
        + "."
        if others
        else ""
    )
    words = {"latency": "answers soonest", "size": "is smallest", "accuracy": "is most accurate"}[config.prefer]
    return best, (
        f"Point {best.number} {words} of the {len(within)} that keep every limit, among {len(trained)} trained and "
        f"{len(trials)} looked at: {told(best)}; teacher {teacher_accuracy:.4f}.{passed_over}"
    )


def _preference(config: SearchConfig, trial: Trial) -> float:
    value = {"latency": trial.latency_ms, "size": trial.size_mb, "accuracy": trial.accuracy}[config.prefer]
    return -measured(value) if config.prefer == "accuracy" else measured(value)
