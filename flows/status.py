"""What there is: models, versions, the ledger, the looks and the reports."""

from pathlib import Path
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
        "versions": tracking.list_versions(name),
        "ledger": ledger.history(name)[:NUM_ENTRIES],
        "looks": read_looks(name, limit=NUM_ENTRIES),
    }


def find_report(target: str) -> Path:
    """The newest report whose folder is, or starts with, `target`. Raises: UserError listing those there are."""
    root = settings.home() / "reports"
    found = sorted(root.glob("*/report.html"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in found:
        if (
            path.parent.name == target
            or path.parent.name.rpartition("-")[0] == target
            or path.parent.name.startswith(target)
        ):
            return path
    known = ", ".join(path.parent.name for path in found[:20]) or "none"
    raise UserError(f"{target}: expected a model's name or one of the reports in {root}; there are: {known}")
