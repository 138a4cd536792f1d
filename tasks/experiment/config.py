"""The `release.experiment` section of a config: how a candidate proves itself on real traffic."""

from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from tasks.types import Section


class GuardrailConfig(Section):
    """Limits that a model must keep while it is tried and watched; where the champion does worse, its own rate is the
    limit."""

    error_rate: float = Field(default=0.01, gt=0, lt=1)
    """Share of the requests that failed through the service's fault (5xx)."""
    latency_ms: float | None = Field(default=None, gt=0)
    """Objective for one request; null does not judge latency. A shadow answers nobody, so it is judged from A/B on."""
    slow_share: float = Field(default=0.05, gt=0, lt=1)
    """Share of the requests that may take longer than the objective."""
    abstained_share: float | None = Field(default=None, gt=0, lt=1)
    """Share of the texts that it may abstain from; null does not judge it."""
    slice_delta: float = Field(default=0.1, gt=0, le=0.5)
    """Loss of accuracy, as a fraction, among the texts of which the old model says one class, above which it is out."""


class ExperimentConfig(Section):
    """A challenger shadows the champion, may answer a growing share, is promoted or not, and is then watched."""

    delta: float = Field(default=0.01, gt=0, le=0.1)
    """Loss of accuracy against the champion, as a fraction, that is not worth blocking for."""
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    """Largest chance that a challenger which loses `delta` or more is promoted, however often one looks; as large is
    that of a veto, or a rollback, of one that does not."""
    shadow_share: float = Field(default=1.0, gt=0, le=1)
    """Of the requests, that are asked again of the shadow; a smaller one spreads the labels over more time."""
    ab_share: tuple[float, ...] = ()
    """Shares of the requests that the challenger answers, one after another, before it is promoted, such as
    [0.05, 0.2, 0.5]; empty promotes from the shadow."""
    max_labels: int = Field(default=500, ge=1)
    """Disagreements that are labelled before the experiment ends without a verdict."""
    max_days: float = Field(default=14, gt=0)
    """Time after which it ends without a verdict."""
    min_requests: int = Field(default=1_000, ge=1)
    """A guardrail has not passed with fewer requests; so many the challenger answers at each share."""
    watch_labels: int = Field(default=200, ge=1)
    """Disagreements that are labelled after the promotion, at most."""
    watch_days: float = Field(default=7, gt=0)
    """How long a promoted model is watched beside the one before, which comes back if the new one does worse."""
    schedule: str = "*/10 * * * *"
    """Cron schedule of the looks."""
    guardrails: GuardrailConfig = GuardrailConfig()
    """What it must keep beside its accuracy."""

    @field_validator("ab_share", mode="before")
    @classmethod
    def _as_tuple(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _grows(self) -> Self:
        shares = self.ab_share
        if any(not 0 < share <= 0.5 for share in shares) or list(shares) != sorted(set(shares)):
            raise ValueError(f"ab_share: expected growing shares above 0 and up to 0.5, got {list(shares)}")
        return self
