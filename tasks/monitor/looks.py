"""The record of looks: each verdict is stored with its evidence before any event goes out.

An event that a kill kept from going out is found here by the next look and sent then, and so is a retrain that was
asked for and never came to an end.
"""

import time
from typing import Any

import sqlalchemy as sa

from bento.database import engine, metadata
from tasks.monitor.decide import Action, Past, Repair

MOST_REMEMBERED = 50
"""Earlier requests of one kind that a decision takes into account, the newest."""

looks = sa.Table(
    "looks",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(128), nullable=False, index=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("action", sa.String(16), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("key", sa.String(64), nullable=False),  # of champion, window, labels, reference and action
    sa.Column("evidence", sa.JSON, nullable=False),
    sa.Column("payload", sa.JSON),  # of the event that this look sends, if it sends one
    sa.Column("sent_at", sa.Float),
    sa.UniqueConstraint("name", "key"),
)

requests = sa.Table(
    "look_requests",
    metadata,
    sa.Column("look_id", sa.Integer, primary_key=True),
    sa.Column("times", sa.Integer, nullable=False),  # that its event went out
    sa.Column("asked_at", sa.Float, nullable=False),  # the last of them
    sa.Column("finished_at", sa.Float),
    sa.Column("outcome", sa.String(32)),
)


def store_look(values: dict[str, Any]) -> int | None:
    """Insert one look and return its id; None if a look with this key is there already."""
    try:
        with engine().begin() as connection:
            key = connection.execute(looks.insert().values(at=time.time(), **values)).inserted_primary_key
    except sa.exc.IntegrityError:
        return None
    return int(key[0]) if key else None


def read_looks(name: str, *, limit: int = 100) -> list[dict[str, Any]]:
    """The newest looks first, all columns."""
    query = sa.select(looks).where(looks.c.name == name).order_by(looks.c.id.desc()).limit(limit)
    with engine().connect() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def look_times(name: str) -> list[float]:
    """When all looks were taken, the oldest first, in seconds since the epoch."""
    query = sa.select(looks.c.at).where(looks.c.name == name).order_by(looks.c.id)
    with engine().connect() as connection:
        return [float(at) for at in connection.execute(query).scalars()]


def last_retrain_at(name: str, now: float) -> float | None:
    """When a look last asked for a retrain, in seconds since the epoch; later looks do not count."""
    asked = (looks.c.name == name) & (looks.c.action == "retrain") & (looks.c.at <= now)
    with engine().connect() as connection:
        found: float | None = connection.execute(sa.select(sa.func.max(looks.c.at)).where(asked)).scalar()
    return found


def past(name: str, champion_sha256: str, *, retrain: str) -> Past:
    """What looks at this champion asked for; `retrain` is the one under way, in words."""
    corrections = _evidence(name, champion_sha256, "correct_prior")
    return Past(
        priors=tuple(row["drift"]["prior_window"] for row in corrections),
        audited=frozenset(row["drift"]["window_sha256"] for row in _evidence(name, champion_sha256, "audit")),
        retrain=retrain,
        repair=_repair(name, champion_sha256),
    )


def drift_found(name: str, champion_sha256: str) -> int | None:
    """The newest row of the request log when a look at this champion first found drift; None before that."""
    first = (
        sa.select(looks.c.evidence)
        .where(looks.c.name == name, looks.c.evidence["champion_sha256"].as_string() == champion_sha256)
        .where(looks.c.evidence["drift"]["drifted"].as_boolean(), looks.c.evidence["last_row"].as_integer() >= 0)
        .order_by(looks.c.id)
        .limit(1)
    )
    with engine().connect() as connection:
        found = connection.execute(first).scalar()
    return None if found is None else int(found["last_row"])


def _repair(name: str, champion_sha256: str) -> Repair | None:
    """Of the newest retrain that was asked for, if it was another model that hurt."""
    query = sa.select(looks.c.evidence).where((looks.c.name == name) & (looks.c.action == "retrain"))
    with engine().connect() as connection:
        found = connection.execute(query.order_by(looks.c.id.desc()).limit(1)).scalar()
    if not found or found.get("champion_sha256") == champion_sha256 or not found.get("repair"):
        return None
    return Repair(**found["repair"])


def _evidence(name: str, champion_sha256: str, action: Action) -> list[dict[str, Any]]:
    query = sa.select(looks.c.evidence).where((looks.c.name == name) & (looks.c.action == action))
    with engine().connect() as connection:
        rows = connection.execute(query.order_by(looks.c.id.desc()).limit(MOST_REMEMBERED)).scalars().all()
    return [row for row in rows if row.get("champion_sha256") == champion_sha256]


def unsent(name: str) -> list[dict[str, Any]]:
    """Looks whose event has not gone out."""
    query = sa.select(looks).where((looks.c.name == name) & looks.c.payload.is_not(None) & looks.c.sent_at.is_(None))
    with engine().connect() as connection:
        return [dict(row) for row in connection.execute(query).mappings() if row["payload"] is not None]


def mark_sent(look_id: int) -> None:
    """Note that the event of a look is out, and when and how often it went; a request stays open until `finish`."""
    now, again = time.time(), requests.update().where(requests.c.look_id == look_id)
    with engine().begin() as connection:
        connection.execute(looks.update().where(looks.c.id == look_id).values(sent_at=now))
        if not connection.execute(again.values(times=requests.c.times + 1, asked_at=now)).rowcount:
            connection.execute(requests.insert().values(look_id=look_id, times=1, asked_at=now))


def finish(look_id: int, outcome: str) -> None:
    """Note what came of the retrain that a look asked for."""
    values = {"finished_at": time.time(), "outcome": outcome}
    with engine().begin() as connection:
        if not connection.execute(requests.update().where(requests.c.look_id == look_id).values(**values)).rowcount:
            connection.execute(requests.insert().values(look_id=look_id, times=0, asked_at=time.time(), **values))


def outcome(look_id: int) -> str | None:
    """What came of the retrain that a look asked for; None while it is open."""
    query = sa.select(requests.c.outcome).where(requests.c.look_id == look_id)
    with engine().connect() as connection:
        found: str | None = connection.execute(query).scalar()
    return found


def unanswered(name: str, champion_sha256: str, *, before: float) -> list[dict[str, Any]]:
    """Retrains of this champion that were last asked for before a time and have no outcome, with `times` asked."""
    query = (
        sa.select(looks, requests.c.times)
        .join(requests, requests.c.look_id == looks.c.id)
        .where(looks.c.name == name, looks.c.action == "retrain", requests.c.outcome.is_(None))
        .where(requests.c.asked_at < before)
        .order_by(looks.c.id)
    )
    with engine().connect() as connection:
        rows = [dict(row) for row in connection.execute(query).mappings()]
    return [row for row in rows if row["evidence"].get("champion_sha256") == champion_sha256]
