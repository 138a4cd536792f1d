"""The table of answered requests: how rows go in, and the readers that monitoring uses."""

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Literal

import numpy as np
import orjson
import sqlalchemy as sa
from numpy.typing import ArrayLike
from sqlalchemy.exc import IntegrityError

from bento import database, redaction
from bento.arms import SHADOW
from bento.errors import RetortError

Row = dict[str, Any]
"""Column name -> value."""
Source = Literal["client", "audit", "import"]
"""Where a label came from: whoever had asked, a person at the audit queue, or a file."""

COLUMNS = tuple(column.name for column in database.requests.columns if column.name != "id")
ARM = COLUMNS.index("arm")
_values = itemgetter(*COLUMNS)
_ADDED = {"caller": None, "audit_rate": None}
"""Columns that lines of an earlier version's spool lack."""
_PLAIN = frozenset({str, int, float, bool, type(None)})
PROBABILITY_DIGITS = 6
"""Decimal places of a probability in the log."""
FEWEST_ROWS = 32
"""Of one statement for SQLite."""
DRAW_KEY = os.urandom(16)
"""Without it nobody can choose request ids that are drawn, and so what accuracy is measured on."""
NUL = rb"\u0000"
"""As JSON has it."""
_CASTS = {
    sa.String: "text",
    sa.Text: "text",
    sa.Integer: "integer",
    sa.Float: "double precision",
    sa.Boolean: "boolean",
    database.Answer: "json",
}


class DuplicateFeedbackError(RetortError):
    """This item has another label already."""


_TEXTS = (
    sa.select(database.requests.c.text, database.requests.c.text_pair)
    .where(database.requests.c.name == sa.bindparam("wanted_name"))
    .where(database.requests.c.request_id == sa.bindparam("wanted_id"))
    .order_by(database.requests.c.item)
)


def drawn_for_audit(request_id: str, item: int, rate: float) -> bool:
    """Whether this item belongs to the random audit sample: a keyed hash, the same for a request that comes again.

    Of two processes that answer one request, the draw of the one whose row is stored first stands.
    """
    digest = hashlib.blake2b(f"{request_id}/{item}".encode(), digest_size=8, key=DRAW_KEY).digest()
    return int.from_bytes(digest) < rate * 2**64


def texts_sha256(
    texts: Sequence[tuple[str, str | None]], stored_text: Callable[[str], str] = redaction.without_nul
) -> str:
    """Digest of a request's texts, each with its second sentence or None, as they are stored."""
    stored = [[None if part is None else stored_text(part) for part in text] for text in texts]
    return hashlib.sha256(json.dumps(stored).encode()).hexdigest()


def spool_line(row: Row, stored_text: Callable[[str], str]) -> bytes:
    """`row` as a line of the spool."""
    pair = row["text_pair"]
    stored = row | {
        "text": stored_text(row["text"]),
        "text_pair": None if pair is None else stored_text(pair),
        "probabilities": _rounded(row["probabilities"]).decode(),
    }
    line = orjson.dumps(stored, option=orjson.OPT_APPEND_NEWLINE)
    if NUL not in line:
        return line
    clean = {key: redaction.without_nul(value) if isinstance(value, str) else value for key, value in stored.items()}
    return orjson.dumps(clean, option=orjson.OPT_APPEND_NEWLINE)


def _rounded(probabilities: ArrayLike) -> bytes:
    values = np.asarray(probabilities, dtype=np.float64).round(PROBABILITY_DIGITS)
    return orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)


def stored_row(line: bytes) -> tuple[Any, ...] | None:
    """The values of `COLUMNS` from a line of the spool; None when it is damaged."""
    try:
        values: tuple[Any, ...] = _values(_ADDED | orjson.loads(line))
    except (ValueError, TypeError, KeyError):
        return None
    return values if _PLAIN.issuperset(map(type, values)) else None


def insert_rows(engine: sa.Engine, rows: Sequence[Sequence[Any]]) -> int:
    """Insert those of these values of `COLUMNS` that are not stored yet, and return their number.

    One statement a table, which the driver runs without Python's lock; `executemany` would take and give it for every
    row, and wait for the answering thread each time.
    """
    num_stored = 0
    with engine.begin() as connection:
        for table in (database.requests, database.shadows):
            mine = [row for row in rows if (row[ARM] == SHADOW) is (table is database.shadows)]
            if mine:
                num_stored += connection.exec_driver_sql(*_statement(engine, table, mine)).rowcount
    return num_stored


def _statement(engine: sa.Engine, table: sa.Table, rows: Sequence[Sequence[Any]]) -> tuple[str, tuple[Any, ...]]:
    values, parameters = (_for_postgresql if engine.dialect.name == "postgresql" else _for_sqlite)(rows)
    names = ", ".join(COLUMNS)
    return f"INSERT INTO {table.name} ({names}) {values} ON CONFLICT (name, request_id, item) DO NOTHING", parameters


def _for_sqlite(rows: Sequence[Sequence[Any]]) -> tuple[str, tuple[Any, ...]]:
    """Up to a power of two with copies of a row, which the conflict passes over, so that few statements are ever
    compiled: each connection keeps them, and one of 500 rows takes a megabyte."""
    num_rows = max(FEWEST_ROWS, 1 << (len(rows) - 1).bit_length())
    rows = [*rows, *[rows[0]] * (num_rows - len(rows))]
    one = f"({', '.join('?' * len(COLUMNS))})"
    return f"VALUES {', '.join([one] * len(rows))}", tuple(itertools.chain.from_iterable(rows))


def _for_postgresql(rows: Sequence[Sequence[Any]]) -> tuple[str, tuple[Any, ...]]:
    """All rows as one JSON parameter, since each parameter costs the driver time."""
    values = (f"(r->>{at})::{_CASTS[type(database.requests.c[name].type)]}" for at, name in enumerate(COLUMNS))
    statement = f"SELECT {', '.join(values)} FROM jsonb_array_elements(%s::jsonb) AS r"  # noqa: S608 - names only
    return statement, (orjson.dumps(rows).decode(),)


def joined() -> sa.Select[Any]:
    """Requests with their feedback, if any, as `true_label` and `labelled_at`."""
    requests, feedback = database.requests, database.feedback
    return sa.select(
        requests, feedback.c.label.label("true_label"), feedback.c.received_at.label("labelled_at")
    ).select_from(requests.outerjoin(feedback, same_item(feedback)))


def same_item(table: sa.Table) -> sa.ColumnElement[bool]:
    """Whether a row of `table` is about the item of a row of `requests`."""
    return sa.and_(*(table.c[key] == database.requests.c[key] for key in ("name", "request_id", "item")))


def read(statement: sa.Select[Any], engine: sa.Engine | None) -> list[Row]:
    with (engine or database.engine()).connect() as connection:
        return [dict(row) for row in connection.execute(statement).mappings()]


def read_window(
    name: str, since: float, until: float, limit: int | None = None, *, engine: sa.Engine | None = None
) -> list[Row]:
    """The requests to `name` with since <= received_at < until, oldest first; with a `limit`, the newest so many.

    Each row has the columns of `requests`, and `true_label` and `labelled_at`, which are None without feedback.
    """
    requests = database.requests
    statement = (
        joined()
        .where(requests.c.name == name, requests.c.received_at >= since, requests.c.received_at < until)
        .order_by(requests.c.received_at.desc(), requests.c.id.desc())
        .limit(limit)
    )
    return read(statement, engine)[::-1]


def labelled_rows(name: str, since: float, *, engine: sa.Engine | None = None) -> list[Row]:
    """The requests to `name` whose label arrived at or after `since`, in the order of the labels."""
    statement = (
        joined()
        .where(database.requests.c.name == name, database.feedback.c.received_at >= since)
        .order_by(database.feedback.c.received_at, database.requests.c.id)
    )
    return read(statement, engine)


def newest_row(*, engine: sa.Engine | None = None) -> int:
    """The id of the newest row of the request log, whatever model it is of; 0 without rows."""
    (row,) = read(sa.select(sa.func.coalesce(sa.func.max(database.requests.c.id), 0).label("id")), engine)
    return int(row["id"])


def read_request(name: str, request_id: str, *, engine: sa.Engine | None = None) -> list[Row]:
    """All items of one request to `name` in order; empty when it is not in the log."""
    requests = database.requests
    statement = joined().where(requests.c.name == name, requests.c.request_id == request_id)
    return read(statement.order_by(requests.c.item), engine)


def request_texts(name: str, request_id: str, *, engine: sa.Engine | None = None) -> list[tuple[str, str | None]]:
    """The texts of one request to `name`, in order, each with its second sentence or None.

    On the way of every request with an id of the caller's own: one look at an index, and nothing else is read.
    """
    with (engine or database.engine()).connect() as connection:
        rows = connection.execute(_TEXTS, {"wanted_name": name, "wanted_id": request_id})
        return [(text, pair) for text, pair in rows]


def add_feedback(
    name: str,
    request_id: str,
    item: int,
    label: str,
    received_at: float,
    *,
    source: Source = "client",
    replace: bool = False,
    engine: sa.Engine | None = None,
) -> Literal["taken", "known", "replaced"]:
    """Store what was right for one item: the first label stands, and the same again changes nothing.

    With `replace` another label takes its place, and the earlier one is kept in `replaced_feedback`.
    Raises: DuplicateFeedbackError for another label without `replace`.
    """
    engine = engine or database.engine()
    label = redaction.without_nul(label)
    key = {"name": name, "request_id": request_id, "item": item}
    try:
        with engine.begin() as connection:
            row = key | {"label": label, "received_at": received_at, "source": source}
            connection.execute(sa.insert(database.feedback), row)
        return "taken"
    except IntegrityError as error:
        with engine.begin() as connection:
            known = connection.execute(_feedback(key)).mappings().one()
            if known["label"] == label:
                return "known"
            if not replace:
                message = f"item {item} of request {request_id} has the label {known['label']!r} already"
                raise DuplicateFeedbackError(message) from error
            connection.execute(sa.insert(database.replaced_feedback), dict(known) | {"replaced_at": received_at})
            values = {"label": label, "received_at": received_at, "source": source}
            connection.execute(sa.update(database.feedback).where(_is_item(key)).values(values))
        return "replaced"


def _feedback(key: Row) -> sa.Select[Any]:
    return sa.select(database.feedback).where(_is_item(key)).with_for_update()


def _is_item(key: Row) -> sa.ColumnElement[bool]:
    return sa.and_(*(database.feedback.c[name] == value for name, value in key.items()))
