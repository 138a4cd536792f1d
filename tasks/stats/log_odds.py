"""Which words one set of texts has more of than another, with a prior that keeps rare words from standing out.

Shapes: V words.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

PRIOR_COUNT = 500.0
"""Words that the prior is worth, distributed as in both sets together; as many as in the source."""


def log_odds_z(first_V: NDArray[np.integer], second_V: NDArray[np.integer]) -> NDArray[np.float64]:
    """z-scores of the log-odds ratio of each word, above 0 where the first set has more of it.

    `first_V` and `second_V` count each word. The prior is an informative Dirichlet one from both sets together.
    Source: Monroe, Colaresi and Quinn 2008, Political Analysis 16:372, equations 15, 16, 18 to 22.
    """
    pooled_V = np.asarray(first_V + second_V, dtype=np.float64)
    prior_V = PRIOR_COUNT * pooled_V / max(1.0, float(pooled_V.sum()))
    one_V, other_V = first_V + prior_V, second_V + prior_V
    return np.asarray((_log_odds(one_V) - _log_odds(other_V)) / np.sqrt(1 / one_V + 1 / other_V))


def two_sided_p(z_V: NDArray[np.floating]) -> NDArray[np.float64]:
    """p-values of z-scores in both directions."""
    return np.asarray(2 * norm.sf(np.abs(z_V)))


def _log_odds(counts_V: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.log(counts_V) - np.log(counts_V.sum() - counts_V))
