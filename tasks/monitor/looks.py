"""The record of looks: each verdict is stored with its evidence before any event goes out.

An event that a kill kept from going out is found here by the next look and sent then.
"""

import time
from typing import Any

import sqlalchemy as sa

from bento.database import engine, metadata

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


def last_retrain_at(name: str) -> float | None:
    """When a look last asked for a retrain, in seconds since the epoch."""
    query = sa.select(sa.func.max(looks.c.at)).where((looks.c.name == name) & (looks.c.action == "retrain"))
    with engine().connect() as connection:
        found: float | None = connection.execute(query).scalar()
    return found


def unsent(name: str) -> list[dict[str, Any]]:
    """Looks whose event has not gone out."""
    query = sa.select(looks).where((looks.c.name == name) & looks.c.payload.is_not(None) & looks.c.sent_at.is_(None))
    with engine().connect() as connection:
        return [dict(row) for row in connection.execute(query).mappings() if row["payload"] is not None]


def mark_sent(look_id: int) -> None:
    """Note that the event of a look is out."""
    with engine().begin() as connection:
        connection.execute(looks.update().where(looks.c.id == look_id).values(sent_at=time.time()))
