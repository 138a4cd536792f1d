"""The table of experiments and of their looks: what was started, where it stands, and on what evidence it moved.

Every move compares the phase and step that it starts from, so that of two looks at once one moves it.
"""

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa

from bento import database
from tasks.experiment.config import ExperimentConfig
from tasks.release import ledger
from tasks.release.ledger import Champion

Phase = Literal["waiting", "shadow", "ab", "watch", "ended"]
Outcome = Literal["promoted", "vetoed", "inconclusive", "rolled_back", "stopped", "superseded"]
RUNNING = ("shadow", "ab", "watch")

experiments = sa.Table(
    "experiments",
    database.metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(128), nullable=False),
    sa.Column("champion", sa.JSON, nullable=False),  # as it was at the start
    sa.Column("challenger", sa.JSON, nullable=False),
    sa.Column("num_classes", sa.Integer, nullable=False),
    sa.Column("config", sa.JSON, nullable=False),
    sa.Column("who", sa.String(128), nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("started_at", sa.Float, nullable=False),
    sa.Column("phase", sa.String(16), nullable=False),  # waiting, shadow, ab, watch, ended
    sa.Column("step", sa.Integer, nullable=False),  # of the A/B shares
    sa.Column("phase_at", sa.Float, nullable=False),  # when phase and step began
    sa.Column("after_shadow", sa.Integer, nullable=False),  # rows of `shadows` up to this id were there before
    sa.Column("outcome", sa.String(16)),
    sa.Column("reason", sa.Text),
    sa.Index(
        "one_running_experiment",
        "name",
        unique=True,
        sqlite_where=sa.text("phase IN ('shadow', 'ab', 'watch')"),
        postgresql_where=sa.text("phase IN ('shadow', 'ab', 'watch')"),
    ),
)

experiment_looks = sa.Table(
    "experiment_looks",
    database.metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("experiment", sa.Integer, nullable=False, index=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("phase", sa.String(16), nullable=False),
    sa.Column("action", sa.String(16), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("evidence", sa.JSON, nullable=False),
)


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One challenger against one champion."""

    id: int
    name: str
    champion: Champion
    """As it was at the start; while the promoted one is watched, it is the shadow."""
    challenger: Champion
    num_classes: int
    config: ExperimentConfig
    who: str
    why: str
    started_at: float
    phase: Phase
    step: int
    phase_at: float
    after_shadow: int
    outcome: Outcome | None
    reason: str | None


def insert(
    champion: Champion, challenger: Champion, *, config: ExperimentConfig, num_classes: int, who: str, why: str
) -> Experiment:
    """A new experiment, not yet running: `begin` does that."""
    now = time.time()
    values = {
        "name": challenger.name, "champion": _plain(champion), "challenger": _plain(challenger),
        "num_classes": num_classes, "config": config.model_dump(mode="json"), "who": who, "why": why,
        "started_at": now, "phase": "waiting", "step": 0, "phase_at": now, "after_shadow": 0,
    }  # fmt: skip
    with database.engine().begin() as connection:
        key = connection.execute(experiments.insert().values(**values)).inserted_primary_key
    return read(int(key[0]) if key else 0)


def begin(experiment: Experiment, champion: Champion) -> Experiment | None:
    """Let a waiting experiment run against `champion`; None when another one of this name runs."""
    try:
        return move(experiment, phase="shadow", champion=_plain(champion), started_at=time.time())
    except sa.exc.IntegrityError:
        return None


def move(experiment: Experiment, *, phase: Phase, step: int = 0, **changes: Any) -> Experiment | None:
    """To a phase and step; None when somebody else moved it first."""
    with database.engine().begin() as connection:
        after = connection.scalar(sa.select(sa.func.max(database.shadows.c.id))) or 0
        values = {"phase": phase, "step": step, "phase_at": time.time(), **changes}
        if phase in ("shadow", "watch"):
            values["after_shadow"] = after
        if connection.execute(experiments.update().where(_as_it_was(experiment)).values(**values)).rowcount != 1:
            return None
    return read(experiment.id)


def end(experiment: Experiment, outcome: Outcome, *, who: str, reason: str, evidence: Any) -> bool:
    """End it with an entry in the ledger, both or neither; False when somebody else moved it first."""
    values = {"phase": "ended", "outcome": outcome, "reason": reason, "phase_at": time.time()}
    with database.engine().begin() as connection:
        if connection.execute(experiments.update().where(_as_it_was(experiment)).values(**values)).rowcount != 1:
            return False
        ledger.record(
            experiment.challenger, action=outcome, who=who, why=reason,
            evidence={"experiment": experiment.id, **evidence}, connection=connection,
        )  # fmt: skip
    return True


def _as_it_was(experiment: Experiment) -> sa.ColumnElement[bool]:
    table = experiments.c
    return (table.id == experiment.id) & (table.phase == experiment.phase) & (table.step == experiment.step)


def read(experiment_id: int) -> Experiment:
    """One experiment by its number."""
    (found,) = _read(experiments.c.id == experiment_id)
    return found


def running(name: str) -> Experiment | None:
    """The one that runs, if any."""
    found = _read((experiments.c.name == name) & experiments.c.phase.in_(RUNNING))
    return found[0] if found else None


def waiting(name: str) -> list[Experiment]:
    """Those that wait for the running one to end, newest first."""
    return _read((experiments.c.name == name) & (experiments.c.phase == "waiting"))


def history(name: str) -> list[Experiment]:
    """All of them, newest first."""
    return _read(experiments.c.name == name)


def _read(where: sa.ColumnElement[bool]) -> list[Experiment]:
    statement = sa.select(experiments).where(where).order_by(experiments.c.id.desc())
    with database.engine().connect() as connection:
        return [_experiment(dict(row)) for row in connection.execute(statement).mappings()]


def _experiment(row: dict[str, Any]) -> Experiment:
    both = {key: _champion(row[key]) for key in ("champion", "challenger")}
    return Experiment(**row | both | {"config": ExperimentConfig.model_validate(row["config"])})


def _plain(champion: Champion) -> dict[str, str]:
    return asdict(champion) | {"model_path": str(champion.model_path)}


def _champion(stored: dict[str, str]) -> Champion:
    return replace(Champion(**stored), model_path=Path(stored["model_path"]))  # type: ignore[arg-type]


def store_look(experiment: Experiment, *, action: str, reason: str, evidence: Any) -> None:
    """Store what a look saw and decided, before anything is done about it."""
    values = {"experiment": experiment.id, "at": time.time(), "phase": experiment.phase}
    with database.engine().begin() as connection:
        connection.execute(experiment_looks.insert().values(**values, action=action, reason=reason, evidence=evidence))


def read_looks(experiment_id: int, limit: int = 20) -> list[dict[str, Any]]:
    """The newest looks first."""
    table = experiment_looks
    query = sa.select(table).where(table.c.experiment == experiment_id).order_by(table.c.id.desc()).limit(limit)
    with database.engine().connect() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]
