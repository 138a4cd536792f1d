"""What a build would do, without doing it: steps with their cache state, gates, and alias moves."""

import contextlib
from collections.abc import Callable
from typing import Any

from flows.chain import make_candidate, stage_names
from flows.config import Config
from tasks.gate import metric_rules
from tasks.store import NotMadeError, Step, only_looking


def make_plan(config: Config) -> dict[str, Any]:
    """JSON-able: `steps`, `gates`, `aliases`. Reads the store and the pointer, writes nothing.

    A step whose inputs are not made yet cannot be looked up: it runs.
    """
    return {
        "name": config.name,
        "steps": _steps(config),
        "gates": _gates(config),
        "aliases": _aliases(config),
    }


def _steps(config: Config) -> list[dict[str, str]]:
    """Walk the chain as the build does, asking the store with the same keys."""
    rows: list[dict[str, str]] = []

    def looking(name: str, function: Callable[..., Step]) -> Callable[..., Step]:
        def look(*args: Any, **kwargs: Any) -> Step:
            rows.append({"step": name, "state": "runs", "sha256": ""})
            step = function(*args, **kwargs)
            rows[-1] |= {"state": "cached", "sha256": step.artifact.sha256}
            return step

        return look

    with only_looking(), contextlib.suppress(NotMadeError):
        make_candidate(config, None, stage=looking)
    return rows + [{"step": name, "state": "runs", "sha256": ""} for name in stage_names(config)[len(rows) :]]


def _gates(config: Config) -> list[dict[str, Any]]:
    limits = config.gate.model_dump(exclude_none=True)
    if config.data.task != "single_label":
        del limits["accuracy"]
        limits = {
            name: rule.model_dump() for name, rule in metric_rules(config.gate, config.data.task).items()
        } | limits
    return [{"gate": key, "limit": value} for key, value in limits.items() if value]


def _aliases(config: Config) -> list[str]:
    from bento import settings
    from tasks.release.ledger import read_champion

    local = settings.database_url().startswith("sqlite")
    exists = not local or (settings.home() / "retort.db").is_file()
    champion = read_champion(config.name) if exists else None
    before = f"version {champion.version}" if champion else "none"
    how = {
        "auto": "on both blessings",
        "require": "when a person approves",
        "require_if": f"by itself, or by a person when accuracy falls by more than {config.release.accuracy_drop}",
    }
    return [
        f"{config.name}@challenger -> the new version, when the gate passes",
        f"{config.name}@champion: {before} -> the new version, {how[config.release.approval]}",
    ]
