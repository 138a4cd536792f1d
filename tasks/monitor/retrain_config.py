"""The `retrain:` section of a config."""

from typing import Any

from pydantic import Field

from tasks.data.retrain import TrafficConfig
from tasks.gate.config import MarginGate


class FreshGate(MarginGate):
    """Non-inferiority on rows of recent traffic that no model was trained on."""

    margin: float = Field(default=0.05, gt=0, lt=1)
    """Largest acceptable loss against the champion and against the teacher; audited rows are few."""
    min_rows: int = Field(default=50, ge=1)
    """With fewer rows there is no verdict, and so no promotion."""


class RetrainConfig(TrafficConfig):
    """What a retrain learns from, and what it has to prove beside the gates of every build."""

    max_labelled: int = Field(default=20_000, ge=1)
    """Newest labelled texts that are learnt from."""
    transfer: int = Field(default=5_000, ge=0)
    """Newest texts of the request log, without labels, on which the students copy the teacher, at most."""
    fresh: FreshGate = FreshGate()
    """What the candidate must prove on the fresh holdout."""
    frozen_margin: float | None = Field(default=None, gt=0, lt=1)
    """Largest acceptable loss of accuracy and macro-F1 against the champion on the source's test split, where it is
    another than the gate's: a model that follows a distribution which moved for good may lose on the old one."""

    @property
    def of_data(self) -> dict[str, Any]:
        """What of it decides which rows are learnt from, and how."""
        return self.model_dump(include=set(TrafficConfig.model_fields))
