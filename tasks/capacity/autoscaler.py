"""Kubernetes' horizontal pod autoscaler: what it decides at each sync.

After kubernetes/pkg/controller/podautoscaler (horizontal.go, replica_calculator.go) of 1.31: a tolerance of a tenth,
pods that are not ready set aside and taken for idle when it scales up, the largest of several metrics, stabilisation
by recommendations, then the limits of the rules.
"""

import math
from collections import deque
from dataclasses import dataclass, field

from tasks.capacity.policy import Direction, Policy, Rule

SYNC_S = 15
TOLERANCE = 0.1


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the autoscaler sees at one sync."""

    num_ready: int
    num_starting: int
    cpu: float | None
    """Mean of the ready pods over the requested CPU; None where there is no metric."""
    wait_s: float | None


@dataclass
class Autoscaler:
    """One autoscaler with what it remembers."""

    policy: Policy
    recommendations: deque[tuple[float, int]] = field(default_factory=deque)
    """Time and replicas."""
    changes: deque[tuple[float, int]] = field(default_factory=deque)
    """Time and replicas added, or taken away if below 0."""

    def decide(self, now_s: float, current: int, seen: Seen) -> int:
        """Replicas from now on."""
        policy = self.policy
        metrics = ((seen.cpu, policy.cpu_target), (seen.wait_s, policy.wait_target_s))
        wanted = [
            proposal(current, seen.num_ready, seen.num_starting, value / target)
            for value, target in metrics
            if value is not None and target is not None
        ]
        stable = self._stabilised(now_s, current, max(wanted, default=current))
        decided = min(max(self._limited(now_s, current, stable), policy.min_replicas), policy.max_replicas)
        if decided != current:
            self.changes.append((now_s, decided - current))
        return decided

    def _stabilised(self, now_s: float, current: int, wanted: int) -> int:
        """Not above the least that was recommended in the window upwards, nor below the most in the one downwards."""
        self.recommendations.append((now_s, wanted))
        longest_s = max(self.policy.up.stabilisation_s, self.policy.down.stabilisation_s)
        while self.recommendations[0][0] < now_s - longest_s:
            self.recommendations.popleft()
        up = min([wanted, *self._recent(now_s, self.policy.up)])
        down = max([wanted, *self._recent(now_s, self.policy.down)])
        return min(max(current, up), down)

    def _recent(self, now_s: float, direction: Direction) -> list[int]:
        return [replicas for at, replicas in self.recommendations if at > now_s - direction.stabilisation_s]

    def _limited(self, now_s: float, current: int, wanted: int) -> int:
        """As far as the rules of the direction allow."""
        up = wanted > current
        direction = self.policy.up if up else self.policy.down
        if wanted == current or direction.select == "Disabled":
            return current
        farthest = max if up == (direction.select == "Max") else min
        limit = farthest(self._limit(now_s, current, rule, up=up) for rule in direction.rules)
        return min(wanted, max(current, limit)) if up else max(wanted, min(current, limit))

    def _limit(self, now_s: float, current: int, rule: Rule, *, up: bool) -> int:
        """The replicas that one rule allows."""
        began = current - sum(change for at, change in self.changes if at > now_s - rule.period_s)
        if rule.kind == "Pods":
            return began + rule.value if up else began - rule.value
        change = rule.value / 100
        return math.ceil(began * (1 + change)) if up else math.floor(began * (1 - change))


def proposal(current: int, num_ready: int, num_starting: int, ratio: float) -> int:
    """Replicas that bring a metric, now `ratio` times its target over the ready pods, to it."""
    if num_ready == 0:
        return current
    if not num_starting or ratio <= 1:
        return current if abs(ratio - 1) <= TOLERANCE else math.ceil(ratio * num_ready)
    num_pods = num_ready + num_starting
    spread = ratio * num_ready / num_pods
    if abs(spread - 1) <= TOLERANCE or spread < 1:
        return current
    return max(current, math.ceil(spread * num_pods))
