"""Prior correction: a model that was calibrated under one mix of classes answers for another.

If only the mix moves, p(class | text) moves by Bayes' rule alone: p'_k is proportional to p_k q_k / pi_k, with pi the
mix that the model was calibrated under and q the traffic's (Saerens 2002, Neural Computation 14:21, equation 2.4). No
weight changes, and undoing it is exact.

Shapes: N texts, C classes.
"""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator


class PriorCorrection(BaseModel):
    """The correction, as a model folder's manifest stores it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    before: tuple[float, ...]
    """Share of each class that the model was calibrated under, in the order of its outputs; 0 for one never seen."""
    after: tuple[float, ...]
    """Share of each class in the traffic that it is corrected for; a class that was seen keeps a chance."""
    num_rows: int = Field(ge=1)
    """Texts that `after` was estimated from."""

    @model_validator(mode="after")
    def _shares(self) -> Self:
        ok = len(self.before) == len(self.after) and all(
            abs(sum(shares) - 1) < 1e-3 and min(shares) >= 0 for shares in (self.before, self.after)
        )
        if not ok or any(old > 0 and new <= 0 for old, new in zip(self.before, self.after, strict=True)):
            raise ValueError(
                "prior: expected one share a class, before and after, each summing to 1 and none 0 after that was not "
                f"0 before, got before {self.before} and after {self.after}"
            )
        return self

    @property
    def log_shift_C(self) -> NDArray[np.float32]:
        """What is added to the log probability of each class; 0 where nothing is known of its share."""
        before_C, after_C = np.array(self.before), np.array(self.after)
        known_C = before_C > 0
        ratio_C = np.divide(after_C, before_C, out=np.ones_like(after_C), where=known_C)
        return np.asarray(np.log(ratio_C), dtype=np.float32)

    def undo(self, probabilities_NC: Any) -> NDArray[np.float64]:
        """The probabilities that the model gives without its correction."""
        weighted_NC = np.asarray(probabilities_NC, dtype=np.float64) * np.exp(-self.log_shift_C.astype(np.float64))
        return np.asarray(weighted_NC / np.maximum(weighted_NC.sum(axis=1, keepdims=True), 1e-300))
