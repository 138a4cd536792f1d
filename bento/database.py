"""The tables that serving writes and the loop reads: request log, feedback, champion pointers.

Times are UTC seconds since the epoch (float), so SQLite and PostgreSQL agree.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy as sa

from bento import settings

metadata = sa.MetaData()

requests = sa.Table(
    "requests",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(128), nullable=False),  # of the model; each has request ids of its own
    sa.Column("request_id", sa.String(64), nullable=False),
    sa.Column("item", sa.Integer, nullable=False),  # position in the request's `texts`
    sa.Column("model_sha256", sa.String(64), nullable=False),
    sa.Column("version", sa.String(32), nullable=False),
    sa.Column("arm", sa.String(16), nullable=False),  # champion, challenger or shadow
    sa.Column("received_at", sa.Float, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("text_pair", sa.Text),
    sa.Column("label", sa.String(256), nullable=False),
    sa.Column("probabilities", sa.JSON, nullable=False),  # in the order of the model's labels
    sa.Column("latency_ms", sa.Float, nullable=False),
    sa.Column("audit", sa.Boolean, nullable=False),  # drawn at random for labelling when it was served
    sa.UniqueConstraint("name", "request_id", "item"),
    sa.Index("requests_by_time", "name", "received_at"),
)

feedback = sa.Table(
    "feedback",
    metadata,
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("request_id", sa.String(64), primary_key=True),
    sa.Column("item", sa.Integer, primary_key=True),
    sa.Column("label", sa.String(256), nullable=False),
    sa.Column("received_at", sa.Float, nullable=False),
)

champions = sa.Table(
    "champions",
    metadata,
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("version", sa.String(32), nullable=False),
    sa.Column("model_sha256", sa.String(64), nullable=False),
    sa.Column("model_path", sa.Text, nullable=False),  # the model folder inside the Bento
    sa.Column("bento", sa.String(256), nullable=False),
    sa.Column("updated_at", sa.Float, nullable=False),
)


@lru_cache(maxsize=8)
def _engine(url: str) -> sa.Engine:
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = sa.create_engine(url, json_serializer=_json, connect_args={"timeout": 30})
        sa.event.listen(engine, "connect", _use_wal)
    else:
        engine = sa.create_engine(url, json_serializer=_json, pool_pre_ping=True)
    metadata.create_all(engine)
    return engine


def _json(value: Any) -> str:
    """Standard JSON, where a number that is not finite is null: PostgreSQL refuses Python's `NaN`."""
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()


def _use_wal(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def engine() -> sa.Engine:
    """The engine of `RETORT_DATABASE_URL`, its tables made; the first call creates the database."""
    return _engine(settings.database_url())
