"""Champion, challenger and shadow of a name as the database assigns them, and the draw of who is asked.

The champion answers. A challenger answers a share of the requests in its place; a shadow is asked again about a sample
of them, and nobody waits for what it says.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CHALLENGER, SHADOW = "challenger", "shadow"
MUST_FIT = ("labels", "target", "pairs")
"""What a model beside the champion must have in common with it, by the names of the manifest."""


@dataclass(frozen=True, kw_only=True)
class Pointer:
    """A version of a model and where its folder lies."""

    name: str
    version: str
    model_sha256: str
    model_path: str
    bento: str


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A version beside the champion."""

    pointer: Pointer
    share: float
    """Of the requests, 0 to 1."""
    salt: str

    def draws(self, unit: str) -> bool:
        """Whether this arm has `unit`, a key or a request id."""
        return drawn(self.salt, unit, self.share)


@dataclass(frozen=True, kw_only=True)
class Raised:
    """A share of the requests to draw for labelling while monitoring suspects something."""

    rate: float
    until: float
    """Seconds since the epoch at which it lapses."""


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """Which versions serve a name, and whether more of its requests are to be labelled."""

    champion: Pointer | None = None
    beside: Mapping[str, Arm] = field(default_factory=dict)
    """Challenger and shadow, as far as there are."""
    raised: Raised | None = None


def drawn(salt: str, unit: str, share: float) -> bool:
    """Whether `unit` is among the `share` that `salt` draws.

    A hash rather than a random number, so that the same unit is always drawn or never, here and in any other process;
    as a share grows, it keeps those that it had.
    """
    digest = hashlib.sha256(f"{salt}/{unit}".encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:8]) < share * 2**64


def read_assignment(name: str) -> Assignment:
    """What the database assigns to `name`: one statement, so that champion and arms fit together."""
    import sqlalchemy as sa

    from bento import database

    champions, arms, rates = database.champions, database.arms, database.audit_rates
    own = [champions.c[each].label(f"champion_{each}") for each in Pointer.__annotations__]
    joined = champions.outerjoin(arms, arms.c.name == champions.c.name)
    joined = joined.outerjoin(rates, rates.c.name == champions.c.name)
    statement = sa.select(*own, arms, rates.c.rate, rates.c.until).select_from(joined).where(champions.c.name == name)
    with database.engine().connect() as connection:
        rows = [dict(row) for row in connection.execute(statement).mappings()]
    if not rows:
        return Assignment()
    found = {row["arm"]: Arm(pointer=_pointer(row), share=row["share"], salt=row["salt"]) for row in rows if row["arm"]}
    first = rows[0]
    raised = None if first["rate"] is None else Raised(rate=first["rate"], until=first["until"])
    return Assignment(champion=_pointer(first, "champion_"), beside=found, raised=raised)


def _pointer(row: dict[str, Any], prefix: str = "") -> Pointer:
    return Pointer(**{each: row[prefix + each] for each in Pointer.__annotations__})
