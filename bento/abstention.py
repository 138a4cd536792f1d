"""Abstention: when the model had better leave the answer to a person.

Shapes: N texts, C classes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field


class Abstention(BaseModel):
    """The rule, as a model folder's manifest stores it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float = Field(ge=0, le=1)
    """Answers with less confidence than this are abstained from."""
    labels: tuple[str, ...] = ()
    """Classes that stand for input out of scope; an answer of one of them is an abstention."""


def scope_confidence(probabilities_NC: Any, labels: Sequence[str], out_of_scope: Sequence[str]) -> NDArray[np.float64]:
    """confidence_N: the largest probability of a class in scope; -1, below every threshold, where a class out of scope
    is the most probable.

    Without classes out of scope it is the largest probability, the usual score of selective classification
    (Geifman and El-Yaniv 2017, arXiv:1705.08500).
    """
    outside_C = np.isin(labels, out_of_scope)
    inside_NC = np.where(outside_C, 0.0, probabilities_NC)
    confidence_N: NDArray[np.float64] = inside_NC.max(axis=1).astype(np.float64)
    confidence_N[outside_C[np.asarray(probabilities_NC).argmax(axis=1)]] = -1.0
    return confidence_N
