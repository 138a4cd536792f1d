"""The rows of streams that change: delays and misses, needless and wasted retrains, and what the whole loop costs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flows.bench import row
from flows.bench_drift.lab import Lab, seeded
from flows.bench_drift.prices import PRICES, Prices, cost
from flows.bench_drift.shifts import ORACLE, benign, harmful, of_policy, replay_all
from tasks.stats.proportion import wilson

Records = Sequence[Mapping[str, Any]]
Row = dict[str, Any]

MAX_MISSED, MAX_LABELS, MAX_NEEDLESS, MAX_WASTED = 5.0, 500, 10.0, 20.0
WASTED = 0.01
"""Accuracy that a challenger has to gain on the next window."""
NUM_RESAMPLES = 2_000


def harm_rows(lab: Lab) -> list[Row]:
    """Misses and delays where accuracy falls by 5 points or more."""
    records = replay_all(lab)
    every = harmful(records)
    if not every:
        return [row("harmful shifts", None, "", "no stream whose change costs 5 points was measured")]
    ours = of_policy(every, "Retort")
    rows = [missed_row("harmful shifts", ours, every, target=True)]
    for shape in sorted({_shape(one) for one in ours}):
        rows.append(missed_row(f"harmful shifts, {shape}", [one for one in ours if _shape(one) == shape], every))
    rows += delay_rows("harmful shifts", ours, target=True)
    return rows + [stream_row(name, [one for one in of_policy(records, "Retort") if one["stream"] == name])
                   for name in sorted({one["stream"] for one in records if one["change"] is not None})]  # fmt: skip


def _shape(record: Mapping[str, Any]) -> str:
    return str(record["stream"].rpartition(", ")[2])


def missed_row(metric: str, ours: Records, every: Records, *, target: bool = False) -> Row:
    """Per cent of the streams on which no retrain followed the change."""
    missed = [one["retrain_requests"] is None for one in ours]
    found = wilson(sum(missed), len(missed))
    names = sorted({one["policy"] for one in every} - {"Retort", ORACLE})
    others = {name: [one["retrain_requests"] is None for one in of_policy(every, name)] for name in names}
    beside = ", ".join(f"{name} {100 * np.mean(values):.0f} %" for name, values in others.items()) if target else ""
    against = f"{len(missed)} replays; interval {100 * found.low:.0f}-{100 * found.high:.0f} %" + f"; {beside}" * target
    value = 100 * found.value
    wanted = (f"<= {MAX_MISSED:g} %", value <= MAX_MISSED) if target else ("", None)
    return row(f"{metric}: missed", value, "%", against, None, *wanted)


def delay_rows(metric: str, ours: Records, *, target: bool = False) -> list[Row]:
    """From the change to the first alarm and to the retrain; a miss counts as longer than any delay."""
    alarm = _median(one["alarm_requests"] for one in ours)
    requests = _median(one["retrain_requests"] for one in ours)
    labels = _median(one["retrain_labels"] for one in ours)
    caught = [one["retrain_labels"] for one in ours if one["retrain_labels"] is not None]
    spread = (
        f"of those caught: quartiles {np.quantile(caught, 0.25):.0f}-{np.quantile(caught, 0.75):.0f}" if caught else ""
    )
    wanted = (f"<= {MAX_LABELS}", labels is not None and labels <= MAX_LABELS) if target else ("", None)
    return [
        row(f"{metric}: requests to the first alarm of any kind, median", alarm, ""),
        row(f"{metric}: requests to the retrain, median", requests, ""),
        row(f"{metric}: audit labels to the retrain, median", labels, "", spread, None, *wanted),
    ]  # fmt: skip


def _median(values: Any) -> float | None:
    """Null where half of the values or more are missing."""
    middle = float(np.median([np.inf if value is None else value for value in values]))
    return middle if np.isfinite(middle) else None


def stream_row(name: str, ours: Records) -> Row:
    """One planted change: what it costs and what was done, for the reader."""
    lost = 100 * float(np.mean([one["fall"] for one in ours]))
    early = [sum(look * one["step"] <= one["change"] for look in one["retrains"]) for one in ours]
    states = [state for one in ours for state in one["states"][one["change"] // one["step"] :]]
    seen = ", ".join(f"{state} {100 * states.count(state) / len(states):.0f} %" for state in sorted(set(states)))
    delays = ", ".join(str(one["retrain_labels"]) if one["retrain_labels"] is not None else "-" for one in ours)
    against = f"labels to the retrain {delays}; retrains before the change {sum(early)}; looks after it: {seen}"
    return row(f"{name}: accuracy lost", lost, "points", against)


def benign_rows(lab: Lab) -> list[Row]:
    """Retrains that no loss of accuracy asked for."""
    every = benign(replay_all(lab))
    ours = of_policy(every, "Retort")
    if not ours:
        return [row("benign shifts", None, "", "no stream whose change costs 1 point or less was measured")]
    retrained = [bool(one["retrains"]) for one in ours]
    found = wilson(sum(retrained), len(retrained))
    names = sorted({one["policy"] for one in every} - {"Retort", "never", ORACLE})
    beside = ", ".join(f"{name} {100 * np.mean([bool(one['retrains']) for one in of_policy(every, name)]):.0f} %"
                       for name in names)  # fmt: skip
    states = [state for one in ours for state in one["states"][one["change"] // one["step"] :]]
    seen = ", ".join(f"{state} {100 * states.count(state) / len(states):.0f} %" for state in sorted(set(states)))
    value = 100 * found.value
    against = f"{len(ours)} replays; interval {100 * found.low:.0f}-{100 * found.high:.0f} %; {beside}; looks: {seen}"
    return [row("benign shifts: retrained", value, "%", against, target=f"<= {MAX_NEEDLESS:g} %",
                met=value <= MAX_NEEDLESS)]  # fmt: skip


def wasted_rows(lab: Lab) -> list[Row]:
    """Retrains whose model gains less than a point on the next window, and the baselines that miss no more."""
    records = replay_all(lab)
    shares = {name: wasted_share(of_policy(records, name)) for name in sorted({one["policy"] for one in records})}
    recalls = {name: recall(of_policy(harmful(records), name)) for name in shares}
    ours, our_recall = shares["Retort"], recalls["Retort"]
    others = {name: share for name, share in shares.items() if name not in ("Retort", ORACLE)}
    matched = {name: share for name, share in others.items() if share is not None and recalls[name] >= our_recall}
    below = ours is not None and all(ours < share for share in matched.values())
    against = ", ".join(f"{name} {100 * share:.0f} % at recall {100 * recalls[name]:.0f} %"
                        for name, share in shares.items() if share is not None and name != "Retort")  # fmt: skip
    value = None if ours is None else 100 * ours
    return [
        row("wasted retrains", value, "%", f"recall {100 * our_recall:.0f} %", target=f"<= {MAX_WASTED:g} %",
            met=value is not None and value <= MAX_WASTED),
        row("wasted retrains, the least of the baselines at no less recall",
            100 * min(matched.values()) if matched else None, "%", against,
            (min(matched.values()) / ours if matched and ours else None), "above Retort's", below),
    ]  # fmt: skip


def wasted_share(records: Records) -> float | None:
    """Of the retrains that a whole window followed; null where there was none."""
    gains = [gain for one in records for gain in one["gains"] if gain is not None]
    return float(np.mean([gain < WASTED for gain in gains])) if gains else None


def recall(records: Records) -> float:
    """Share of the harmful changes that a retrain followed."""
    return float(np.mean([one["retrain_requests"] is not None for one in records])) if records else float("nan")


def loop_rows(lab: Lab) -> list[Row]:
    """Avoidable errors, labels and retrains together, of all policies on all streams."""
    records = replay_all(lab)
    rows = cost_rows(records, PRICES[0], "whole loop", target=True)
    for prices in PRICES[1:]:
        rows += cost_rows(records, prices, "whole loop at other prices")[:1]
    return rows


def cost_rows(records: Records, prices: Prices, metric: str, *, target: bool = False) -> list[Row]:
    """Cost above the oracle's per 1,000 requests: Retort's, then each baseline's and by how much it is more."""
    costs = {name: by_stream(records, name, prices) for name in sorted({one["policy"] for one in records})}
    best = costs.pop(ORACLE)
    excess = {name: {stream: found[stream] - best[stream] for stream in best} for name, found in costs.items()}
    means = {name: float(np.mean(list(found.values()))) for name, found in excess.items()}
    rest = {name: value for name, value in means.items() if name != "Retort"}
    runner_up = min(rest, key=lambda name: rest[name])
    ours = means["Retort"]
    wanted = ("the least of all", ours < rest[runner_up]) if target else ("", None)
    against = f"{prices}; least of the others: {runner_up} {rest[runner_up]:.1f}"
    rows = [row(f"{metric}: cost above the oracle's", ours, "per 1,000 requests", against, rest[runner_up] / ours,
                *wanted)]  # fmt: skip
    for name, value in sorted(rest.items(), key=lambda item: item[1]):
        low, high = difference_interval(excess[name], excess["Retort"])
        rows.append(row(f"{metric}: {name}", value, "per 1,000 requests",
                        f"above Retort by {value - ours:.1f}, interval {low:.1f} to {high:.1f} over streams",
                        value / ours))  # fmt: skip
    return rows


def by_stream(records: Records, policy: str, prices: Prices) -> dict[str, float]:
    """Mean cost per 1,000 requests of each stream, over its seeds."""
    found: dict[str, list[float]] = {}
    for one in of_policy(records, policy):
        found.setdefault(one["stream"], []).append(1_000 * cost(one, prices) / (len(one["errors"]) * one["step"]))
    return {stream: float(np.mean(values)) for stream, values in found.items()}


def difference_interval(theirs: Mapping[str, float], ours: Mapping[str, float]) -> tuple[float, float]:
    """95 % interval of the mean difference, streams drawn with replacement."""
    rng = seeded("streams")
    differences = np.array([theirs[stream] - ours[stream] for stream in theirs])
    means = differences[rng.integers(len(differences), size=(NUM_RESAMPLES, len(differences)))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)
