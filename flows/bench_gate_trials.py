"""What the trials of `retort bench gate` share, whatever a text has: whether a gate passes, and how often."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from flows.bench import row
from tasks.types import GateReport, Verdict

NUM_TRIALS = 1_000
NUM_PILOT = 200
MAX_PILOTS = 20
"""A pilot may happen to decide; so many that do, one after the other, say that rows enough are there."""
MAX_AT_MARGIN, MAX_BEYOND, MAX_REFUSED = 5.0, 0.1, 20.0  # per cent

Compare = Callable[[int], list[Verdict]]
"""The gate on so many rows, drawn anew."""


def passes(verdicts: list[Verdict]) -> bool:
    """Whether all of them do."""
    return GateReport(verdicts=tuple(verdicts)).outcome == "pass"


def outcomes(trial: Callable[[], list[Verdict]], number: int | None = None) -> list[bool]:
    """Whether each of `number` trials passes; `NUM_TRIALS` without."""
    return [passes(trial()) for _ in range(number or NUM_TRIALS)]


def passed_row(name: str, passed: Sequence[bool], most: float, against: str) -> dict[str, Any]:
    """How often a fault passed, in per cent, of which `most` may."""
    share = 100 * float(np.mean(passed))
    metric = f"{name}: passes of {len(passed):,} trials"
    return row(metric, share, "%", against, target=f"<= {most:g} %", met=share <= most)


def refusals(compare: Compare, *, max_rows: int | None = None) -> list[tuple[int, bool]]:
    """`refused` in each of `NUM_TRIALS`."""
    return [refused(compare, max_rows=max_rows) for _ in range(NUM_TRIALS)]


def refused(compare: Compare, *, max_rows: int | None = None) -> tuple[int, bool]:
    """The rows that the gate asks for, `max_rows` at most, when a few do not decide, and whether it refuses on fresh
    rows of that number.

    Where a few rows decide each time they are what it asks for.
    """
    n = NUM_PILOT
    for _ in range(MAX_PILOTS):
        (pilot,) = compare(NUM_PILOT)
        if pilot.outcome == "inconclusive" and pilot.needed_n is not None:
            n = pilot.needed_n if max_rows is None else min(pilot.needed_n, max_rows)
            break
    return n, not passes(compare(n))


def refused_row(found: Sequence[tuple[int, bool]], metric: str) -> dict[str, Any]:
    """How often equal models were, and the rows that were asked for."""
    asked, were = zip(*found, strict=True)
    share = 100 * float(np.mean(were))
    n = int(np.median(asked))
    against = f"{metric}; rows asked for when {NUM_PILOT} did not decide: {n:,} in the median"
    return row("equal models refused", share, "%", against, target=f"<= {MAX_REFUSED:g} %", met=share <= MAX_REFUSED)
