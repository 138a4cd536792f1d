"""Leases in the database: one owner at a time, for as long as it says, through suspensions and restarts.

An orchestrator's own limits do not do: they let go of a run that is suspended for an approval, and forget with a
restart. A lease ends by itself when its owner is killed and renews it no longer.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from bento.database import engine, metadata
from bento.errors import RetortError

log = logging.getLogger("retort.lease")

leases = sa.Table(
    "leases",
    metadata,
    sa.Column("name", sa.String(192), primary_key=True),
    sa.Column("owner", sa.String(128), nullable=False),
    sa.Column("what", sa.Text, nullable=False),  # the owner in words
    sa.Column("since", sa.Float, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),  # asked for at `renewed`
    sa.Column("renewed", sa.Float, nullable=False),
)

SECONDS = 30.0
"""How long a lease lasts that nobody renews; a running owner renews it three times as often."""
POLL_SECONDS = 0.5


class HeldError(RetortError):
    """Somebody else has the lease."""


def take(name: str, owner: str, what: str, *, seconds: float = SECONDS) -> bool:
    """Take or renew a lease; False, with nothing changed, while another owner has it."""
    now = time.time()
    values = {"owner": owner, "what": what, "seconds": seconds, "renewed": now}
    mine = leases.c.owner == owner
    with engine().begin() as connection:
        if connection.execute(leases.update().where(leases.c.name == name, mine).values(**values)).rowcount:
            return True
        ended = leases.update().where(leases.c.name == name, ~_valid(now)).values(since=now, **values)
        if connection.execute(ended).rowcount:
            return True
        try:
            with connection.begin_nested():
                connection.execute(leases.insert().values(name=name, since=now, **values))
        except sa.exc.IntegrityError:
            return False
    return True


def _valid(now: float) -> sa.ColumnElement[bool]:
    """A lease that a clock since set back has renewed in the future is over too, or it would last for ever."""
    return (leases.c.renewed + leases.c.seconds >= now) & (leases.c.renewed <= now + SECONDS)


def release(name: str, owner: str) -> None:
    """Give a lease back, if it is still the owner's."""
    with engine().begin() as connection:
        connection.execute(leases.delete().where(leases.c.name == name, leases.c.owner == owner))


def holder(name: str) -> dict[str, Any] | None:
    """Who has the lease now: owner, what, since."""
    return _read(name, _valid(time.time()))


def lost(name: str) -> str | None:
    """The owner that stopped renewing the lease without giving it back, if there is one."""
    found = _read(name, ~_valid(time.time()))
    return str(found["owner"]) if found else None


def _read(name: str, which: sa.ColumnElement[bool]) -> dict[str, Any] | None:
    with engine().connect() as connection:
        row = connection.execute(sa.select(leases).where(leases.c.name == name, which)).mappings().first()
    return dict(row) if row else None


class Held:
    """A lease in use."""

    def __init__(self) -> None:
        self.kept_seconds: float | None = None

    def keep(self, seconds: float) -> None:
        """Do not give the lease back at the end: it lasts for `seconds` more, for the same owner to take up again."""
        self.kept_seconds = seconds


@contextmanager
def lease(name: str, owner: str, what: str, *, wait_seconds: float = 0.0, seconds: float = SECONDS) -> Iterator[Held]:
    """Hold a lease and renew it meanwhile. It is given back at the end, unless `keep` was called.

    Raises: HeldError when another owner still has it after `wait_seconds`.
    """
    deadline = time.monotonic() + wait_seconds
    while not take(name, owner, what, seconds=seconds):
        if time.monotonic() >= deadline:
            raise _held(name)
        time.sleep(POLL_SECONDS)
    held, stop = Held(), threading.Event()
    renewing = threading.Thread(target=_renew, args=(stop, name, owner, what, seconds), daemon=True)
    renewing.start()
    try:
        yield held
    finally:
        stop.set()
        renewing.join()
        if held.kept_seconds is None:
            release(name, owner)
        else:
            take(name, owner, what, seconds=held.kept_seconds)


def _renew(stop: threading.Event, name: str, owner: str, what: str, seconds: float) -> None:
    """Until `stop`; a database that is away for a while is asked again at the next turn."""
    while not stop.wait(seconds / 3):
        try:
            if not take(name, owner, what, seconds=seconds):
                log.warning("lease %s: another owner took it over; this one was not renewed in time", name)
                return
        except sa.exc.DBAPIError as error:
            log.warning("lease %s: not renewed, the database does not answer (%s)", name, type(error).__name__)


def _held(name: str) -> HeldError:
    found = holder(name)
    who = f"{found['what']}, since {_time(found['since'])}" if found else "another that has just ended"
    return HeldError(f"{name}: expected nobody else at it, got {who}; wait for its end, or end it, and repeat")


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(sep=" ", timespec="seconds")
