"""How many independent rows are so many rows worth that resemble their neighbours?

Shapes: N rows in order, F features.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

NUM_QUIET = 5
"""Lags in a row that have to be no larger than chance for the dependence to have ended."""
NUM_DEVIATIONS = 2.0
"""Times sqrt(log10(N)) standard deviations of a lag without dependence that count as chance."""
MAX_LAG = 0.2
"""Of the rows: with fewer than five stretches nothing can be said."""


def design_effect(features_NF: Floats) -> float:
    """Variance of the mean of rows in order over that of as many independent ones, at least 1; 1 where no lag tells.

    The autocorrelation of all features together, summed under a flat top whose width comes from the data.
    Sources: Politis and White 2004, Econometric Reviews 23:53, section 3; Kish 1965 for the name.
    """
    num_rows = len(features_NF)
    centred_NF = np.asarray(features_NF, dtype=np.float64) - features_NF.mean(axis=0)
    total = float((centred_NF**2).sum())
    if total <= 1e-12 * num_rows:
        return 1.0
    num_lags = int(MAX_LAG * num_rows)
    lags = np.array([float((centred_NF[lag:] * centred_NF[:-lag]).sum()) / total for lag in range(1, num_lags + 1)])
    spread_FF = centred_NF.T @ centred_NF
    num_features = total**2 / float((spread_FF**2).sum())  # as many independent ones of equal variance
    chance = NUM_DEVIATIONS * np.sqrt(np.log10(num_rows) / (num_rows * num_features))
    width = _last_telling(np.abs(lags + 1 / num_rows) > chance)
    reach = min(2 * width, num_lags)
    top = np.clip(2 - np.arange(1, reach + 1) / max(width, 1), 0, 1)
    found = 1 + 2 * float(top @ lags[:reach])
    lost = (1 + 2 * float(top.sum())) / num_rows  # what the rows' own mean takes out of every lag
    return max(1.0, found / (1 - lost)) if width and lost < 1 else 1.0


def _last_telling(telling: NDArray[np.bool_]) -> int:
    """The first lag after which `NUM_QUIET` in a row tell nothing; 0 where dependence never begins."""
    for lag in range(len(telling)):
        if not telling[lag : lag + NUM_QUIET].any():
            return lag
    return len(telling)
