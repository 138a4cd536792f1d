"""`retort bench experiment`: how often the e-processes promote and veto, and how many labels that takes, by simulation.

Each trial is a stream of requests that two models answer, looked at after each one, with labels for the disagreements.
The sample of fixed size that METHODS plans with (a score test, looked at once) is what the labels are compared with.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.bench import row
from flows.config import Config
from tasks.experiment.config import ExperimentConfig
from tasks.stats.paired import needed_n
from tasks.stats.sequential import not_worse, worse

NUM_TRIALS = 1_000
DISAGREEMENTS = (0.04, 0.08)
BOTH_WRONG = 0.15
"""Share of the disagreements at which neither model is right."""
GAINS = (-2.0, -1.0, 0.0, 1.0, 2.0)
"""What the challenger gains in truth, in units of delta."""
MAX_AT_MARGIN, MAX_BEYOND = 0.05, 0.005

Rng = np.random.Generator
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """How one experiment ended: promoted, vetoed, or neither, and after how many labels."""

    promoted: bool
    vetoed: bool
    num_labels: int


def run_trial(rng: Rng, gain: float, disagreement: float, config: ExperimentConfig) -> Trial:
    """One stream until the first process decides or the labels are used up."""
    at = np.cumsum(rng.geometric(disagreement, config.max_labels)) - 1
    right = (disagreement * (1 - BOTH_WRONG) + gain) / 2 / disagreement
    d_N = np.zeros(at[-1] + 1)
    d_N[at] = rng.choice([1.0, 0.0, -1.0], size=len(at), p=[right, BOTH_WRONG, 1 - BOTH_WRONG - right])
    good, bad = (_first_over(process(d_N, config.delta), config.alpha) for process in (not_worse, worse))
    return Trial(promoted=good < bad, vetoed=bad < good, num_labels=int(np.searchsorted(at, min(good, bad, len(d_N)))))


def _first_over(log_N: Floats, alpha: float) -> int:
    over = np.flatnonzero(log_N >= -np.log(alpha))
    return int(over[0]) + 1 if len(over) else sys.maxsize


def bench_experiment(chosen: Config) -> dict[str, Any]:
    """Size and power under the config's `release.experiment`, or under the defaults."""
    config = chosen.release.experiment or ExperimentConfig()
    rng = np.random.default_rng(0)
    title = (
        f"{NUM_TRIALS:,} simulated experiments a line: delta {100 * config.delta:g} points, alpha {config.alpha:g}, "
        f"at most {config.max_labels:,} labels, looked at after each request"
    )
    rows = [line for share in DISAGREEMENTS for gain in GAINS for line in _rows(rng, gain, share, config)]
    return {"title": title, "rows": rows}


def _rows(rng: Rng, gain: float, disagreement: float, config: ExperimentConfig) -> Iterator[dict[str, Any]]:
    if abs(gain) * config.delta > disagreement * (1 - BOTH_WRONG):
        return
    trials = [run_trial(rng, gain * config.delta, disagreement, config) for _ in range(NUM_TRIALS)]
    promoted, vetoed = (100 * float(np.mean([getattr(one, key) for one in trials])) for key in ("promoted", "vetoed"))
    what = f"{gain:+g} delta, {disagreement:.0%} answered differently"
    limit = {-1.0: MAX_AT_MARGIN, -2.0: MAX_BEYOND}.get(gain)
    target = "" if limit is None else f"at most {100 * limit:g} %"
    yield row(f"promoted: {what}", promoted, "%", target=target, met=None if limit is None else promoted <= 100 * limit)
    yield row(f"vetoed: {what}", vetoed, "%")
    labels = float(np.median([one.num_labels for one in trials]))
    n = needed_n(disagreement, config.delta, difference=gain * config.delta)
    fixed = None if n is None else n * disagreement
    against = "" if fixed is None else f"one look at {n:,} requests, {fixed:.0f} labels, power 80 %"
    yield row(f"median labels: {what}", labels, "", against, None if fixed is None else labels / fixed)
