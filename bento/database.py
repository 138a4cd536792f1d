"""The tables that serving writes and the loop reads: request log, shadow answers, labels, champion pointers, arms.

Times are UTC seconds since the epoch (float), so SQLite and PostgreSQL agree.
"""

import sqlite3
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy as sa

from bento import settings
from bento.errors import ConfigError

SQLITE_TIMEOUT_S = 30
"""So long a statement waits for another's lock."""

metadata = sa.MetaData()


class Answer(sa.TypeDecorator[Any]):
    """JSON where one damaged row reads as null, so that it does not keep the others from being read."""

    impl = sa.JSON
    cache_ok = True

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Any:
        """What reads one value."""
        read = super().result_processor(dialect, coltype)

        def process(value: Any) -> Any:
            try:
                return value if read is None else read(value)
            except ValueError:
                return None

        return process


def _answer_columns() -> list[Any]:
    """Of one text and what a model answered."""
    return [
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
        sa.Column("probabilities", Answer, nullable=False),  # in the order of the model's labels
        sa.Column("latency_ms", sa.Float, nullable=False),  # a shadow's: of the model alone
        sa.Column("audit", sa.Boolean, nullable=False),  # drawn at random for labelling when it was served
        sa.Column("caller", sa.String(16)),  # whose API key it was; null where none are asked for
        sa.Column("audit_rate", sa.Float),  # chance that it was drawn for labelling; null: from before this was noted
        sa.UniqueConstraint("name", "request_id", "item"),
    ]


requests = sa.Table(
    "requests",
    metadata,
    *_answer_columns(),
    sa.Index("requests_by_time", "name", "received_at"),
    sa.Index(  # covers the count of the audit queue
        "requests_drawn",
        *("name", "audit", "request_id", "item"),
        sqlite_where=sa.text("audit = 1"),
        postgresql_where=sa.text("audit"),
    ),
)

# What a shadow answered to a request that another model answered: a table of its own, so that no reader of the request
# log can take it for traffic.
shadows = sa.Table("shadows", metadata, *_answer_columns(), sa.Index("shadows_by_time", "name", "received_at"))

feedback = sa.Table(
    "feedback",
    metadata,
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("request_id", sa.String(64), primary_key=True),
    sa.Column("item", sa.Integer, primary_key=True),
    sa.Column("label", sa.String(256), nullable=False),
    sa.Column("received_at", sa.Float, nullable=False),
    sa.Column("source", sa.String(16)),  # client, audit or import; null: from before this was noted
)

# Labels that a person has corrected since.
replaced_feedback = sa.Table(
    "replaced_feedback",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(128), nullable=False),
    sa.Column("request_id", sa.String(64), nullable=False),
    sa.Column("item", sa.Integer, nullable=False),
    sa.Column("label", sa.String(256), nullable=False),
    sa.Column("received_at", sa.Float, nullable=False),
    sa.Column("source", sa.String(16)),
    sa.Column("replaced_at", sa.Float, nullable=False),
    sa.Index("replaced_feedback_by_item", "name", "request_id", "item"),
)

# Rows that were picked for labelling because they look odd: a table of its own, so that no estimate can count them
# among the random ones.
targeted = sa.Table(
    "targeted",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),  # in the order in which they were picked
    sa.Column("name", sa.String(128), nullable=False),
    sa.Column("request_id", sa.String(64), nullable=False),
    sa.Column("item", sa.Integer, nullable=False),
    sa.Column("reason", sa.String(32), nullable=False),
    sa.Column("added_at", sa.Float, nullable=False),
    sa.UniqueConstraint("name", "request_id", "item"),
)

# What a model thinks is right: shown to whoever labels, and read by nothing that counts labels.
proposals = sa.Table(
    "proposals",
    metadata,
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("request_id", sa.String(64), primary_key=True),
    sa.Column("item", sa.Integer, primary_key=True),
    sa.Column("label", sa.String(256), nullable=False),
    sa.Column("probability", sa.Float, nullable=False),
    sa.Column("model_sha256", sa.String(64), nullable=False),
    sa.Column("proposed_at", sa.Float, nullable=False),
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

# A higher share to draw for labelling than the service's own, while monitoring suspects something.
audit_rates = sa.Table(
    "audit_rates",
    metadata,
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("rate", sa.Float, nullable=False),
    sa.Column("until", sa.Float, nullable=False),  # then it lapses, whatever has become of the monitor
)

arms = sa.Table(
    "arms",
    metadata,
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("arm", sa.String(16), primary_key=True),  # challenger or shadow
    sa.Column("version", sa.String(32), nullable=False),
    sa.Column("model_sha256", sa.String(64), nullable=False),
    sa.Column("model_path", sa.Text, nullable=False),
    sa.Column("bento", sa.String(256), nullable=False),
    sa.Column("share", sa.Float, nullable=False),  # of the traffic: 0 to 1
    sa.Column("salt", sa.String(32), nullable=False),  # of the draw; another one for each challenge
    sa.Column("since", sa.Float, nullable=False),
)


@lru_cache(maxsize=8)
def _engine(url: str) -> sa.Engine:
    parsed = _parsed(url)
    if parsed.get_backend_name() == "sqlite":
        if parsed.database:
            settings.make_folder(Path(parsed.database).parent)
        engine = sa.create_engine(url, json_serializer=_json, connect_args={"timeout": SQLITE_TIMEOUT_S})
        sa.event.listen(engine, "connect", _use_wal)
    else:
        engine = sa.create_engine(url, json_serializer=_json, pool_pre_ping=True)
    _make_tables(engine)
    _add_columns(engine)
    return engine


def _parsed(url: str) -> sa.URL:
    """Raises: ConfigError, without the URL, which may hold a password."""
    try:
        parsed = sa.make_url(url)
        parsed.get_dialect().import_dbapi()
    except ImportError as error:
        raise ConfigError(
            f"RETORT_DATABASE_URL: expected a database whose driver is installed, got one that needs {error.name}; "
            f"pip install {error.name}"
        ) from error
    except sa.exc.ArgumentError as error:
        raise ConfigError(
            "RETORT_DATABASE_URL: expected sqlite:////FILE or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE, got "
            "something else; correct it, or unset it for a SQLite file under RETORT_HOME"
        ) from error
    return parsed


def _make_tables(engine: sa.Engine) -> None:
    """Make what is missing; a table that another thread or process makes after we looked is found at the next try."""
    for _ in metadata.tables:
        try:
            return metadata.create_all(engine)
        except sa.exc.DBAPIError as error:
            if "already exists" not in str(error.orig):
                raise
    metadata.create_all(engine)


def _add_columns(engine: sa.Engine) -> None:
    """Give tables of an earlier version the columns that came since, which are all nullable: nothing is rewritten."""
    found = sa.inspect(engine)
    for table in metadata.sorted_tables:
        known = {column["name"] for column in found.get_columns(table.name)}
        for column in table.columns:
            if column.name not in known:
                _add_column(engine, table.name, column)


def _add_column(engine: sa.Engine, table: str, column: sa.Column[Any]) -> None:
    """Another process may be faster."""
    statement = f"ALTER TABLE {table} ADD COLUMN {column.name} {column.type.compile(engine.dialect)}"
    try:
        with engine.begin() as connection:
            connection.execute(sa.text(statement))
    except sa.exc.DBAPIError as error:
        if "duplicate column" not in str(error.orig) and "already exists" not in str(error.orig):
            raise


def _json(value: Any) -> str:
    """Standard JSON, where a number that is not finite is null: PostgreSQL refuses Python's `NaN`."""
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()


def _use_wal(connection: sqlite3.Connection, _record: Any) -> None:
    """SQLite waits for its lock except here: two that change a new file's journal at once would both wait for ever."""
    give_up_at = time.monotonic() + SQLITE_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > give_up_at:
                raise
            time.sleep(0.02)
    connection.execute("PRAGMA synchronous=FULL")  # a commit outlives a power cut; only then may the spool forget


def engine() -> sa.Engine:
    """The engine of `RETORT_DATABASE_URL`, its tables made; the first call creates the database."""
    return _engine(settings.database_url())
