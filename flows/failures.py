"""What the surroundings do to a run, in words: a database that does not answer, a disk that is full."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from bento import settings
from bento.errors import RetortError

FULL = (errno.ENOSPC, errno.EDQUOT)
SQLITE_FULL, SQLITE_IO = "database or disk is full", "disk I/O error"
ROOM_BYTES = 1_000_000
"""With less free than this SQLite cannot work."""
NO_PREFECT = ("Failed to reach API", "Timed out while attempting to connect")
"""How the messages of Prefect's client begin where its server does not answer."""


class OutsideError(RetortError):
    """Something that Retort needs is down or full; what was being done has changed nothing that serves."""


@contextmanager
def in_words(what: str) -> Iterator[None]:
    """Raises: OutsideError for a database that does not answer or is damaged, and for a full disk."""
    try:
        yield
    except Exception as error:
        if (told := outside(error, what)) is None:
            raise
        raise told from error


def outside(error: Exception, what: str) -> OutsideError | None:
    """In words that the database does not answer or is damaged, or that the disk is full, if that is what it says."""
    if isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError):
        return _full(what, str(settings.home())) if _is_full(error) else _no_database(what, error)
    if type(error) is sa.exc.DatabaseError:  # its other subclasses are mistakes of ours
        return _no_database(what, error)
    if isinstance(error, OSError) and error.errno in FULL:
        return _full(what, str(error.filename or settings.home()))
    return None


def no_prefect(error: Exception) -> OutsideError | None:
    """In words that Prefect's server does not answer, if it is that which `error` says."""
    if not (isinstance(error, RuntimeError) and str(error).startswith(NO_PREFECT)):
        return None
    url = os.environ.get("PREFECT_API_URL")
    wanted = "the Prefect server of PREFECT_API_URL" if url else "Prefect's temporary server to start"
    remedy = "start it, or unset PREFECT_API_URL" if url else "the machine may be too busy"
    return OutsideError(f"expected {wanted} to answer, but it does not ({error}); {remedy}, and run this again")


def _is_full(error: sa.exc.DBAPIError) -> bool:
    """SQLite on a full disk says so, or speaks of an I/O error only."""
    text = str(error.orig)
    return SQLITE_FULL in text or (SQLITE_IO in text and shutil.disk_usage(settings.home()).free < ROOM_BYTES)


def _no_database(what: str, error: sa.exc.DBAPIError) -> OutsideError:
    url = sa.make_url(settings.database_url()).render_as_string(hide_password=True)
    first = str(error.orig).strip().splitlines()[0]
    return OutsideError(
        f"{what}: expected Retort's database at {url} to answer, but it does not ({first}); nothing was decided and "
        "nothing moved. `retort doctor` says whether it is there; run this again when it is"
    )


def _full(what: str, where: str) -> OutsideError:
    return OutsideError(
        f"{what}: expected room to write, but the disk is full ({where}); nothing moved. Free some space, or point "
        "RETORT_HOME to another disk, and run this again"
    )
