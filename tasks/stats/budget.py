"""Spending one false-alarm budget over many looks and many tests."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

MIN_PERMUTATIONS = 9_999


def alpha_per_look(budget: float, looks: int) -> float:
    """Significance level of each of `looks` looks, so that any of them alarms falsely with probability `budget`."""
    return -math.expm1(math.log1p(-budget) / looks)


def spent(budget: float, looks: int, num_looks: int) -> float:
    """Largest chance that any of the first `num_looks` looks alarms falsely, where `looks` spend the whole budget."""
    return -math.expm1(math.log1p(-budget) * num_looks / looks)


def permutations_needed(alpha: float, num_tests: int = 1) -> int:
    """Permutations with which the smallest possible p, 1 / (B + 1), still passes Holm's first step; 9,999 at least."""
    return max(MIN_PERMUTATIONS, math.ceil(num_tests / alpha) - 1)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjusted p-values by name: those <= alpha are rejected with a family-wise error of alpha. Source: Holm 1979."""
    names = sorted(p_values, key=lambda name: p_values[name])
    factors = np.arange(len(names), 0, -1)
    adjusted = np.maximum.accumulate([p_values[name] * factor for name, factor in zip(names, factors, strict=True)])
    return {name: min(1.0, float(value)) for name, value in zip(names, adjusted, strict=True)}


def holm_smallest(p_values: Mapping[str, NDArray[np.floating]]) -> NDArray[np.float64]:
    """The smallest Holm-adjusted p of each of B looks, given the p-values of each test: Bonferroni's first step."""
    smallest_B = np.min([np.asarray(values_B, dtype=np.float64) for values_B in p_values.values()], axis=0)
    return np.asarray(np.minimum(1.0, len(p_values) * smallest_B))
