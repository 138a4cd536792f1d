"""What both models answered to the same texts, from the log, in the order in which the shadow's answers arrived."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from bento import database
from bento.redaction import is_readable
from tasks.experiment.table import Experiment

MOST_PAIRS = 200_000
"""The first so many of a phase; an experiment that they do not decide is not decided by more."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One text that both answered, and what is right, once somebody said so."""

    request_id: str
    item: int
    old: str
    """What the champion of the start says."""
    new: str
    """What the challenger says."""
    truth: str | None
    readable: bool
    """Whether a person could label it."""

    @property
    def agree(self) -> bool:
        """Whether the difference is known to be 0 without a label."""
        return self.old == self.new

    @property
    def waits(self) -> bool:
        """Whether the difference is not known yet."""
        return not self.agree and self.truth is None

    def difference(self, unknown: int) -> int:
        """New correct - old correct; `unknown` in place of what is not known yet."""
        if self.agree:
            return 0
        return unknown if self.truth is None else int(self.new == self.truth) - int(self.old == self.truth)


def read_pairs(experiment: Experiment) -> list[Pair]:
    """The pairs of the present phase, each text once: one that comes again says nothing new about the models, though a
    burst of it could decide everything."""
    watched = experiment.phase == "watch"
    serving, beside = experiment.challenger, experiment.champion
    if not watched:
        serving, beside = beside, serving
    pairs: dict[tuple[str, str | None], Pair] = {}
    for row in _rows(experiment, serving.model_sha256, beside.model_sha256):
        answers = (row.beside, row.served) if watched else (row.served, row.beside)
        key = (row.text or f"{row.request_id}/{row.item}", row.text_pair)
        known = pairs.get(key)
        if known is None or (known.waits and row.truth is not None and (known.old, known.new) == answers):
            pairs[key] = Pair(
                request_id=row.request_id, item=row.item, old=answers[0], new=answers[1], truth=row.truth,
                readable=bool(row.text) and is_readable(row.text),
            )  # fmt: skip
    return list(pairs.values())


def _rows(experiment: Experiment, serving: str, beside: str) -> Sequence[sa.Row[tuple[str, ...]]]:
    served, shadows, feedback = database.requests, database.shadows, database.feedback
    key = ("name", "request_id", "item")
    joined = shadows.join(served, sa.and_(*(served.c[each] == shadows.c[each] for each in key)))
    joined = joined.outerjoin(feedback, sa.and_(*(feedback.c[each] == shadows.c[each] for each in key)))
    statement = (
        sa.select(
            shadows.c.request_id,
            shadows.c.item,
            shadows.c.text,
            shadows.c.text_pair,
            served.c.label.label("served"),
            shadows.c.label.label("beside"),
            feedback.c.label.label("truth"),
        )
        .select_from(joined)
        .where(shadows.c.name == experiment.name, shadows.c.id > experiment.after_shadow)
        .where(served.c.model_sha256 == serving, shadows.c.model_sha256 == beside)
        .order_by(shadows.c.id)
        .limit(MOST_PAIRS)
    )
    with database.engine().connect() as connection:
        return connection.execute(statement).all()


def differences(pairs: Sequence[Pair], unknown: int) -> NDArray[np.float64]:
    """Of N pairs, new correct - old correct, with `unknown` for those that wait for a label."""
    return np.array([pair.difference(unknown) for pair in pairs], dtype=np.float64)
