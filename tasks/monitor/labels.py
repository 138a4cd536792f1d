"""Which stored labels say how accurate the champion is: those of a random sample, in the order they became due."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento.audit_records import count_volunteered, drawn_rows, probabilities_between, probabilities_of
from tasks.monitor.config import MonitorConfig
from tasks.monitor.harm import Baseline, HarmEvidence, audit
from tasks.monitor.traffic import Watched, answered, is_sound
from tasks.monitor.triage import Guess, guess, sureness

COMPLETE = 0.9
"""From this share of labelled rows on, which ones are labelled hardly matters."""
MAX_TRAFFIC = 5_000
"""Rows whose confidences sharpen the accuracy."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Labelled rows that are a random sample of the traffic, in the order in which their labels became due."""

    ids: Sequence[int]
    labels: Sequence[str]
    """What the champion said."""
    true_labels: Sequence[str]
    num_waiting: int
    """Labelled rows that are left out."""
    weights_n: NDArray[np.float64]
    """1 / the chance with which each was drawn."""


def settled(labelled_N: NDArray[np.bool_]) -> int:
    """How many of the first rows count: up to the last place where at least `COMPLETE` of them have a label.

    Behind it only some rows have one, and not any: clients complain of what was wrong, and labellers skip what is hard.
    """
    share_N = np.cumsum(labelled_N) / np.arange(1, len(labelled_N) + 1)
    complete = np.flatnonzero(share_N >= COMPLETE)
    return int(complete[-1]) + 1 if len(complete) else 0


def random_sample(rows: Sequence[dict[str, Any]]) -> Sample:
    """The labels of `rows` (id, label, true_label or None, audit_rate; drawn at random, in order) that count."""
    labelled_N = np.array([row["true_label"] is not None for row in rows], dtype=bool)
    num_settled = settled(labelled_N)
    counted = [row for row in rows[:num_settled] if row["true_label"] is not None]
    return Sample(
        ids=[row["id"] for row in counted],
        labels=[row["label"] for row in counted],
        true_labels=[row["true_label"] for row in counted],
        num_waiting=int(labelled_N[num_settled:].sum()),
        weights_n=_weights([row.get("audit_rate") for row in counted]),
    )


def _weights(rates: Sequence[float | None]) -> NDArray[np.float64]:
    """Rows from before the chance was noted count as the rarest, which no suspicion had drawn."""
    lowest = min((rate for rate in rates if rate), default=1.0)
    return 1 / np.array([rate or lowest for rate in rates], dtype=np.float64)


def judge_harm(
    watched: Watched, baseline: Baseline, config: MonitorConfig, *, drift_found: int | None = None
) -> HarmEvidence:
    """Audited accuracy of this champion, and whether it fell; `drift_found` is the newest row when drift first was.

    Labels that clients volunteer, and those of targeted rows, are no random sample and do not count; unless nearly all
    traffic is labelled, when there is nothing to select.
    """
    recent = answered(watched, config)[-config.window :]
    complete = len(recent) > 0 and sum(row["true_label"] is not None for row in recent) >= COMPLETE * len(recent)
    rows = sorted(recent, key=lambda row: row["id"]) if complete else drawn_rows(watched.name, watched.sha256)
    sample = random_sample(rows)
    newest = slice(-config.window, None)
    audited_nC = _probabilities(sample.ids[newest], len(watched.labels))
    traffic_NC = _traffic(watched, sample.ids[newest])
    return audit(
        sample.true_labels,
        sample.labels,
        known_labels=watched.labels,
        baseline=baseline,
        config=config,
        confidence_n=audited_nC.max(axis=1) if len(audited_nC) else None,
        confidence_N=traffic_NC.max(axis=1) if len(traffic_NC) else None,
        weights_n=None if complete else sample.weights_n[newest],
        num_after_drift=0 if drift_found is None else sum(each > drift_found for each in sample.ids),
        num_waiting=sample.num_waiting,
        num_volunteered=0 if complete else count_volunteered(watched.name, watched.sha256),
        triage=_triage(baseline, recent, sample, audited_nC, newest, len(watched.labels)),
    )


def _probabilities(ids: Sequence[int], num_classes: int) -> NDArray[np.float64]:
    found = probabilities_of(ids)
    return _matrix([found[each] for each in ids], num_classes)


def _matrix(rows: Sequence[Any], num_classes: int) -> NDArray[np.float64]:
    """probabilities_NC; of a row that is damaged in the log they are 0."""
    sound = [row if is_sound(row, num_classes) else [0.0] * num_classes for row in rows]
    return np.array(sound, dtype=np.float64).reshape(len(rows), num_classes)


def _traffic(watched: Watched, ids: Sequence[int]) -> NDArray[np.float64]:
    """probabilities_NC of all traffic from the time of the audited rows: those not drawn alone would be more of the
    times at which few were drawn."""
    if not ids:
        return np.empty((0, len(watched.labels)))
    rows = probabilities_between(watched.name, watched.sha256, min(ids), max(ids), most=MAX_TRAFFIC)
    return _matrix([row["probabilities"] for row in rows], len(watched.labels))


def _triage(
    baseline: Baseline,
    recent: Sequence[dict[str, Any]],
    sample: Sample,
    audited_nC: NDArray[np.float64],
    newest: slice,
    num_classes: int,
) -> tuple[Guess, ...]:
    if baseline.held_out is None or not recent:
        return ()
    pairs = zip(sample.true_labels[newest], sample.labels[newest], strict=True)
    correct_n = np.array([true == said for true, said in pairs], dtype=bool)
    traffic_NC = _matrix([row["probabilities"] for row in recent], num_classes)
    return guess(baseline.held_out, sureness(traffic_NC), sureness(audited_nC), correct_n)
