"""Where two models err, whatever the task: slices, kinds of input, periods. What counts as right is the caller's.

Shapes: N rows.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.analysis import inputs, over_time, slices
from tasks.analysis.config import ErrorsConfig
from tasks.analysis.files import Tables

Bools = NDArray[np.bool_]


def where_tables(
    config: ErrorsConfig,
    data: Path,
    conditions: slices.Conditions,
    reading: inputs.Reading,
    *,
    candidate_N: Bools,
    teacher_N: Bools,
    measure: str,
    rng: np.random.Generator,
) -> tuple[Tables, float | None]:
    """The tables, and the p of a trend over time, None without times; `measure` is what the share of right answers is
    called."""
    tables: Tables = {
        "slices": (slices.COLUMNS, slices.find_slices(conditions, ~candidate_N, rng, most=config.max_slices)),
        "inputs": (
            ("group", *inputs.rate_columns(measure)),
            inputs.by_reading(reading, candidate_N, teacher_N, measure),
        ),
    }
    if config.time is None:
        return tables, None
    times_N = over_time.read_times(data, config.time)
    periods = over_time.by_period(times_N, candidate_N, teacher_N, measure)
    tables["over_time"] = (("from", "to", *inputs.rate_columns(measure)), periods)
    return tables, over_time.trend_p(times_N, candidate_N)
