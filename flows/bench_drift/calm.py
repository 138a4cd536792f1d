"""Streams without drift: how often does a policy alarm within all looks that share the budget?"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from flows.bench import row
from flows.bench_drift.corpus import Corpus
from flows.bench_drift.lab import Lab, corpora_here, seeded
from flows.bench_drift.policies import BASELINES, retort
from flows.bench_drift.replay import Moment, Policy, Run, Setup
from flows.bench_drift.streams import calm
from tasks.stats.proportion import clopper_pearson

SLACK = 0.05
"""Above the budget, for the upper bound."""
QUIET = ("no_drift", "none")
STEP = 50
ORDERS = ("shuffled", "natural order")
WATCHED = ("domain classifier", "KS p < .05", "MMD p < .05", "ATC")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One replay."""

    corpus: str
    natural: bool
    seed: int
    setup: Setup


def calm_rows(lab: Lab) -> list[dict[str, Any]]:
    """P(any alarm) with its exact interval, in both orders, and the baselines' on the same replays."""
    setup = replace(lab.setup, step=STEP)
    jobs = [job for natural in (False, True) for job in _jobs(lab, natural, setup)]
    replays = lab.share_out(play, jobs, "without drift")
    lab.details["calm"] = replays
    rows = [
        alarm_row(f"no drift, {order}", [one for one in replays if one["natural"] is bool(natural)], lab)
        for natural, order in enumerate(ORDERS)
    ]
    rows.append(alarm_row("no drift, all", replays, lab))
    return rows + [_by_set(replays, name) for name in sorted({one["corpus"] for one in replays})]


def _jobs(lab: Lab, natural: bool, setup: Setup) -> list[Job]:
    """Replays spread evenly over the sets that are large enough."""
    sets = [name for name, corpus in lab.corpora.items() if make(corpus, natural, 0, setup, lab.effort.looks)]
    each = lab.effort.num_replays // 2
    return (
        [Job(corpus=sets[at % len(sets)], natural=natural, seed=at, setup=setup) for at in range(each)] if sets else []
    )


def make(corpus: Corpus, natural: bool, seed: int, setup: Setup, looks: int) -> Run | None:
    """A replay's stream with its audit; None where the set is too small."""
    rng = seeded("calm", corpus.name, natural, seed)
    stream = calm(corpus, looks * setup.step, natural=natural, rng=rng)
    return None if stream is None else Run(stream, setup, rng)


def play(job: Job) -> dict[str, Any]:
    """The first alarm of each policy: the look and the state, or null."""
    run = make(corpora_here()[job.corpus], job.natural, job.seed, job.setup, job.setup.monitor.looks)
    if run is None:
        raise ValueError(f"expected a set with enough rows, got {job.corpus}; it has to be left out of the jobs")
    rng = seeded("calm policies", job.corpus, job.natural, job.seed)
    policies = {"Retort": retort} | {name: BASELINES[name] for name in WATCHED}
    alarms = {name: first_alarm(run, policy(run, rng)) for name, policy in policies.items()}
    return {"corpus": job.corpus, "natural": job.natural, "seed": job.seed, "alarms": alarms}


def first_alarm(run: Run, policy: Policy) -> dict[str, Any] | None:
    """What a policy says first that is not quiet; looks after it would not change whether it alarmed."""
    for look in range(1, run.num_looks + 1):
        state = policy(Moment(run=run, look=look, champion=0, retrained=None))
        if state not in QUIET:
            return {"look": look, "state": state}
    return None


def alarm_row(metric: str, replays: list[dict[str, Any]], lab: Lab) -> dict[str, Any]:
    """Per cent of the replays with any alarm; with too few replays to tell, no verdict."""
    count = partial(_num_alarms, replays)
    n, num_alarms = len(replays), count("Retort")
    budget = lab.monitor.false_alarm_budget
    limit = budget + SLACK
    found = clopper_pearson(num_alarms, n)
    possible = clopper_pearson(int(budget * n), n).high <= limit
    met = True if found.high <= limit else False if possible or found.value > limit else None
    others = ", ".join(f"{name} {100 * count(name) / n:.0f} %" for name in WATCHED)
    states = [one["alarms"]["Retort"]["state"] for one in replays if one["alarms"]["Retort"]]
    kinds = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states))) or "no alarm"
    against = (
        f"{n} replays of {lab.effort.looks} looks; interval {100 * found.low:.1f}-{100 * found.high:.1f} %; {kinds}; "
        f"baselines: {others}"
    )
    return row(
        f"{metric}: any alarm", 100 * found.value, "%", against, target=f"upper bound <= {100 * limit:g} %", met=met
    )  # fmt: skip


def _num_alarms(replays: list[dict[str, Any]], policy: str) -> int:
    return sum(one["alarms"][policy] is not None for one in replays)


def _by_set(replays: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Retort's alarms on one set, for the reader; too few for a verdict."""
    own = [one for one in replays if one["corpus"] == name]
    orders = {order: [one for one in own if one["natural"] is bool(natural)] for natural, order in enumerate(ORDERS)}
    shares = {order: 100 * _num_alarms(found, "Retort") / len(found) for order, found in orders.items() if found}
    against = ", ".join(f"{order} {share:.0f} %" for order, share in shares.items()) + f"; {len(own)} replays"
    return row(f"no drift, {name}: any alarm", 100 * _num_alarms(own, "Retort") / len(own), "%", against)
