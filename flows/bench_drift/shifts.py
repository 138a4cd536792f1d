"""Streams that change: each policy replayed on the same requests, labels and models, and what came of it.

Shapes: T looks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.bench_drift.corpus import Corpus
from flows.bench_drift.lab import Lab, corpora_here, seeded
from flows.bench_drift.oracle import best_retrains
from flows.bench_drift.policies import BASELINES, at_random, retort
from flows.bench_drift.prices import PRICES
from flows.bench_drift.replay import Policy, Run, Setup, Trace, replay
from flows.bench_drift.streams import NATURAL, SHIFTS, Stream

HARMFUL, HARMLESS = 0.05, 0.01
"""Loss of the first champion's accuracy from which on a change is harmful, and up to which it is benign."""
OWN_RATE = 0.05
"""Share of the requests that Retort's service draws while nothing is suspected: its default. The baselines buy labels
when they retrain alone, so more of them are there to be bought."""
MATCHED, ORACLE = "random, matched rate", "oracle in hindsight"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One stream with one seed."""

    key: tuple[str, str]
    shape: str
    seed: int
    setup: Setup


def replay_all(lab: Lab) -> list[dict[str, Any]]:
    """A record for each stream, seed and policy; measured once for all parts that read them."""
    if "shifts" not in lab.details:
        jobs = [
            Job(key=key, shape=shape, seed=seed, setup=lab.setup)
            for seed in range(lab.effort.num_seeds)
            for keys, shapes in ((SHIFTS, lab.effort.shapes), (NATURAL, ("in time",)))
            for key in keys
            for shape in shapes
            if key[0] in lab.corpora
        ]
        found = lab.share_out(play, jobs, "streams that change")
        lab.details["shifts"] = [record for records in found for record in records]
    return list(lab.details["shifts"])


def play(job: Job) -> list[dict[str, Any]]:
    """The records of all policies on one stream."""
    rng = seeded("shift", *job.key, job.shape, job.seed)
    stream = cut(corpora_here()[job.key[0]], job.key, job.shape, rng)
    return play_stream(stream, job.setup, job.seed, rng)


def cut(corpus: Corpus, key: tuple[str, str], shape: str, rng: np.random.Generator) -> Stream:
    """The stream of this name."""
    return {**SHIFTS, **NATURAL}[key](corpus, ramped=shape == "ramped", rng=rng)


def play_stream(stream: Stream, setup: Setup, seed: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Retort first, since one baseline retrains as often; its labels are its own, since it decides how many come."""
    run, own = Run(stream, setup, rng), Run(stream, replace(setup, audit_rate=OWN_RATE), rng)
    ours = replay(own, "Retort", retort(own, rng))
    traces = [ours, *(replay(run, name, policy(run, rng)) for name, policy in BASELINES.items())]
    traces.append(replay(run, MATCHED, at_random(len(ours.retrains), run, rng)))
    chosen = set(best_retrains(run, PRICES[0]))
    traces.append(replay(run, ORACLE, _planned(chosen)))
    return [record(trace, seed) for trace in traces]


def _planned(chosen: set[int]) -> Policy:
    return lambda moment: "retrain" if moment.look in chosen else "none"


def record(trace: Trace, seed: int) -> dict[str, Any]:
    """What a trace shows, as plain values."""
    run, stream = trace.run, trace.run.stream
    change = stream.change
    found: dict[str, Any] = {
        "stream": stream.name,
        "corpus": stream.corpus.name,
        "seed": seed,
        "policy": trace.policy,
        "step": run.setup.step,
        "change": change,
        "fall": fall(run),
        "states": trace.states,
        "retrains": trace.retrains,
        "gains": [trace.gain(look) for look in trace.retrains],
        "errors": trace.errors_T.tolist(),
        "labels_T": [len(run.labelled(0, look)) for look in range(run.num_looks + 1)],
    }
    return found | (_delays(run, trace, change) if change is not None else {})


def fall(run: Run) -> float | None:
    """Accuracy that the first champion loses by a planted change once it is complete; null without one."""
    stream = run.stream
    if stream.change is None or stream.settled is None:
        return None
    correct_L = run.model(0).correct_L
    return float(correct_L[: stream.change].mean() - correct_L[stream.settled :].mean())


def _delays(run: Run, trace: Trace, change: int) -> dict[str, Any]:
    """Requests and labels from the change to the first alarm and to the first retrain; null where there was none."""
    after = [(at + 1, state) for at, state in enumerate(trace.states) if (at + 1) * run.setup.step > change]
    alarm = next((look for look, state in after if state not in ("none", "no_drift")), None)
    retrain = next((look for look, state in after if state == "retrain"), None)
    return {
        "alarm_requests": None if alarm is None else alarm * run.setup.step - change,
        "retrain_requests": None if retrain is None else retrain * run.setup.step - change,
        "retrain_labels": None if retrain is None else len(run.labelled(change, retrain)),
        "labels_after": len(run.labelled(change, run.num_looks)),
    }


def of_policy(records: Sequence[Mapping[str, Any]], policy: str) -> list[Mapping[str, Any]]:
    """The records of one policy."""
    return [one for one in records if one["policy"] == policy]


def harmful(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of planted changes that cost the first champion 5 points or more."""
    return [one for one in records if one["fall"] is not None and one["fall"] >= HARMFUL]


def benign(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of planted changes that cost it no more than 1 point."""
    return [one for one in records if one["fall"] is not None and one["fall"] <= HARMLESS]


def errors_of(records: Sequence[Mapping[str, Any]]) -> NDArray[np.int64]:
    """Wrong answers of each record."""
    return np.array([sum(one["errors"]) for one in records])
