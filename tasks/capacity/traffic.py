"""A day of traffic: requests in each second, from the request log, from a file, or made up.

Shapes: T seconds.
"""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from bento import database
from bento.errors import UserError

DAY_S = 86_400
MINUTE_S = 60
NIGHT = 0.06
"""Of the busiest hour's rate."""
NUM_BURSTS = 8
STEP = (13.0, 15.0, 1.5)
"""From this hour to that one so many times the usual traffic, at once."""
MAX_SECONDS = 8 * DAY_S
MAX_REQUESTS = 1e12


@dataclass(frozen=True, kw_only=True)
class Day:
    """Requests by second, and where they are from."""

    source: str
    num_T: NDArray[np.float64]

    @property
    def mean_per_s(self) -> float:
        return float(self.num_T.mean())

    @property
    def busiest_per_s(self) -> float:
        """Mean rate of the busiest minute."""
        return float(self.by_minute().max())

    def by_minute(self) -> NDArray[np.float64]:
        """Mean rate of each minute; the last one may be short."""
        starts = np.arange(0, len(self.num_T), MINUTE_S)
        lengths = np.diff([*starts, len(self.num_T)])
        return np.asarray(np.add.reduceat(self.num_T, starts) / lengths)

    @property
    def dispersion(self) -> float:
        """Variance over mean of the requests of a second in its minute, the median minute's; never below that of
        Poisson arrivals, 1."""
        whole = self.num_T[: len(self.num_T) // MINUTE_S * MINUTE_S].reshape(-1, MINUTE_S)
        busy = whole[whole.sum(axis=1) > 0]
        return max(1.0, float(np.median(busy.var(axis=1, ddof=1) / busy.mean(axis=1)))) if len(busy) else 1.0


def logged(name: str, since: float = 0.0) -> Day:
    """The last day of the request log of `name`. Raises: UserError where it is empty or too short."""
    requests = database.requests
    second = sa.cast(sa.func.floor(requests.c.received_at), sa.Integer)
    query = (
        sa.select(second, sa.func.count())
        .where(requests.c.name == name, requests.c.item == 0, requests.c.received_at >= since)
        .group_by(second)
        .order_by(second)
    )
    with database.engine().connect() as connection:
        rows = connection.execute(query).all()
    if len(rows) < 2:
        raise UserError(f"{name}: expected a request log with traffic of at least two seconds, got {len(rows)}")
    last = rows[-1][0]
    kept = [(at, number) for at, number in rows if at > last - DAY_S]
    num_T = np.zeros(last - kept[0][0] + 1)
    for at, number in kept:
        num_T[at - kept[0][0]] = number
    return Day(source=f"the request log of {name}, {len(num_T) / 3600:.1f} hours", num_T=num_T)


def read_day(path: Path) -> Day:
    """A CSV with the columns `at` (seconds, or ISO 8601) and `requests`, those from then until the next row.

    The last row only ends it. Raises: UserError.
    """
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            rows = [(_seconds(row["at"]), _count(row["requests"])) for row in csv.DictReader(lines)]
    except (OSError, KeyError, TypeError, ValueError, OverflowError, csv.Error) as error:
        raise UserError(f"{path}: expected a CSV with the columns at and requests, got: {error!r}") from error
    gaps = np.diff([at for at, _ in rows])
    if len(rows) < 2 or not (gaps >= 1).all() or gaps.sum() > MAX_SECONDS:
        raise UserError(f"{path}: expected rows in order of time, a second or more apart, over at most 8 days")
    whole = np.round(np.cumsum([0, *gaps])).astype(int)
    num_T = np.concatenate(
        [np.full(end - start, rows[at][1] / (end - start)) for at, (start, end) in enumerate(pairwise(whole))]
    )
    if num_T.sum() < 1:
        raise UserError(
            f"{path}: expected at least one request, got {num_T.sum():g} in the rows before the last, which only ends "
            "the day; give a day with traffic"
        )
    return Day(source=str(path), num_T=num_T)


def _count(text: str) -> float:
    """Raises: ValueError for what nobody counts."""
    found = float(text)
    if not 0 <= found <= MAX_REQUESTS:
        raise ValueError(f"requests from 0 to {MAX_REQUESTS:.0e} can be simulated, {text} cannot")
    return found


def _seconds(text: str) -> float:
    """Raises: ValueError for what is no time."""
    try:
        found = float(text)
    except ValueError:
        found = datetime.fromisoformat(text).timestamp()
    if not math.isfinite(found):
        raise ValueError(f"{text} is no time")
    return found


def synthetic(busiest_per_s: float, rng: np.random.Generator) -> Day:
    """A quiet night, a day with two humps, a step at once, and bursts of half a minute to three, at random times.

    `busiest_per_s` is the mean rate of the busiest minute.
    """
    hours_T = np.arange(DAY_S) / 3600
    rate_T = NIGHT + _hump(hours_T, 11, 2.5) + 0.8 * _hump(hours_T, 19, 2.0)
    rate_T[(hours_T >= STEP[0]) & (hours_T < STEP[1])] *= STEP[2]
    for start_s, seconds, times in _bursts(rng):
        rate_T[start_s : start_s + seconds] *= times
    rate_T *= busiest_per_s / Day(source="", num_T=rate_T).busiest_per_s
    return Day(source="a synthetic day", num_T=rng.poisson(rate_T).astype(float))


def _hump(hours_T: NDArray[np.float64], at: float, width: float) -> NDArray[np.float64]:
    return np.asarray(np.exp(-0.5 * ((hours_T - at) / width) ** 2))


def _bursts(rng: np.random.Generator) -> Sequence[tuple[int, int, float]]:
    """Start, length in seconds, and how many times the usual traffic."""
    starts = rng.integers(6 * 3600, 23 * 3600, size=NUM_BURSTS)
    return [(int(at), int(rng.integers(30, 181)), float(rng.uniform(1.2, 2.0))) for at in starts]


def sparkline(values: Sequence[float], width: int, top: float | None = None) -> str:
    """The values, at most `width` of them as the largest of each part, in eight heights up to `top`."""
    parts = np.array_split(np.asarray(values, dtype=float), min(width, len(values)))
    largest = [float(part.max()) for part in parts]
    top = top or max(largest) or 1.0
    return "".join("▁▂▃▄▅▆▇█"[min(7, math.floor(8 * value / top))] for value in largest)
