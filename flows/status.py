"""What there is: models, versions, the ledger and the looks."""

from typing import Any

import sqlalchemy as sa

from bento import settings
from bento.database import champions, engine
from bento.errors import UserError
from tasks.monitor.looks import read_looks
from tasks.release import ledger, tracking

NUM_ENTRIES = 10


def read_status(name: str | None) -> list[dict[str, Any]]:
    """Champion, versions, newest ledger entries and looks of one model, or of all. Raises: UserError."""
    if settings.database_url().startswith("sqlite") and not (settings.home() / "retort.db").is_file():
        known: set[str] = set()
    else:
        with engine().connect() as connection:
            known = set(connection.execute(sa.select(champions.c.name)).scalars())
            known |= set(connection.execute(sa.select(ledger.ledger.c.name)).scalars())
    if name is not None and name not in known:
        raise UserError(
            f"{name}: expected a model that was built here; known are: {', '.join(sorted(known)) or 'none'}"
        )
    return [_status(model) for model in sorted(known if name is None else {name})]


def _status(name: str) -> dict[str, Any]:
    champion = ledger.read_champion(name)
    return {
        "name": name,
        "champion": None if champion is None else champion.__dict__ | {"model_path": str(champion.model_path)},
        "arms": {arm: _arm(found) for arm, found in ledger.read_arms(name).items()},
        "versions": tracking.list_versions(name),
        "ledger": ledger.history(name)[:NUM_ENTRIES],
        "looks": read_looks(name, limit=NUM_ENTRIES),
    }


def _arm(found: ledger.Arm) -> dict[str, Any]:
    version = found.version
    return {
        "version": version.version,
        "model_sha256": version.model_sha256,
        "bento": version.bento,
        "share": found.share,
        "since": found.since,
    }
