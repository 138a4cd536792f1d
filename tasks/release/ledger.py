"""The promotion ledger: append-only history, and the champion pointer and arms that serving follows.

The pointer moves by compare-and-swap in the database, since an MLflow alias is a plain overwrite without history; the
alias then follows the pointer. Challenger and shadow stand beside one champion: when it moves, they end.
"""

import secrets
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from bento.database import arms, champions, engine, metadata
from bento.errors import UserError

ledger = sa.Table(
    "ledger",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(128), nullable=False, index=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column(
        "action", sa.String(32), nullable=False
    ),  # promote, rollback, challenge, shadow, withdraw, bless, reject, refuse; or how an experiment ended
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


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A version that stands beside the champion."""

    version: Champion
    share: float
    """Of the requests, 0 to 1."""
    salt: str
    """Of the draw: it stays while one version's share changes, and is new for each other."""
    since: float
    """Seconds since the epoch."""


def read_champion(name: str) -> Champion | None:
    """The champion that serving follows, if there is one."""
    with engine().connect() as connection:
        row = connection.execute(sa.select(champions).where(champions.c.name == name)).mappings().first()
    return None if row is None else _champion(row)


def require_champion(name: str, purpose: str = "") -> Champion:
    """The champion; `purpose`, such as " to serve", goes into the words of the error. Raises: UserError without one."""
    champion = read_champion(name)
    if champion is None:
        raise UserError(f"{name} has no champion{purpose}; `retort run CONFIG` makes one, `retort status` lists names")
    return champion


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
        elif connection.execute(champions.update().where(_still(expected)).values(**values)).rowcount != 1:
            return False
        _append(connection, new, action=action, who=who, why=why, evidence=evidence, previous=expected)
        _end(connection, new.name, who=who, why=f"{action} of version {new.version} moved the champion")
    return True


def _still(champion: Champion) -> sa.ColumnElement[bool]:
    """Of the pointer table: the row of this champion, if it is still the one."""
    same = (champions.c.name == champion.name) & (champions.c.version == champion.version)
    return same & (champions.c.model_sha256 == champion.model_sha256)


def read_arms(name: str) -> dict[str, Arm]:
    """What stands beside the champion: `challenger` and `shadow`, as far as there are."""
    with engine().connect() as connection:
        return _arms(connection, name)


def _arms(connection: sa.Connection, name: str) -> dict[str, Arm]:
    rows = connection.execute(sa.select(arms).where(arms.c.name == name)).mappings()
    return {row["arm"]: _arm(row) for row in rows}


def set_arm(
    new: Champion, *, arm: str, share: float, expected: Champion, action: str, who: str, why: str
) -> Arm | None:
    """Put `new` beside the champion `expected`, or change its share; entry and arm move in one transaction.

    Returns None, with nothing changed, when the champion is another one by now or the arm holds another version.
    """
    with engine().begin() as connection:
        held = champions.update().where(_still(expected)).values(version=expected.version)
        if connection.execute(held).rowcount != 1:  # else locked: the champion cannot move until this is done
            return None
        known = _arms(connection, new.name).get(arm)
        if known is not None and known.version != new:
            return None
        salt, since = (known.salt, known.since) if known else (secrets.token_hex(8), time.time())
        where = (arms.c.name == new.name) & (arms.c.arm == arm)
        connection.execute(arms.delete().where(where))
        values = asdict(new) | {"model_path": str(new.model_path)}
        connection.execute(arms.insert().values(**values, arm=arm, share=share, salt=salt, since=since))
        evidence = {"share": share, "salt": salt}
        _append(connection, new, action=action, who=who, why=why, evidence=evidence, previous=None)
    return Arm(version=new, share=share, salt=salt, since=since)


def end_arms(name: str, arm: str | None, *, who: str, why: str) -> dict[str, Arm]:
    """Take one arm, or both, from beside the champion, with an entry each; returns what was taken."""
    with engine().begin() as connection:
        return _end(connection, name, arm, who=who, why=why)


def _end(connection: sa.Connection, name: str, arm: str | None = None, *, who: str, why: str) -> dict[str, Arm]:
    where = (arms.c.name == name) if arm is None else (arms.c.name == name) & (arms.c.arm == arm)
    rows = connection.execute(arms.delete().where(where).returning(*arms.c)).mappings().all()
    for row in rows:
        evidence = {key: row[key] for key in ("arm", "share", "salt", "since")}
        _append(connection, _champion(row), action="withdraw", who=who, why=why, evidence=evidence, previous=None)
    return {row["arm"]: _arm(row) for row in rows}


def record(
    entry: Champion, *, action: str, who: str, why: str, evidence: Any, connection: sa.Connection | None = None
) -> None:
    """Append an entry that moves no pointer, such as a blessing or a refusal; within the transaction of `connection`,
    where one is given."""
    with engine().begin() if connection is None else nullcontext(connection) as used:
        _append(used, entry, action=action, who=who, why=why, evidence=evidence, previous=None)


def history(name: str | None = None) -> list[dict[str, Any]]:
    """All entries, newest first."""
    query = sa.select(ledger).order_by(ledger.c.id.desc())
    if name is not None:
        query = query.where(ledger.c.name == name)
    with engine().connect() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def previous_champion(name: str) -> Champion | None:
    """The model that served before the present one: that of the newest promotion of another.

    After a rollback it is the one before that, so that two rollbacks do not go in a circle.
    """
    trail, _ = _trail(name)
    return _champion(trail[-2]) if len(trail) >= 2 else None


def rolled_back(version: Champion) -> dict[str, Any] | None:
    """The entry of the rollback that took this very model out of service, unless it was promoted again since."""
    _, undone = _trail(version.name)
    return undone.get(version.model_sha256)


def _trail(name: str) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """Promotions that no rollback undid, oldest first, and by digest the rollbacks that undid the others.

    A model that is promoted while it serves already stands there once, or a rollback would go from it to itself.
    """
    trail: list[dict[str, Any]] = []
    undone: dict[str, dict[str, Any]] = {}
    for row in reversed(history(name)):
        if row["action"] == "promote":
            if trail and trail[-1]["model_sha256"] == row["model_sha256"]:
                trail.pop()
            trail.append(row)
            undone.pop(row["model_sha256"], None)
        elif row["action"] == "rollback" and trail:
            undone[trail.pop()["model_sha256"]] = row
    return trail, undone


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


def _arm(row: Any) -> Arm:
    return Arm(version=_champion(row), share=row["share"], salt=row["salt"], since=row["since"])
