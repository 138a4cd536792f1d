"""What a run of the model costs, and which texts had better share one.

A run takes time of its own and time for each of its tokens, padding included:

    ms(B texts padded to T tokens) = run + text·B + token·B·T + attention·B·T²

A shared run saves the first term and pays for padding. Batching by count over mixed lengths can therefore lose to no
batching, and a batch by cost cannot.
"""

from collections.abc import Sequence
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

FIXED_SHARE = 0.05
"""A run is long enough when its fixed time is this share of the whole: more tokens hardly save more."""
WORTH = 0.5
"""Of a run's own time, what padding may cost for a text to share the run: not all of it is saved, since the text could
share another one. By the cost model of a small encoder, texts of Banking77 of which 64 wait take 1 to 2 % less time
with it than with 1, and as much as with 0.35."""
MAX_BATCH_TOKENS = 4096
"""Bounds the memory of a run."""


class RunCost(BaseModel):
    """Milliseconds of one run, as measured; a model without a measurement has those of three narrow layers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_ms: float = Field(default=0.1, ge=0)
    text_ms: float = Field(default=0.02, ge=0)
    token_ms: float = Field(default=0.01, gt=0)
    attention_ms: float = Field(default=0.0, ge=0)
    """Of each pair of a text's tokens."""

    def of(self, num_texts: int, num_tokens: int) -> float:
        """Milliseconds of a run of so many texts padded to so many tokens."""
        return self.run_ms + num_texts * self.of_text(num_tokens)

    def of_text(self, num_tokens: int) -> float:
        """Milliseconds that one text of so many tokens adds to a run."""
        return self.text_ms + num_tokens * (self.token_ms + self.attention_ms * num_tokens)

    def batch_tokens(self) -> int:
        """Padded tokens at which a run has all that batching can save, `FIXED_SHARE` excepted."""
        return max(1, min(MAX_BATCH_TOKENS, round(self.run_ms / (FIXED_SHARE * self.token_ms))))


class Serving(BaseModel):
    """How a model is best run under load, measured when it was built and stored in its manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threads: int = Field(default=1, ge=1)
    """ONNX Runtime threads of a run."""
    workers: int = Field(default=1, ge=1)
    """Runs at a time."""
    cost: RunCost = RunCost()
    batch_tokens: int = Field(ge=1)
    """Padded tokens of a run; one text may have more."""

    @classmethod
    def of(cls, cost: RunCost, **layout: int) -> Self:
        """With the budget that follows from the cost."""
        return cls(cost=cost, batch_tokens=cost.batch_tokens(), **layout)


def companions(lengths: Sequence[int], cost: RunCost, batch_tokens: int) -> list[int]:
    """Which of the waiting texts, the oldest first, run with the oldest: their places, 0 included.

    The nearest in length come first; the padding that each brings has to cost less than `WORTH` of a run's own time,
    and the padded whole stays within `batch_tokens`.
    """
    chosen, longest = [0], lengths[0]
    for place in sorted(range(1, len(lengths)), key=lambda at: abs(lengths[at] - lengths[0])):
        widest, number = max(longest, lengths[place]), len(chosen)
        if widest * (number + 1) > batch_tokens:
            continue
        apart_ms = number * cost.of_text(longest) + cost.of_text(lengths[place])
        if (number + 1) * cost.of_text(widest) - apart_ms < WORTH * cost.run_ms:
            chosen.append(place)
            longest = widest
    return chosen
