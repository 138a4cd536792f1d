"""An autoscaling policy as Kubernetes reads it: a HorizontalPodAutoscaler, or a ScaledObject of KEDA, which makes one.

What a file leaves out has Kubernetes' defaults (autoscaling/v2, and the controller's flags).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bento.errors import UserError

QUEUE_WAIT = "retort_queue_wait"
"""The mean wait in the queue, in seconds, by the name that the adapter gives it."""
SUFFIXES = {"m": 1e-3, "": 1.0, "k": 1e3}


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How much a scale may change in a period."""

    kind: str
    """Percent, of the replicas when the period began, or Pods."""
    value: int
    period_s: int


@dataclass(frozen=True, kw_only=True)
class Direction:
    """Scaling up or down."""

    stabilisation_s: int
    """The most careful recommendation of so many seconds counts."""
    rules: tuple[Rule, ...]
    select: str = "Max"
    """Max: the rule that allows the most change counts; Min: the least; Disabled: no change."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """When replicas are added and taken away."""

    name: str
    min_replicas: int
    max_replicas: int
    cpu_target: float | None
    """Mean CPU over the requested CPU, as a share."""
    wait_target_s: float | None
    """Mean wait in the queue of the last `wait_window_s`."""
    up: Direction
    down: Direction
    wait_window_s: int = 120


DEFAULT_UP = Direction(
    stabilisation_s=0,
    rules=(Rule(kind="Percent", value=100, period_s=15), Rule(kind="Pods", value=4, period_s=15)),
)
DEFAULT_DOWN = Direction(stabilisation_s=300, rules=(Rule(kind="Percent", value=100, period_s=15),))


def fixed(replicas: int, name: str) -> Policy:
    """No scaling at all."""
    return Policy(
        name=name, min_replicas=replicas, max_replicas=replicas, cpu_target=None, wait_target_s=None, up=DEFAULT_UP,
        down=DEFAULT_DOWN,
    )  # fmt: skip


def read_policy(path: Path) -> Policy:
    """The policy of a YAML file. Raises: UserError naming what is not understood."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{path}: expected a HorizontalPodAutoscaler or a ScaledObject, got: {error}") from error
    kind = document.get("kind") if isinstance(document, dict) else None
    if kind not in READERS:
        raise UserError(f"{path}: expected a HorizontalPodAutoscaler or a ScaledObject, got {kind}")
    try:
        return READERS[kind](document["spec"], path)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: expected a complete {kind}, but something is missing or wrong: {error!r}") from error


def _read_hpa(spec: Mapping[str, Any], path: Path) -> Policy:
    cpu = wait = None
    for metric in spec["metrics"]:
        if metric["type"] == "Resource" and metric["resource"]["name"] == "cpu":
            cpu = metric["resource"]["target"]["averageUtilization"] / 100
        elif metric["type"] == "Pods" and metric["pods"]["metric"]["name"] == QUEUE_WAIT:
            wait = quantity(metric["pods"]["target"]["averageValue"])
        else:
            raise UserError(f"{path}: expected metrics cpu and {QUEUE_WAIT}, got {metric}; it cannot be simulated")
    return _policy("HPA", spec.get("minReplicas", 1), spec["maxReplicas"], cpu, wait, spec.get("behavior") or {})


def _read_keda(spec: Mapping[str, Any], path: Path) -> Policy:
    cpu = wait = None
    for trigger in spec["triggers"]:
        if trigger["type"] == "cpu":
            cpu = float(trigger["metadata"]["value"]) / 100
        elif trigger["type"] == "prometheus" and f"{QUEUE_WAIT}_seconds_sum" in trigger["metadata"]["query"]:
            wait = float(trigger["metadata"]["threshold"])
        else:
            raise UserError(f"{path}: expected triggers on cpu and {QUEUE_WAIT}, got {trigger}; it cannot be simulated")
    behaviour = spec.get("advanced", {}).get("horizontalPodAutoscalerConfig", {}).get("behavior") or {}
    return _policy("KEDA", spec.get("minReplicaCount", 0), spec["maxReplicaCount"], cpu, wait, behaviour)


READERS = {"HorizontalPodAutoscaler": _read_hpa, "ScaledObject": _read_keda}


def _policy(
    name: str, least: int, most: int, cpu: float | None, wait: float | None, behaviour: Mapping[str, Any]
) -> Policy:
    return Policy(
        name=name, min_replicas=least, max_replicas=most, cpu_target=cpu, wait_target_s=wait,
        up=_direction(behaviour.get("scaleUp") or {}, DEFAULT_UP),
        down=_direction(behaviour.get("scaleDown") or {}, DEFAULT_DOWN),
    )  # fmt: skip


def _direction(given: Mapping[str, Any], default: Direction) -> Direction:
    rules = tuple(
        Rule(kind=r["type"], value=r["value"], period_s=r["periodSeconds"]) for r in given.get("policies", ())
    )
    return Direction(
        stabilisation_s=given.get("stabilizationWindowSeconds", default.stabilisation_s),
        rules=rules or default.rules,
        select=given.get("selectPolicy", default.select),
    )


def quantity(text: str | float) -> float:
    """A quantity of Kubernetes such as `500m`. Raises: ValueError."""
    word = str(text)
    number = word.rstrip("mk")
    value = float(number) * SUFFIXES[word[len(number) :]]
    if not math.isfinite(value):
        raise ValueError(f"expected a quantity such as 500m, got {text}")
    return value
