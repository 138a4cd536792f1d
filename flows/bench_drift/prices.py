"""What an error, a label and a retrain cost, all in wrong answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Prices:
    """In units of one wrong answer."""

    label: float
    retrain: float

    def __str__(self) -> str:
        return f"a label {self.label:g}, a retrain {self.retrain:g} wrong answers"


PRICES = (Prices(label=0.1, retrain=10), Prices(label=0.1, retrain=1), Prices(label=0.5, retrain=10),
          Prices(label=0.1, retrain=50))  # fmt: skip
"""The first decides; the others show how much hangs on it."""
WATCHES_LABELS = ("Retort",)
"""Policies that pay for labels as they come; the others buy, when they retrain, those that had come by then."""


def parts_of_cost(record: Mapping[str, Any], prices: Prices) -> dict[str, float]:
    """Wrong answers, labels and retrains of one record, each in wrong answers."""
    last = len(record["errors"]) if record["policy"] in WATCHES_LABELS else max(record["retrains"], default=0)
    return {
        "errors": float(sum(record["errors"])),
        "labels": prices.label * record["labels_T"][last],
        "retrains": prices.retrain * len(record["retrains"]),
    }


def cost(record: Mapping[str, Any], prices: Prices) -> float:
    """All of it."""
    return sum(parts_of_cost(record, prices).values())
