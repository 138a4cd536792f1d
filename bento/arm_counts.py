"""What each arm did, in the database: answered and failed requests, abstentions, and how many units it was given.

The request log has answers only, so failures would be missing from it; Prometheus' counters live and die with a
process. Here each process writes its own totals every few seconds, an hour a row, so writing twice changes nothing, and
a database that is away loses nothing while the process lives.
"""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from prometheus_client import Counter
from sqlalchemy.dialects import postgresql, sqlite

from bento import database
from bento.answer import Answer
from bento.arms import CHALLENGER
from bento.router import Champion, Serving

logger = logging.getLogger(__name__)

WRITE_EVERY_S = 2.0
HOUR_S = 3600
MOST_UNITS = 1_000_000
"""A process counts distinct units up to here, at 64 bits each; the first million tell whether a split is as planned."""

KEY = ("name", "process", "hour", "version", "arm", "salt", "share")
TOTALS = ("answered", "failed", "texts", "abstained", "units")

arm_counts = sa.Table(
    "arm_counts",
    database.metadata,
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("process", sa.String(32), primary_key=True),
    sa.Column("hour", sa.Integer, primary_key=True),  # since the epoch
    sa.Column("version", sa.String(32), primary_key=True),
    sa.Column("arm", sa.String(16), primary_key=True),  # champion, challenger or shadow
    sa.Column("salt", sa.String(32), primary_key=True),  # of the challenge that ran; empty without one
    sa.Column("share", sa.Float, primary_key=True),  # that the challenger was to have; 0 without one
    sa.Column("answered", sa.Integer, nullable=False),  # requests; a shadow's: texts
    sa.Column("failed", sa.Integer, nullable=False),  # through the service's fault (5xx), not refused
    sa.Column("texts", sa.Integer, nullable=False),
    sa.Column("abstained", sa.Integer, nullable=False),  # of the texts
    sa.Column("units", sa.Integer, nullable=False),  # distinct keys, or requests without one, while a challenge runs
)


@dataclass(slots=True)
class Totals:
    """What one process did in one arm in one hour."""

    answered: int = 0
    failed: int = 0
    texts: int = 0
    abstained: int = 0
    units: int = 0


class ArmCounts:
    """The totals of this process and the thread that writes them."""

    def __init__(
        self,
        errors: Counter,
        *,
        engine: Callable[[], sa.Engine] = database.engine,
        every_s: float = WRITE_EVERY_S,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`errors` counts failed writes, each of which is tried again."""
        self.errors = errors
        self.engine = engine
        self.every_s = every_s
        self.now = now
        self.process = secrets.token_hex(8)
        self._totals: dict[tuple[Any, ...], Totals] = {}
        self._written: dict[tuple[Any, ...], Totals] = {}
        self._units: set[int] = set()
        self._draw: tuple[str, float] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="retort-arm-counts", daemon=True)

    def start(self) -> None:
        """Start writing."""
        self._thread.start()

    def stop(self) -> None:
        """Write the rest, once, and end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self.write()

    def add(self, serving: Serving, model: Champion, unit: str, answers: Sequence[Answer] | None) -> None:
        """Count one request that `model` answered, or, with None, failed to; `unit` is its key or id."""
        challenge = serving.beside.get(CHALLENGER)
        draw = ("", 0.0) if challenge is None else (challenge.arm.salt, challenge.arm.share)
        totals = self._of(model, draw)
        _count(totals, answers)
        if challenge is not None and self._is_new(draw, unit):
            totals.units += 1

    def add_shadow(self, model: Champion, answers: Sequence[Answer] | None) -> None:
        """Count texts that the shadow answered, or one that it failed at."""
        _count(self._of(model, ("", 0.0)), answers)

    def _of(self, model: Champion, draw: tuple[str, float]) -> Totals:
        identity = model.identity
        key = (identity.name, self.process, int(self.now() // HOUR_S), identity.version, model.arm, *draw)
        return self._totals.setdefault(key, Totals())

    def _is_new(self, draw: tuple[str, float], unit: str) -> bool:
        if draw != self._draw:
            self._draw, self._units = draw, set()
        unit_hash = hash(unit)
        if unit_hash in self._units or len(self._units) >= MOST_UNITS:
            return False
        self._units.add(unit_hash)
        return True

    def _work(self) -> None:
        while not self._stop.wait(self.every_s):
            self.write()

    def write(self) -> None:
        """Write the totals that changed; never raises, so the thread lives on."""
        hour = int(self.now() // HOUR_S)
        now = {key: _copy(totals) for key, totals in list(self._totals.items())}
        changed = {key: totals for key, totals in now.items() if totals != self._written.get(key)}
        if not changed:
            return
        try:
            _store(self.engine(), [dict(zip(KEY, key, strict=True)) | _as_row(t) for key, t in changed.items()])
        except Exception as error:  # noqa: BLE001 - a database that is away must not stop the service
            self.errors.inc()
            logger.warning("the counts of the arms cannot be written and are kept: %s", error)
            return
        self._written |= changed
        for key in [key for key in now if key[KEY.index("hour")] < hour - 1]:
            del self._totals[key], self._written[key]


def _count(totals: Totals, answers: Sequence[Answer] | None) -> None:
    if answers is None:
        totals.failed += 1
        return
    totals.answered += 1
    totals.texts += len(answers)
    totals.abstained += sum(answer.abstained for answer in answers)


def _copy(totals: Totals) -> Totals:
    return Totals(**_as_row(totals))


def _as_row(totals: Totals) -> dict[str, int]:
    return {name: getattr(totals, name) for name in TOTALS}


def _store(engine: sa.Engine, rows: list[dict[str, Any]]) -> None:
    dialect = postgresql if engine.dialect.name == "postgresql" else sqlite
    statement: Any = dialect.insert(arm_counts)
    new = {name: statement.excluded[name] for name in TOTALS}
    with engine.begin() as connection:
        connection.execute(statement.on_conflict_do_update(index_elements=KEY, set_=new), rows)


def read_counts(
    name: str, *, version: str, arm: str, since: float, salt: str | None = None, share: float | None = None
) -> dict[str, int]:
    """The totals of one version in one arm since the hour of `since`, over all processes."""
    table = arm_counts
    where = (table.c.name == name) & (table.c.version == version) & (table.c.arm == arm)
    where &= table.c.hour >= int(since // HOUR_S)
    if salt is not None:
        where &= table.c.salt == salt
    if share is not None:
        where &= table.c.share == share
    sums = [sa.func.coalesce(sa.func.sum(table.c[total]), 0).label(total) for total in TOTALS]
    with database.engine().connect() as connection:
        found = connection.execute(sa.select(*sums).where(where)).mappings().one()
    return {total: int(value) for total, value in found.items()}


def read_units(name: str, salt: str, share: float) -> list[tuple[int, int]]:
    """Distinct units of challenger and champion under one draw, of each process apart.

    The units of one process are distinct, so each is one draw; two processes may have met the same key.
    """
    table = arm_counts
    units = {
        arm: sa.func.sum(sa.case((table.c.arm == arm, table.c.units), else_=0)) for arm in (CHALLENGER, "champion")
    }
    where = (table.c.name == name) & (table.c.salt == salt) & (table.c.share == share)
    statement = sa.select(*units.values()).where(where).group_by(table.c.process)
    with database.engine().connect() as connection:
        return [(int(new), int(old)) for new, old in connection.execute(statement)]
