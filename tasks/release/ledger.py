"""The promotion ledger: append-only history, and the champion pointer that serving follows.

The pointer moves by compare-and-swap in the database, since an MLflow alias is a plain overwrite without history; the
alias then follows the pointer.
"""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from bento.database import champions, engine, metadata

ledger = sa.Table(
    "ledger",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(128), nullable=False, index=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("action", sa.String(32), nullable=False),  # promote, rollback, bless, reject, refuse
    sa.Column("who", sa.String(128), nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("version", sa.String(32)),
    sa.Column("previous", sa.String(32)),
    sa.Column("model_sha256", sa.String(64)),
    sa.Column("model_path", sa.Text),
    sa.Column("bento", sa.String(256)),
    sa.Column("evidence", sa.JSON, nullable=False),
)


@dataclass(frozen=True, kw_only=True)
class Champion:
    """What serves under a name."""

    name: str
    version: str
    model_sha256: str
    model_path: Path
    """The model folder inside the Bento."""
    bento: str
    """Bento tag."""


def read_champion(name: str) -> Champion | None:
    """The champion that serving follows, if there is one."""
    with engine().connect() as connection:
        row = connection.execute(sa.select(champions).where(champions.c.name == name)).mappings().first()
    return None if row is None else _champion(row)


def swap_champion(new: Champion, *, expected: Champion | None, action: str, who: str, why: str, evidence: Any) -> bool:
    """Make `new` the champion if the champion is still `expected`; entry and pointer move in one transaction.

    Returns False, with nothing changed, when somebody else moved it first.
    """
    values = asdict(new) | {"model_path": str(new.model_path), "updated_at": time.time()}
    with engine().begin() as connection:
        if expected is None:
            try:
                with connection.begin_nested():
                    connection.execute(champions.insert().values(**values))
            except sa.exc.IntegrityError:
                return False
        else:
            still = (champions.c.name == new.name) & (champions.c.version == expected.version)
            still &= champions.c.model_sha256 == expected.model_sha256
            if connection.execute(champions.update().where(still).values(**values)).rowcount != 1:
                return False
        _append(connection, new, action=action, who=who, why=why, evidence=evidence, previous=expected)
    return True


def record(entry: Champion, *, action: str, who: str, why: str, evidence: Any) -> None:
    """Append an entry that moves no pointer: a blessing, a rejection, a refusal."""
    with engine().begin() as connection:
        _append(connection, entry, action=action, who=who, why=why, evidence=evidence, previous=None)


def history(name: str | None = None) -> list[dict[str, Any]]:
    """All entries, newest first."""
    query = sa.select(ledger).order_by(ledger.c.id.desc())
    if name is not None:
        query = query.where(ledger.c.name == name)
    with engine().connect() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def previous_champion(name: str) -> Champion | None:
    """The version that served before the present one: the newest entry of another version that was put into service.

    After a rollback it is the one before that, so that two rollbacks do not go in a circle.
    """
    trail: list[dict[str, Any]] = []
    for row in reversed(history(name)):
        if row["action"] == "promote":
            trail.append(row)
        elif row["action"] == "rollback" and trail:
            trail.pop()
    return _champion(trail[-2]) if len(trail) >= 2 else None


def blessed(version: Champion) -> bool:
    """Whether the boot check of this very Bento and digest has passed."""
    return any(
        row["action"] == "bless" and row["bento"] == version.bento and row["model_sha256"] == version.model_sha256
        for row in history(version.name)
    )


def _append(connection: sa.Connection, new: Champion, *, action: str, who: str, why: str, evidence: Any,
            previous: Champion | None) -> None:  # fmt: skip
    values = asdict(new) | {"model_path": str(new.model_path)}
    connection.execute(
        ledger.insert().values(
            **values,
            at=time.time(),
            action=action,
            who=who,
            why=why,
            evidence=evidence,
            previous=previous.version if previous else None,
        )
    )


def _champion(row: Any) -> Champion:
    names = ("name", "version", "model_sha256", "bento")
    return Champion(**{name: row[name] for name in names}, model_path=Path(row["model_path"]))
