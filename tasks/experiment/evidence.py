"""What is known of a running experiment, recomputed from logged rows at each look; it writes nothing."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from bento import database
from bento.arm_counts import read_counts, read_units
from bento.arms import CHALLENGER
from tasks.experiment import table
from tasks.experiment.guardrails import Guardrail, read_guardrails
from tasks.experiment.pairs import Pair, differences, read_pairs
from tasks.experiment.table import Experiment
from tasks.release import ledger
from tasks.stats.paired import needed_n
from tasks.stats.sequential import not_worse, worse
from tasks.stats.unpaired import difference_sequence, ratio_look, ratio_p
from tasks.types import Interval

RATIO_ALPHA = 0.001
MIN_SLICE = 20
"""Pairs of a class below which nothing is said of it."""
MIN_UNPAIRED = 100
"""Labels an arm below which the asymptotic interval is not to be trusted."""
NUM_POINTS = 200
"""Of a curve that is kept for the page."""


@dataclass(frozen=True, kw_only=True)
class Process:
    """One e-process: natural logarithms; unknown labels count against what it would show."""

    now: float
    largest: float
    crossed_at: int | None
    """Number of pairs at which it first reached 1/alpha."""
    curve: tuple[float, ...]
    """Its values at `Evidence.points`."""


@dataclass(frozen=True, kw_only=True)
class Slice:
    """The texts of which the old model says one class."""

    label: str
    num_pairs: int
    num_labels: int
    difference: float
    """Mean of new correct - old correct over those that are known."""
    log_e: float
    """Of the process against "not worse by more than slice_delta"."""
    worse: bool


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Whether the arms got the share of the units that they were to have."""

    num_new: int
    num_old: int
    share: float
    p_value: float | None
    look: int | None
    """Number of the fixed look; None before the first."""
    due: bool
    """Whether this is the look's first time, which alone is judged."""

    @property
    def mismatch(self) -> bool:
        """Whether the split is not the planned one, so nothing that was measured on it counts."""
        return self.due and self.p_value is not None and self.p_value < RATIO_ALPHA


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All of it, as it is stored with a look and shown."""

    num_pairs: int
    num_disagreements: int
    num_labels: int
    """Disagreements that are labelled."""
    num_waiting: int
    num_unreadable: int
    """Of those that wait, whose text was hashed or dropped, so that nobody can label them."""
    needed_labels: int | None
    """About so many, if the models are equal; None while they never disagreed."""
    difference: float | None
    """Mean of new correct - old correct over the pairs before the first unknown one."""
    threshold: float
    """Log of 1/alpha."""
    points: tuple[int, ...]
    """Numbers of pairs at which the curves are given."""
    better: Process
    """Against "loses delta or more"."""
    worse: Process
    """Against "loses no more than delta"."""
    slices: tuple[Slice, ...]
    guardrails: tuple[Guardrail, ...]
    num_at_share: int
    """Requests that the challenger answered at the present A/B share."""
    ratio: Ratio | None
    accuracy: Interval | None
    """Of A/B: audited accuracy of the challenger less the champion's, at all looks."""
    latency_ms: Interval | None
    """Of A/B: mean latency of the challenger less the champion's, at all looks."""


def read_evidence(experiment: Experiment, pairs: Sequence[Pair] | None = None) -> Evidence:
    """The evidence as of now. `pairs` are those of `read_pairs`, where they were read before."""
    pairs = read_pairs(experiment) if pairs is None else pairs
    config, waits = experiment.config, [pair for pair in pairs if pair.waits]
    num_disagreements = sum(not pair.agree for pair in pairs)
    low, high = differences(pairs, -1), differences(pairs, 1)
    points = np.unique(np.linspace(1, len(pairs), min(NUM_POINTS, len(pairs)), dtype=np.int64))
    late = experiment.phase == "watch"
    known = low[: np.argmax(low != high)] if waits else low
    return Evidence(
        num_pairs=len(pairs),
        num_disagreements=num_disagreements,
        num_labels=num_disagreements - len(waits),
        num_waiting=len(waits),
        num_unreadable=sum(not pair.readable for pair in waits),
        needed_labels=_needed(num_disagreements, len(pairs), config.delta),
        difference=float(known.mean()) if len(known) else None,
        threshold=float(-np.log(config.alpha)),
        points=tuple(map(int, points)),
        better=_process(not_worse(low, config.delta), config.alpha, points),
        worse=_process(worse(high, config.delta, late=late), config.alpha, points),
        slices=_slices(pairs, high, experiment),
        guardrails=read_guardrails(experiment),
        **_unpaired(experiment),
    )


def _needed(num_disagreements: int, n: int, delta: float) -> int | None:
    if not num_disagreements:
        return None
    needed = needed_n(num_disagreements / n, delta)
    return None if needed is None else round(needed * num_disagreements / n)


def _process(log_N: NDArray[np.float64], alpha: float, points: NDArray[np.int64]) -> Process:
    if not len(log_N):
        return Process(now=0.0, largest=0.0, crossed_at=None, curve=())
    over = np.flatnonzero(log_N >= -np.log(alpha))
    return Process(
        now=float(log_N[-1]),
        largest=float(log_N.max()),
        crossed_at=int(over[0]) + 1 if len(over) else None,
        curve=tuple(float(log_N[at - 1]) for at in points),
    )


def _slices(pairs: Sequence[Pair], high_N: NDArray[np.float64], experiment: Experiment) -> tuple[Slice, ...]:
    """Each class is tested at alpha over the number of the model's classes, the worst first."""
    config = experiment.config
    members = defaultdict(list)
    for at, pair in enumerate(pairs):
        members[pair.old].append(at)
    found = []
    for label, rows in members.items():
        if len(rows) < MIN_SLICE:
            continue
        log_e = float(worse(high_N[rows], config.guardrails.slice_delta).max())
        known = [pairs[at].difference(0) for at in rows if not pairs[at].waits]
        found.append(
            Slice(
                label=label,
                num_pairs=len(rows),
                num_labels=sum(not pairs[at].agree and not pairs[at].waits for at in rows),
                difference=float(np.mean(known)) if known else 0.0,
                log_e=log_e,
                worse=bool(log_e >= np.log(experiment.num_classes / config.alpha)),
            )
        )
    return tuple(sorted(found, key=lambda one: -one.log_e))


def _unpaired(experiment: Experiment) -> dict[str, Any]:
    """What only A/B has."""
    arm = ledger.read_arms(experiment.name).get(CHALLENGER) if experiment.phase == "ab" else None
    if arm is None or arm.version != experiment.challenger:
        return {"num_at_share": 0, "ratio": None, "accuracy": None, "latency_ms": None}
    counts = read_counts(
        experiment.name, version=arm.version.version, arm=CHALLENGER, since=0, salt=arm.salt, share=arm.share
    )
    accuracy = {name: _accuracy_moments(experiment.name, sha256, arm.since) for name, sha256 in _both(experiment)}
    latency = {name: _latency_moments(experiment.name, sha256, arm.since) for name, sha256 in _both(experiment)}
    enough = min(moments[0] for moments in accuracy.values()) >= MIN_UNPAIRED
    alpha = experiment.config.alpha
    return {
        "num_at_share": counts["answered"] + counts["failed"],
        "ratio": _ratio(experiment, arm.salt, arm.share),
        "accuracy": difference_sequence(accuracy["new"], accuracy["old"], alpha=alpha) if enough else None,
        "latency_ms": difference_sequence(latency["new"], latency["old"], alpha=alpha),
    }


def _both(experiment: Experiment) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("new", experiment.challenger.model_sha256), ("old", experiment.champion.model_sha256)


def _accuracy_moments(name: str, sha256: str, since: float) -> tuple[int, float, float]:
    """Number, mean and variance of "correct" over labelled rows of the random audit stream."""
    requests, feedback = database.requests, database.feedback
    same = sa.and_(*(feedback.c[key] == requests.c[key] for key in ("name", "request_id", "item")))
    right = sa.func.sum(sa.case((feedback.c.label == requests.c.label, 1), else_=0))
    statement = (
        sa.select(sa.func.count(), sa.func.coalesce(right, 0))
        .select_from(requests.join(feedback, same))
        .where(requests.c.name == name, requests.c.model_sha256 == sha256, requests.c.audit)
        .where(requests.c.received_at >= since)
    )
    with database.engine().connect() as connection:
        n, num_right = connection.execute(statement).one()
    mean = num_right / n if n else 0.0
    return int(n), mean, mean * (1 - mean)


def _latency_moments(name: str, sha256: str, since: float) -> tuple[int, float, float]:
    """Number, mean and variance of a request's milliseconds."""
    requests, ms = database.requests, database.requests.c.latency_ms
    statement = sa.select(sa.func.count(), sa.func.avg(ms), sa.func.avg(ms * ms)).where(
        requests.c.name == name, requests.c.model_sha256 == sha256, requests.c.item == 0,
        requests.c.received_at >= since,
    )  # fmt: skip
    with database.engine().connect() as connection:
        n, mean, square = connection.execute(statement).one()
    return (int(n), float(mean), max(0.0, float(square) - float(mean) ** 2)) if n else (0, 0.0, 0.0)


def _ratio(experiment: Experiment, salt: str, share: float) -> Ratio:
    """Of each process apart, since two of them may have met the same key; the smallest p times their number."""
    units = [(new, old) for new, old in read_units(experiment.name, salt, share) if new + old > 0]
    num_new, num_old = (sum(counts[at] for counts in units) for at in (0, 1))
    look = ratio_look(num_new + num_old)
    p_value = min(1.0, len(units) * min(ratio_p(*counts, share) for counts in units)) if look is not None else None
    judged = [
        row["evidence"]["ratio"]["look"]
        for row in table.read_looks(experiment.id, limit=1)
        if row["evidence"].get("ratio") and row["evidence"]["ratio"]["share"] == share
    ]
    due = look is not None and (not judged or judged[0] is None or look > judged[0])
    return Ratio(num_new=num_new, num_old=num_old, share=share, p_value=p_value, look=look, due=due)
