"""A made-up experiment of the name `tiny`: two versions, and log rows in which they answer with a given accuracy."""

import time
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from bento import database
from bento.arm_counts import TOTALS, arm_counts
from bento.manifest import folder_sha256
from tasks.experiment.config import ExperimentConfig
from tasks.release import ledger
from tasks.release.ledger import Champion
from tests.logged import row, store
from tests.tiny import write_tiny_model

LABELS = ("card_lost", "refund", "transfer")


def quick(**changes: object) -> ExperimentConfig:
    """Settings that a few hundred rows decide."""
    return ExperimentConfig.model_validate({"delta": 0.05, "min_requests": 100, "max_labels": 200} | changes)


def bless(number: int, folder: Path) -> Champion:
    """A version of `tiny` that could be promoted."""
    model = write_tiny_model(folder / f"v{number}", seed=number, labels=LABELS)
    entry = Champion(
        name="tiny", version=str(number), model_sha256=folder_sha256(model), model_path=model, bento=f"tiny:{number}"
    )
    ledger.record(entry, action="bless", who="retort", why="boot check", evidence={})
    return entry


class Traffic:
    """Requests to `tiny`, answered by one version and shadowed by another."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.truths: dict[str, str] = {}
        self.num = 0

    def pairs(
        self, serving: Champion, beside: Champion, n: int, *, good: float, bad: float, label: str = "refund"
    ) -> None:
        """`n` texts: the shadow alone is right on a share `good` of them, the serving one alone on `bad`."""
        rows = []
        for draw in self.rng.random(n):
            self.num += 1
            request_id = f"r{self.num}"
            wrong = next(other for other in LABELS if other != label)
            served, shadowed = label, label
            truth = label
            if draw < good:
                served, truth = label, wrong
                shadowed = wrong
            elif draw < good + bad:
                shadowed = wrong
            self.truths[request_id] = truth
            common = {"received_at": time.time(), "text": f"text {self.num}"}
            rows.append(row(request_id, **common, **_of(serving), label=served, arm="champion"))
            rows.append(row(request_id, **common, **_of(beside), label=shadowed, arm="shadow"))
        store(*rows)
        count(serving, "champion", answered=n)
        count(beside, "shadow", answered=n)

    def label(self, most: int | None = None) -> int:
        """Label what waits in the audit queue, as a person would; how many."""
        from bento.audit_records import audit_queue
        from bento.records import add_feedback

        waiting = audit_queue("tiny", most or 10_000)
        for found in waiting:
            truth = self.truths[found["request_id"]]
            add_feedback("tiny", found["request_id"], found["item"], truth, time.time())
        return len(waiting)


def _of(version: Champion) -> dict[str, str]:
    return {"version": version.version, "model_sha256": version.model_sha256}


def count(
    version: Champion, arm: str, *, salt: str = "", share: float = 0.0, process: str = "p", **totals: int
) -> None:
    """Add to what a process counted of an arm."""
    key = {"name": "tiny", "process": process, "hour": int(time.time() // 3600), "version": version.version}
    key |= {"arm": arm, "salt": salt, "share": share}
    where = sa.and_(*(arm_counts.c[column] == value for column, value in key.items()))
    with database.engine().begin() as connection:
        known = connection.execute(sa.select(arm_counts).where(where)).mappings().one_or_none()
        connection.execute(arm_counts.delete().where(where))
        new = {name: totals.get(name, 0) + (known[name] if known else 0) for name in TOTALS}
        connection.execute(arm_counts.insert().values(**key, **new))


@pytest.fixture
def versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Champion]:
    """Three blessed versions, the first the champion, in a state folder of their own, with the registry left out."""
    from flows.release import promote_by_hand
    from tasks.release import tracking

    monkeypatch.setenv("RETORT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RETORT_DATABASE_URL", raising=False)
    for name in ("point_alias", "set_alias", "drop_aliases"):
        monkeypatch.setattr(tracking, name, lambda *args: None)
    found = [bless(number, tmp_path) for number in range(1, 4)]
    promote_by_hand("tiny", "1", who="ada", why="first")
    return found
