"""How often the same test rows have decided about a model.

Each decision that looks at a holdout adapts what comes next to its chances, so it is used up by looking (Dwork 2015,
Science 349:636). A decision is about one model: judging the same model again, as a resumed build does, is no new look.
"""

import hashlib
import json
import time
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from bento.database import engine, metadata
from tasks.types import Split

holdout_uses = sa.Table(
    "holdout_uses",
    metadata,
    sa.Column("holdout_sha256", sa.String(64), primary_key=True),
    sa.Column("model_sha256", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(256), nullable=False),  # of the model, or its path
    sa.Column("at", sa.Float, nullable=False),
)


def holdout_sha256(split: Split) -> str:
    """Digest of the rows that decide: their ids and labels, in any order."""
    rows = sorted(zip(split.ids, split.labels, strict=True))
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def note_use(split: Split, *, model_sha256: str, name: str | Path) -> int:
    """Count this model among those that the rows have decided about; how many these are now."""
    holdout = holdout_sha256(split)
    row = {"holdout_sha256": holdout, "model_sha256": model_sha256, "name": str(name)[-256:], "at": time.time()}
    holdout_uses.create(engine(), checkfirst=True)
    try:
        with engine().begin() as connection:
            connection.execute(holdout_uses.insert().values(**row))
    except IntegrityError:
        if not _is_noted(holdout, model_sha256):
            raise
    count = sa.select(sa.func.count()).where(holdout_uses.c.holdout_sha256 == holdout)
    with engine().connect() as connection:
        return int(connection.execute(count).scalar_one())


def _is_noted(holdout: str, model_sha256: str) -> bool:
    """Whether these rows have decided about this model before."""
    same = (holdout_uses.c.holdout_sha256 == holdout) & (holdout_uses.c.model_sha256 == model_sha256)
    with engine().connect() as connection:
        return connection.execute(sa.select(holdout_uses.c.at).where(same)).first() is not None
