"""The error analysis as a config gives it.

Shapes: C classes.
"""

from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from bento.errors import UserError
from tasks.data.rows import listed
from tasks.types import Section


class Cost(Section):
    """What one kind of confusion costs; a class that is left out stands for every one."""

    label: str | None = None
    """The right class."""
    predicted: str | None = None
    """The class that was answered."""
    cost: float = Field(ge=0)
    """In any unit; confusions that no rule names cost 1."""

    @model_validator(mode="after")
    def _names_a_class(self) -> Self:
        """Raises: ValueError."""
        if self.label is None and self.predicted is None:
            raise ValueError("errors.costs: expected label, predicted or both beside the cost")
        return self


class ErrorsConfig(Section):
    """How errors are weighed and where they are looked for."""

    costs: list[Cost] = Field(default=[])
    """Of one class a text; the later rule wins where two name the same confusion."""
    time: str | None = None
    """Column of the data with the time of each row, to see errors over time."""
    max_slices: int = Field(default=20, ge=1, le=200)
    """Slices that the search proposes and the other half of the test rows judges."""

    def check_classes(self, labels: tuple[str, ...]) -> None:
        """Raises: UserError for a cost of a class that the data does not have."""
        named = [label for rule in self.costs for label in (rule.label, rule.predicted) if label is not None]
        unknown = sorted({label for label in named if label not in labels})
        if unknown:
            raise UserError(f"errors.costs: expected classes of the data, got {unknown}; it has {listed(labels)}")

    def costs_CC(self, labels: tuple[str, ...]) -> NDArray[np.float64]:
        """Cost of each true class (row) answered as each class (column); right answers cost nothing."""
        costs_CC = np.ones((len(labels), len(labels)))
        for rule in self.costs:
            row = slice(None) if rule.label is None else labels.index(rule.label)
            column = slice(None) if rule.predicted is None else labels.index(rule.predicted)
            costs_CC[row, column] = rule.cost
        np.fill_diagonal(costs_CC, 0.0)
        return costs_CC
