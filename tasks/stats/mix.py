"""Are two estimated class mixes the same, as far as so many rows can tell?"""

from collections.abc import Mapping
from math import pi, sqrt

LEAST_DISTANCE = 0.05
"""Total variation below which no correction of a prior changes an answer worth a release."""
NUM_DEVIATIONS = 5.0
"""Standard deviations of chance above its mean that still count as the same: estimates by expectation maximisation
spread more than counts do."""


def total_variation(first: Mapping[str, float], second: Mapping[str, float]) -> float:
    """Half the sum of the absolute differences of the shares; a class that one lacks has none there."""
    return sum(abs(first.get(name, 0.0) - second.get(name, 0.0)) for name in {*first, *second}) / 2


def chance_distance(shares: Mapping[str, float], num_rows: int) -> tuple[float, float]:
    """Mean and standard deviation of the total variation between two samples of `num_rows` of the same mix.

    Each class's difference is taken as normal, and the classes as independent.
    """
    variances = [2 * share * (1 - share) / num_rows for share in shares.values()]
    mean = sqrt(2 / pi) * sum(sqrt(variance) for variance in variances) / 2
    return mean, sqrt((1 - 2 / pi) * sum(variances)) / 2


def same_mix(first: Mapping[str, float], second: Mapping[str, float], num_rows: int) -> bool:
    """Whether `second`, estimated from `num_rows` rows, is no further from `first` than chance puts it."""
    mean, deviation = chance_distance(second, num_rows)
    return total_variation(first, second) <= max(LEAST_DISTANCE, mean + NUM_DEVIATIONS * deviation)
