"""Does a retrain pay? What the errors until the next one cost, against what repairing them costs."""

from dataclasses import dataclass

from tasks.monitor.config import CostConfig
from tasks.monitor.harm import HarmEvidence


@dataclass(frozen=True, kw_only=True)
class Balance:
    """Both sides, in the currency of the config."""

    error_now: float
    """Lower bound of the error rate: what is lost at least."""
    error_after: float
    """Predicted for a retrained model: what the champion had at its gate."""
    saved: float
    cost: float

    @property
    def worth_it(self) -> bool:
        """Whether the retrain saves more than it costs."""
        return self.saved > self.cost

    @property
    def words(self) -> str:
        """Both sides, for a reviewer."""
        rates = f"errors of {self.error_now:.1%} at least against {self.error_after:.1%} after it"
        return f"it would save {self.saved:,.2f} ({rates}) and cost {self.cost:,.2f}"


def balance(harm: HarmEvidence, cost: CostConfig) -> Balance:
    """Saved = horizon x requests x price of an error x (error now, lower bound - error predicted after).

    The bound keeps a few unlucky labels from paying for a retrain.
    """
    accuracy = harm.estimate or harm.accuracy
    error_now = 1 - accuracy.high if accuracy else 0.0
    error_after = 1 - harm.baseline_accuracy
    fewer_errors = cost.horizon_days * cost.requests_per_day * (error_now - error_after)
    return Balance(
        error_now=error_now,
        error_after=error_after,
        saved=cost.error * fewer_errors,
        cost=cost.retrain + cost.label * cost.labels,
    )
