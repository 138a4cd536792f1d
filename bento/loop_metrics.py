"""What the database knows about the served model, as gauges: its age, the audit queue, the last look at its traffic.

A thread reads it now and then; a scrape only shows what was read last. What is not known (no label drawn, no look
taken, a database that is away) is absent rather than zero.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from prometheus_client import Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from bento import database
from bento.router import Identity

logger = logging.getLogger(__name__)

READ_EVERY_S = 30.0
LARGEST_SHARE = 0.01
"""Of the time at most this share is spent reading: a slow database is asked less often,"""
LONGEST_PAUSE_S = 600.0
"""though at least this often."""
STATES = ("no_drift", "mix_only", "suspect", "harm")

ledger = sa.table("ledger", *map(sa.column, ("name", "model_sha256", "action", "at")))
looks = sa.table("looks", *map(sa.column, ("id", "name", "at", "state")), sa.column("evidence", sa.JSON))
"""Written by promotion and monitoring, which make these tables; they may be missing."""

FAMILIES = {
    "audit_queue_rows": "Rows drawn for labelling that have no label yet",
    "audit_labelled_ratio": "Share of the rows drawn for labelling that have a label",
    "model_age_seconds": "Since the model that serves was first promoted",
    "drift_looks": "Looks that monitoring has taken",
    "drift_look_age_seconds": "Since the last look",
    "drift_alpha": "Level of the last look's drift tests",
    "audited_accuracy_ratio": "Accuracy on audited labels at the last look",
}
LABELLED = {
    "drift_state": ("state", "1: what the last look found"),
    "drift_p_value": ("test", "p-value of each drift test of the last look, corrected for their number"),
}


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What one read found, times in seconds since the epoch; None and empty where there is nothing."""

    num_drawn: int
    num_labelled: int
    promoted_at: float | None
    num_looks: int
    look: dict[str, Any] | None
    """The last look: at, state, evidence."""


def read_snapshot(identity: Identity, engine: sa.Engine) -> Snapshot:
    """Read all gauges' sources in one connection. Raises: SQLAlchemyError."""
    with engine.connect() as connection:
        tables = set(sa.inspect(connection).get_table_names())
        num_drawn, num_labelled = connection.execute(_audited(identity.name)).one()
        promoted_at = connection.scalar(_first_promotion(identity)) if "ledger" in tables else None
        num_looks, look = 0, None
        if "looks" in tables:
            mine = looks.c.name == identity.name
            num_looks = connection.scalar(sa.select(sa.func.count()).select_from(looks).where(mine)) or 0
            newest = sa.select(looks).where(mine).order_by(looks.c.id.desc()).limit(1)
            look = connection.execute(newest).mappings().one_or_none()
    return Snapshot(
        num_drawn=num_drawn,
        num_labelled=num_labelled,
        promoted_at=promoted_at,
        num_looks=num_looks,
        look=dict(look) if look else None,
    )


def _audited(name: str) -> sa.Select[tuple[int, int]]:
    """How many rows were drawn, and how many of them have a label."""
    requests, feedback = database.requests, database.feedback
    same_item = sa.and_(*(feedback.c[key] == requests.c[key] for key in ("name", "request_id", "item")))
    return (
        sa.select(sa.func.count(), sa.func.count(feedback.c.label))
        .select_from(requests.outerjoin(feedback, same_item))
        .where(requests.c.name == name, requests.c.audit)
    )


def _first_promotion(identity: Identity) -> sa.Select[tuple[float]]:
    """A rollback does not make a model young again."""
    same = (ledger.c.name == identity.name) & (ledger.c.model_sha256 == identity.model_sha256)
    return sa.select(sa.func.min(ledger.c.at)).where(same, ledger.c.action == "promote")


class LoopMetrics(Collector):
    """The gauges, and the thread that keeps them current."""

    def __init__(
        self,
        identity: Callable[[], Identity | None],
        errors: Counter,
        *,
        engine: Callable[[], sa.Engine] = database.engine,
        every_s: float = READ_EVERY_S,
    ) -> None:
        """`identity` says which model serves, None while there is none; `errors` counts failed reads."""
        self.identity = identity
        self.errors = errors
        self.engine = engine
        self.every_s = every_s
        self.snapshot: Snapshot | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="retort-loop-metrics", daemon=True)

    def start(self) -> None:
        """Start reading."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the read that it is in, without waiting for it."""
        self._stop.set()

    def _work(self) -> None:
        pause_s = 0.0
        while not self._stop.wait(pause_s):
            started = time.monotonic()
            self.read()
            pause_s = self.pause_s(time.monotonic() - started)

    def pause_s(self, took_s: float) -> float:
        """How long to rest after a read that took so long."""
        return max(self.every_s, min(took_s / LARGEST_SHARE, LONGEST_PAUSE_S))

    def read(self) -> None:
        """Read once; never raises, so the thread lives on. After a failure nothing is known."""
        identity = self.identity()
        try:
            self.snapshot = None if identity is None else read_snapshot(identity, self.engine())
        except Exception as error:  # noqa: BLE001 - a database that is away must not stop the service
            self.snapshot = None
            self.errors.inc()
            logger.warning("the gauges of audit, drift and age cannot be read: %s", error)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """The families without samples."""
        yield from _families().values()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """What was read last."""
        families, snapshot = _families(), self.snapshot
        if snapshot is not None:
            now = time.time()
            for name, value in (_values(snapshot, now) | _look_values(snapshot, now)).items():
                families[name].add_metric([], value)
            _add_look(families, snapshot.look)
        yield from (family for family in families.values() if family.samples)


def _families() -> dict[str, GaugeMetricFamily]:
    plain = {name: GaugeMetricFamily(f"retort_{name}", text, labels=[]) for name, text in FAMILIES.items()}
    labelled = {
        name: GaugeMetricFamily(f"retort_{name}", text, labels=[label]) for name, (label, text) in LABELLED.items()
    }
    return plain | labelled


def _values(snapshot: Snapshot, now: float) -> dict[str, float]:
    """Audit queue and age."""
    values: dict[str, float] = {"audit_queue_rows": snapshot.num_drawn - snapshot.num_labelled}
    if snapshot.num_drawn:
        values["audit_labelled_ratio"] = snapshot.num_labelled / snapshot.num_drawn
    if snapshot.promoted_at is not None:
        values["model_age_seconds"] = now - snapshot.promoted_at
    return values


def _look_values(snapshot: Snapshot, now: float) -> dict[str, float]:
    """The last look's figures that have no label."""
    if snapshot.look is None:
        return {}
    values = {"drift_looks": float(snapshot.num_looks), "drift_look_age_seconds": now - snapshot.look["at"]}
    drift, harm = (snapshot.look["evidence"].get(part) or {} for part in ("drift", "harm"))
    if "alpha" in drift:
        values["drift_alpha"] = drift["alpha"]
    if harm.get("accuracy"):
        values["audited_accuracy_ratio"] = harm["accuracy"]["value"]
    return values


def _add_look(families: dict[str, GaugeMetricFamily], look: dict[str, Any] | None) -> None:
    if look is None:
        return
    for state in STATES:
        families["drift_state"].add_metric([state], float(state == look["state"]))
    for name, test in (look["evidence"].get("drift") or {}).get("tests", {}).items():
        families["drift_p_value"].add_metric([name], test["p_holm"])
