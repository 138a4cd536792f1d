"""Champion, challenger and shadow of the name `tiny`, written into the database as the release does."""

import time
from pathlib import Path

import sqlalchemy as sa

from bento import database
from bento.manifest import folder_sha256


def _row(model: Path, version: str, sha256: str | None) -> dict[str, str]:
    sha256 = sha256 or folder_sha256(model)
    return {"version": version, "model_sha256": sha256, "model_path": str(model), "bento": f"tiny:{version}"}


def point_at(model: Path, version: str, *, sha256: str | None = None) -> None:
    """Make `model` the champion, which ends what stands beside the old one."""
    row = _row(model, version, sha256) | {"name": "tiny", "updated_at": time.time()}
    with database.engine().begin() as connection:
        connection.execute(sa.delete(database.champions).where(database.champions.c.name == "tiny"))
        connection.execute(sa.delete(database.arms).where(database.arms.c.name == "tiny"))
        connection.execute(sa.insert(database.champions), row)


def put_beside(
    model: Path, version: str, arm: str, share: float, *, salt: str = "salt", sha256: str | None = None
) -> None:
    """Make `model` the challenger or shadow."""
    row = _row(model, version, sha256) | {"name": "tiny", "arm": arm, "salt": salt}
    where = (database.arms.c.name == "tiny") & (database.arms.c.arm == arm)
    with database.engine().begin() as connection:
        connection.execute(sa.delete(database.arms).where(where))
        connection.execute(sa.insert(database.arms), row | {"share": share, "since": time.time()})


def end_arm(arm: str) -> None:
    """Take the challenger or shadow away."""
    with database.engine().begin() as connection:
        connection.execute(sa.delete(database.arms).where(database.arms.c.arm == arm))
