"""What the service promises, and how much of the permitted failures is spent.

A promise of 99 % leaves a budget of 1 % of the requests; it is spent by the bad ones of the last `window_days`. The
burn rate is how many times too fast the last period spent it (Google, The Site Reliability Workbook, chapter 5).
"""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field, field_validator

from bento.metrics import LATENCY_BUCKETS_S
from tasks.types import Section

MIN_REQUESTS = 100
"""With fewer, one slow answer would be an alarm; the alerts ask for as many."""


class ObjectivesConfig(Section):
    """What the service promises of the predictions that it is asked for."""

    latency_ms: float = 50.0
    """A good answer takes no longer; a bound of the service's histogram, so that it is counted exactly."""
    latency_share: float = Field(default=0.99, gt=0, lt=1)
    """Share of the answers that have to be as fast."""
    availability: float = Field(default=0.999, gt=0, lt=1)
    """Share of the requests that must not fail (5xx)."""
    window_days: float = Field(default=30, gt=0, le=366)
    """Days over which a budget is counted."""

    @field_validator("latency_ms")
    @classmethod
    def _is_counted(cls, latency_ms: float) -> float:
        bounds_ms = [1000 * bound_s for bound_s in LATENCY_BUCKETS_S]
        if latency_ms not in bounds_ms:
            raise ValueError(
                f"serve.objectives.latency_ms: expected one of {', '.join(f'{bound:g}' for bound in bounds_ms)}, the "
                f"bounds of the service's histogram, got {latency_ms:g}; take the next smaller one"
            )
        return latency_ms


@dataclass(frozen=True, kw_only=True)
class ErrorBudget:
    """One promise and what is left of its budget."""

    objective: Literal["latency", "availability"]
    target: float
    """Share of the requests that have to be good."""
    num_requests: float
    """In the last `window_days`, as far as they are known."""
    num_bad: float
    num_recent: float
    """In the last period, that of the burn rate."""
    num_recent_bad: float
    window_days: float

    @property
    def spent(self) -> float:
        """Share of the budget; above 1 the promise is broken, 0 without requests."""
        return self.num_bad / (self.num_requests * (1 - self.target)) if self.num_requests else 0.0

    @property
    def burn_rate(self) -> float | None:
        """1 spends the budget in exactly `window_days`; None without requests."""
        return self.num_recent_bad / (self.num_recent * (1 - self.target)) if self.num_recent else None

    @property
    def empty_in_days(self) -> float | None:
        """When the rest is spent at this burn rate and the mean traffic; None when the budget outlasts it."""
        left = 1 - self.spent
        if left <= 0:
            return 0.0
        return left * self.window_days / self.burn_rate if self.burn_rate and self.burn_rate > 1 else None

    @property
    def state(self) -> Literal["ok", "burning", "spent", "too_few"]:
        """What a person has to know first."""
        if self.num_requests < MIN_REQUESTS:
            return "too_few"
        if self.spent >= 1:
            return "spent"
        enough = self.num_recent >= MIN_REQUESTS
        return "burning" if enough and (self.burn_rate or 0) > 1 else "ok"

    @property
    def words(self) -> str:
        """One sentence."""
        if self.state == "too_few":
            return f"{self.num_requests:,.0f} requests are too few to judge (at least {MIN_REQUESTS})"
        days = f"{self.window_days:g} days"
        if self.state == "spent":
            return f"broken: {self.spent:,.1f} times the budget of {days} is spent ({self._share})"
        left = f"{1 - self.spent:.0%} of the budget of {days} left ({self._share})"
        if self.state == "burning":
            return f"{left}; burns {self.burn_rate:,.1f} times too fast, empty in {self.empty_in_days:,.1f} days"
        return left

    @property
    def _share(self) -> str:
        bad = 1 - self.num_bad / self.num_requests
        return f"{bad:.3%} good of {self.num_requests:,.0f}, promised {self.target:.3%}"
