"""Errors over time, for data whose rows have one.

Shapes: N rows.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from bento.errors import DataError
from tasks.analysis.inputs import rates
from tasks.data import read_column
from tasks.tables import Rows

NUM_PERIODS = 10

Bools = NDArray[np.bool_]


def read_times(data: Path, column: str) -> NDArray[np.int64]:
    """Seconds since the epoch of the test rows.

    Raises: DataError for a missing column, or counting the values that are no times and showing one.
    """
    import pandas as pd

    values = read_column(data, "test", column)
    numeric = all(isinstance(value, int | float) for value in values)
    options: dict[str, Any] = {"unit": "s"} if numeric else {"format": "ISO8601"}
    times_N = pd.to_datetime(pd.Series(list(values)), utc=True, errors="coerce", **options)
    bad = times_N.isna()
    if bad.any():
        raise DataError(
            f"errors.time: expected ISO 8601 times or seconds since 1970 in the column {column!r}, but {bad.sum():,} "
            f"of {len(bad):,} test rows have none, such as {values[int(bad.argmax())]!r}"
        )
    return np.asarray(times_N.astype("datetime64[s, UTC]").astype("int64"), dtype=np.int64)


def by_period(times_N: NDArray[np.int64], candidate_N: Bools, teacher_N: Bools, measure: str = "accuracy") -> Rows:
    """How often both are right in periods of equally many rows, oldest first."""
    order = np.argsort(times_N, kind="stable")
    return [
        {"from": _day(times_N[rows[0]]), "to": _day(times_N[rows[-1]])}
        | rates(candidate_N[rows], teacher_N[rows], measure)
        for rows in np.array_split(order, min(NUM_PERIODS, len(order)))
    ]


def trend_p(times_N: NDArray[np.int64], correct_N: Bools) -> float:
    """p of H0 "right answers are as frequent early as late", by Kendall's tau-b; 1 where all are right or wrong."""
    if correct_N.all() or not correct_N.any() or len(np.unique(times_N)) < 2:
        return 1.0
    return float(kendalltau(times_N, correct_N).pvalue)


def _day(seconds: Any) -> str:
    return str(np.datetime64(int(seconds), "s").astype("datetime64[D]"))
