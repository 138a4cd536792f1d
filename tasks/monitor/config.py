"""The `monitor:` section of a config."""

from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from tasks.types import Section

NUM_DRIFT_TESTS = 4
"""Tests that one look corrects for: embeddings, probabilities, predicted labels, descriptors."""


class CostConfig(Section):
    """What an error, a label and a retrain cost, all in one currency, and how long a retrained model serves."""

    retrain: float = Field(ge=0)
    """Of one retrain: computing and the time of people."""
    error: float = Field(gt=0)
    """Of one wrong answer."""
    requests_per_day: float = Field(gt=0)
    """Answers that the model gives a day."""
    label: float = Field(default=0, ge=0)
    """Of one audited label."""
    labels: int = Field(default=100, ge=0)
    """Labels that judging the retrained model takes."""
    horizon_days: float = Field(default=30, gt=0)
    """How long the retrained model will serve before the next."""


class MonitorConfig(Section):
    """How traffic is watched, how sure an alarm has to be, and when a retrain may start."""

    false_alarm_budget: float = Field(default=0.1, gt=0, lt=1)
    """Largest chance of any false alarm in all `looks` without drift, half of it for drift, half for harm; and of harm
    being found where the input moved and does none."""
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
    tolerance: float = Field(default=0.01, ge=0, lt=1)
    """Loss of accuracy below the test split's that is not yet harm, as a fraction. An alarm needs evidence of more: one
    point is what nobody wants a retrain for, and every point more costs labels. At an error rate of 20 % and a test
    split of 1,000, a loss of 8 points with drift is found within 860 labels in nine of ten streams; with a tolerance of
    2 points in eight."""
    cooldown_minutes: float = Field(default=60, ge=0)
    """No retrain sooner than this after the last."""
    components: int = Field(default=32, ge=1)
    """Principal components of the embeddings that are compared."""
    encoder: str | None = None
    """Hub id or folder of the frozen encoder; null is the packaged MiniLM."""
    permutations: int | None = Field(default=None, ge=99)
    """Relabellings of a test; null takes as many as the budget needs."""
    metrics: tuple[str, ...] = ()
    """URLs of every replica's `/metrics`; when empty, `RETORT_METRICS_URL`, or what `retort serve` listens on."""
    prometheus: str | None = None
    """URL of a Prometheus server that scrapes the replicas; it is asked in place of them."""

    @field_validator("metrics", mode="before")
    @classmethod
    def _as_tuple(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    suspect_audit_rate: float = Field(default=0.3, ge=0, le=1)
    """Share of the requests that a service which follows the name draws for labelling after a look that suspects
    something or found harm, where its own RETORT_AUDIT_RATE is lower: labels then come where they decide something."""
    suspect_audit_minutes: float = Field(default=120, ge=0)
    """How long after the last such look; longer than the time between looks, so that one quiet look changes nothing."""
    cost: CostConfig | None = None
    """With it, harm whose repair costs more than it saves starts no retrain; null retrains on any harm."""

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
