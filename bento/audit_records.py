"""The audit queue: a random stream, from which accuracy is measured, and a targeted one, which is never mixed into it.

A row that was drawn at random is in the random stream alone, however odd it looks.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from bento import database, redaction
from bento.records import Row, read, same_item

TARGETED_SHARE = 5
"""Of so many rows that are asked for, one may be a targeted one, behind the random ones."""
MAX_TARGETED = 500
"""Targeted rows that wait for a label at a time."""
MAX_DRAWN = 200_000

Item = tuple[str, int]
"""Request id and item."""


def audit_queue(name: str, limit: int, *, caller: str | None = None, engine: sa.Engine | None = None) -> list[Row]:
    """Rows of `name` that wait for a label and can be read: the random ones first, oldest first, then targeted ones.

    Each has the columns of `requests`, the `stream` (random or targeted), the `reason` why it was targeted, and
    `proposed_label`, `proposed_probability` and `proposed_by`, None without a proposal. Where there are targeted rows
    they get a place in five, so that a long random stream does not starve them. With `caller` only its own rows.
    """
    picked = database.targeted
    drawn = _waiting(name, caller).where(database.requests.c.audit).order_by(database.requests.c.id)
    odd = _waiting(name, caller).where(~database.requests.c.audit, picked.c.id.is_not(None)).order_by(picked.c.id)
    targeted = read(odd.limit(limit), engine)
    num_random = limit - min(len(targeted), limit // TARGETED_SHARE)
    random = read(drawn.limit(limit), engine)
    if len(random) > num_random:
        random = random[:num_random]
    return random + targeted[: limit - len(random)]


def has_answered(name: str, *, engine: sa.Engine | None = None) -> bool:
    """Whether the log has a request to `name`."""
    requests = database.requests
    return bool(read(sa.select(requests.c.id).where(requests.c.name == name).limit(1), engine))


def _waiting(name: str, caller: str | None) -> sa.Select[Any]:
    """Rows without a label that a person can read."""
    requests, feedback, picked, proposed = (
        database.requests, database.feedback, database.targeted, database.proposals,
    )  # fmt: skip
    tables = requests
    for table in (feedback, picked, proposed):
        tables = tables.outerjoin(table, same_item(table))  # type: ignore[assignment]
    statement = (
        sa.select(
            requests,
            sa.case((requests.c.audit, "random"), else_="targeted").label("stream"),
            picked.c.reason,
            proposed.c.label.label("proposed_label"),
            proposed.c.probability.label("proposed_probability"),
            proposed.c.model_sha256.label("proposed_by"),
        )
        .select_from(tables)
        .where(requests.c.name == name, feedback.c.label.is_(None))
        .where(requests.c.text != "", ~requests.c.text.startswith(redaction.HASHED))
    )
    return statement if caller is None else statement.where(_is_own(caller))


def _is_own(caller: str) -> sa.ColumnElement[bool]:
    return sa.or_(database.requests.c.caller == caller, database.requests.c.caller.is_(None))


@dataclass(frozen=True, kw_only=True)
class QueueCounts:
    """How far the labelling is."""

    random_waiting: int
    random_labelled: int
    targeted_waiting: int
    targeted_labelled: int


def count_queue(name: str, *, engine: sa.Engine | None = None) -> QueueCounts:
    """Rows of both streams, labelled or not; those that nobody can read are among the waiting."""
    requests, feedback, picked = database.requests, database.feedback, database.targeted
    tables = requests.outerjoin(feedback, same_item(feedback))
    drawn = sa.select(sa.func.count(), sa.func.count(feedback.c.label)).select_from(tables)
    odd = sa.select(sa.func.count(), sa.func.count(feedback.c.label)).select_from(
        tables.join(picked, same_item(picked))
    )
    mine = requests.c.name == name
    with (engine or database.engine()).connect() as connection:
        num_drawn, drawn_labelled = connection.execute(drawn.where(mine, requests.c.audit)).one()
        num_odd, odd_labelled = connection.execute(odd.where(mine, ~requests.c.audit)).one()
    return QueueCounts(
        random_waiting=num_drawn - drawn_labelled,
        random_labelled=drawn_labelled,
        targeted_waiting=num_odd - odd_labelled,
        targeted_labelled=odd_labelled,
    )


def raise_audit_rate(name: str, rate: float, until: float, *, engine: sa.Engine | None = None) -> None:
    """Let services that follow `name` draw this share at random, up to a time in seconds since the epoch."""
    rates = database.audit_rates
    values = {"rate": rate, "until": until}
    with (engine or database.engine()).begin() as connection:
        if not connection.execute(rates.update().where(rates.c.name == name).values(**values)).rowcount:
            connection.execute(rates.insert().values(name=name, **values))


def add_targets(
    name: str, items: Iterable[Item], reason: str, *, most: int = MAX_TARGETED, engine: sa.Engine | None = None
) -> int:
    """Put up to `most` rows into the targeted stream, in this order, while it has room; how many were put.

    Passed over: what is not in the log, drawn at random, labelled, unreadable, or in the stream already.
    """
    engine = engine or database.engine()
    room = min(most, MAX_TARGETED - count_queue(name, engine=engine).targeted_waiting)
    num_added = 0
    for request_id, item in items:
        if num_added >= room:
            break
        num_added += _add_target(engine, {"name": name, "request_id": request_id, "item": item}, reason)
    return num_added


def _add_target(engine: sa.Engine, key: Row, reason: str) -> int:
    requests = database.requests
    open_row = _waiting(key["name"], None).where(
        requests.c.request_id == key["request_id"],
        requests.c.item == key["item"],
        ~requests.c.audit,
        database.targeted.c.id.is_(None),
    )
    if not read(open_row, engine):
        return 0
    try:
        with engine.begin() as connection:
            row = key | {"reason": reason, "added_at": time.time()}
            connection.execute(sa.insert(database.targeted), row)
    except sa.exc.IntegrityError:  # two monitors at once
        return 0
    return 1


def open_rows(name: str, model_sha256: str, limit: int, *, engine: sa.Engine | None = None) -> list[Row]:
    """The newest rows of one model that are in neither stream, have no label and can be read, newest first."""
    requests = database.requests
    statement = _waiting(name, None).where(
        requests.c.model_sha256 == model_sha256, ~requests.c.audit, database.targeted.c.id.is_(None)
    )
    return read(statement.order_by(requests.c.id.desc()).limit(limit), engine)


def shadow_disagreements(name: str, limit: int, *, engine: sa.Engine | None = None) -> list[Item]:
    """The newest rows to which a shadow gave another answer."""
    shadows, requests = database.shadows, database.requests
    statement = (
        sa.select(shadows.c.request_id, shadows.c.item)
        .select_from(requests.join(shadows, same_item(shadows)))
        .where(shadows.c.name == name, shadows.c.label != requests.c.label)
        .order_by(shadows.c.id.desc())
        .limit(limit)
    )
    return [(row["request_id"], row["item"]) for row in read(statement, engine)]


def drawn_rows(name: str, model_sha256: str, *, engine: sa.Engine | None = None) -> list[Row]:
    """The random stream of one model in the order in which its labels became due: id, label, audit_rate, true_label.

    The order is that in which the log stored the rows, not that of any clock. Rows that nobody can read are left out:
    their labels are never due.
    """
    requests, feedback = database.requests, database.feedback
    statement = (
        sa.select(requests.c.id, requests.c.label, requests.c.audit_rate, feedback.c.label.label("true_label"))
        .select_from(requests.outerjoin(feedback, same_item(feedback)))
        .where(requests.c.name == name, requests.c.audit, requests.c.model_sha256 == model_sha256)
        .where(sa.or_(feedback.c.label.is_not(None), _is_readable()))
        .order_by(requests.c.id.desc())
        .limit(MAX_DRAWN)
    )
    return read(statement, engine)[::-1]


def _is_readable() -> sa.ColumnElement[bool]:
    text = database.requests.c.text
    return sa.and_(text != "", ~text.startswith(redaction.HASHED))


def probabilities_between(
    name: str, model_sha256: str, first_id: int, last_id: int, *, most: int, engine: sa.Engine | None = None
) -> list[Row]:
    """id and probabilities of one model's rows, drawn or not, between two rows of the log, evenly spread."""
    requests = database.requests
    every = max(1, (last_id - first_id) // most)
    statement = (
        sa.select(requests.c.id, requests.c.probabilities)
        .where(requests.c.name == name, requests.c.model_sha256 == model_sha256)
        .where(requests.c.id >= first_id, requests.c.id <= last_id, requests.c.id % every == 0)
    )
    return read(statement, engine)


def probabilities_of(row_ids: Sequence[int], *, engine: sa.Engine | None = None) -> dict[int, Any]:
    """Row id -> probabilities."""
    requests = database.requests
    found: dict[int, Any] = {}
    for first in range(0, len(row_ids), 500):
        chunk = row_ids[first : first + 500]
        statement = sa.select(requests.c.id, requests.c.probabilities).where(requests.c.id.in_(chunk))
        found |= {row["id"]: row["probabilities"] for row in read(statement, engine)}
    return found


def count_volunteered(name: str, model_sha256: str, *, engine: sa.Engine | None = None) -> int:
    """Labels of rows of one model that are neither drawn nor targeted."""
    requests, feedback, picked = database.requests, database.feedback, database.targeted
    tables = requests.join(feedback, same_item(feedback)).outerjoin(picked, same_item(picked))
    statement = (
        sa.select(sa.func.count())
        .select_from(tables)
        .where(requests.c.name == name, requests.c.model_sha256 == model_sha256)
        .where(~requests.c.audit, picked.c.id.is_(None))
    )
    with (engine or database.engine()).connect() as connection:
        return int(connection.scalar(statement) or 0)


def find_items(request_ids: Sequence[str], *, engine: sa.Engine | None = None) -> dict[Item, dict[str, str | None]]:
    """Item -> the names of the models that answered it, each with the label that it has or None."""
    requests, feedback = database.requests, database.feedback
    columns = (requests.c.name, requests.c.request_id, requests.c.item, feedback.c.label.label("true_label"))
    tables = requests.outerjoin(feedback, same_item(feedback))
    found: dict[Item, dict[str, str | None]] = {}
    for first in range(0, len(request_ids), 500):
        chunk = request_ids[first : first + 500]
        for row in read(sa.select(*columns).select_from(tables).where(requests.c.request_id.in_(chunk)), engine):
            found.setdefault((row["request_id"], row["item"]), {})[row["name"]] = row["true_label"]
    return found


def store_proposals(
    name: str, proposals: Iterable[tuple[Item, str, float]], model_sha256: str, *, engine: sa.Engine | None = None
) -> int:
    """Keep what a model thinks is right (item, label, probability), in place of what was proposed before."""
    engine = engine or database.engine()
    table, num = database.proposals, 0
    with engine.begin() as connection:
        for (request_id, item), label, probability in proposals:
            key = {"name": name, "request_id": request_id, "item": item}
            connection.execute(sa.delete(table).where(*(table.c[column] == value for column, value in key.items())))
            values = {"label": label, "probability": probability, "model_sha256": model_sha256}
            connection.execute(sa.insert(table), key | values | {"proposed_at": time.time()})
            num += 1
    return num


def history(name: str, *, engine: sa.Engine | None = None) -> list[Row]:
    """Labels of `name` that were corrected, oldest correction first."""
    table = database.replaced_feedback
    return read(sa.select(table).where(table.c.name == name).order_by(table.c.id), engine)
