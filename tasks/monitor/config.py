"""The `monitor:` section of a config."""

from typing import Self

from pydantic import Field, model_validator

from tasks.types import Section

NUM_DRIFT_TESTS = 4
"""Tests that one look corrects for: embeddings, probabilities, predicted labels, descriptors."""


class MonitorConfig(Section):
    """How traffic is watched, how sure an alarm has to be, and when a retrain may start."""

    false_alarm_budget: float = Field(default=0.1, gt=0, lt=1)
    """Largest chance of any false alarm in all `looks`; half of it is spent on drift, half on harm."""
    looks: int = Field(default=90, ge=1)
    """Monitoring passes that share the budget."""
    schedule: str = "0 * * * *"
    """Cron schedule of the passes."""
    window: int = Field(default=1_000, ge=20)
    """Newest distinct texts that a look compares."""
    min_window: int = Field(default=200, ge=20)
    """With fewer distinct texts there is no verdict on drift."""
    reference: int = Field(default=2_000, ge=20)
    """Held-out rows that the window is compared with, at most."""
    min_labels: int = Field(default=50, ge=1)
    """With fewer audited labels there is no verdict on harm."""
    tolerance: float = Field(default=0.05, ge=0, lt=1)
    """Loss of accuracy below the test split's that is not yet harm, as a fraction."""
    cooldown_minutes: float = Field(default=60, ge=0)
    """No retrain sooner than this after the last."""
    components: int = Field(default=32, ge=1)
    """Principal components of the embeddings that are compared."""
    encoder: str | None = None
    """Hub id or folder of the frozen encoder; null is the packaged MiniLM."""
    permutations: int | None = Field(default=None, ge=99)
    """Relabellings of a test; null takes as many as the budget needs."""

    @model_validator(mode="after")
    def _can_alarm(self) -> Self:
        from tasks.stats.budget import alpha_per_look

        if self.min_window > self.window:
            raise ValueError(
                f"min_window is {self.min_window}, above window ({self.window}), so nothing would be judged"
            )
        smallest = alpha_per_look(self.false_alarm_budget / 2, self.looks) / NUM_DRIFT_TESTS
        if self.permutations is not None and 1 / (self.permutations + 1) > smallest:
            raise ValueError(
                f"permutations is {self.permutations}, whose smallest p is above what an alarm needs under this budget "
                f"({smallest:.2g}); leave it out, or set at least {int(1 / smallest) + 1}"
            )
        return self
