"""The outbox of notices: what people have to be told is stored first, then sent, and sent again until it arrived.

One row for each receiver, so that one that fails keeps nothing from the others. What is stored of a failure is its
kind, never its text, since that may hold the address with its secret.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import sqlalchemy as sa

from bento.database import engine, metadata

Kind = Literal["harm", "suspect", "mix", "promotion", "veto", "rollback", "failed run"]

notices = sa.Table(
    "notices",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(128), nullable=False, index=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("receiver", sa.String(256), nullable=False),  # a Prefect block: type/name
    sa.Column("sent_at", sa.Float),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("error", sa.String(256)),  # of the last attempt
)

MOST_ATTEMPTS = 20
"""After so many a receiver is given up for this notice; `error` says what the last one met."""


def post(name: str, kind: Kind, text: str, receivers: Sequence[str]) -> None:
    """Store a notice for each receiver."""
    row = {"name": name, "at": time.time(), "kind": kind, "text": text, "attempts": 0}
    if receivers:
        with engine().begin() as connection:
            connection.execute(notices.insert(), [row | {"receiver": receiver} for receiver in receivers])


def deliver(name: str, send: Callable[[dict[str, Any]], str | None]) -> int:
    """Hand what has not arrived to `send`, which returns the kind of its failure or None; how many receivers failed.

    A receiver that fails is asked once only, so that a dead one costs one timeout however much waits for it.
    """
    failed: set[str] = set()
    for row in pending(name):
        if row["receiver"] in failed:
            continue
        error = send(row)
        if error:
            failed.add(row["receiver"])
        values = {"attempts": row["attempts"] + 1, "error": error, "sent_at": None if error else time.time()}
        with engine().begin() as connection:
            connection.execute(notices.update().where(notices.c.id == row["id"]).values(**values))
    return len(failed)


def pending(name: str) -> list[dict[str, Any]]:
    """Notices that have not arrived, oldest first."""
    query = sa.select(notices).where(
        notices.c.name == name, notices.c.sent_at.is_(None), notices.c.attempts < MOST_ATTEMPTS
    )
    with engine().connect() as connection:
        return [dict(row) for row in connection.execute(query.order_by(notices.c.id)).mappings()]
