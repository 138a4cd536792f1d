"""Arms and shadow answers on PostgreSQL, whose locks and upserts are others than SQLite's."""

import time
from collections.abc import Iterator
from pathlib import Path
from threading import Barrier, Thread

import pytest
import sqlalchemy as sa

from bento import database, records
from bento.arms import read_assignment
from bento.metrics import Metrics
from bento.request_log import RequestLog
from tasks.release import ledger
from tasks.release.ledger import Champion
from tests import postgres

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    yield from postgres.database_server(monkeypatch)


def version(number: int) -> Champion:
    return Champion(
        name="tiny", version=str(number), model_sha256=f"{number:064d}", model_path=Path("/m"), bento="tiny:1"
    )  # fmt: skip


def challenge(new: Champion, expected: Champion) -> ledger.Arm | None:
    return ledger.set_arm(
        new, arm="challenger", share=0.1, expected=expected, action="challenge", who="ada", why="test"
    )  # fmt: skip


def swap(new: Champion, expected: Champion | None) -> bool:
    return ledger.swap_champion(new, expected=expected, action="promote", who="ada", why="test", evidence={})


def test_arms_follow_the_champion_and_shadow_answers_stay_out_of_the_log() -> None:
    assert swap(version(1), None)
    assert challenge(version(2), version(1)) is not None
    assert read_assignment("tiny").beside["challenger"].pointer.version == "2"
    for number in range(3, 13):
        champion = ledger.read_champion("tiny")
        assert champion is not None
        barrier = Barrier(2)
        threads = [
            Thread(target=lambda: (barrier.wait(), challenge(version(99), champion))),  # noqa: B023
            Thread(target=lambda: (barrier.wait(), swap(version(number), champion))),  # noqa: B023
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ledger.read_champion("tiny") == version(number)
        assert ledger.read_arms("tiny") == {}

    log = RequestLog(Metrics())
    log.start()
    row = {
        "name": "tiny", "request_id": "r", "item": 0, "model_sha256": "0" * 64, "version": "1", "received_at": 1.0,
        "text": "my \0 card", "text_pair": None, "label": "refund", "probabilities": [1.0], "latency_ms": 1.0,
        "audit": False,
    }  # fmt: skip
    log.append([row | {"arm": "champion"}, row | {"arm": "shadow"}, row | {"arm": "shadow"}])
    assert log.close()
    assert [found["arm"] for found in records.read_window("tiny", 0, time.time())] == ["champion"]
    with database.engine().connect() as connection:
        assert connection.scalars(sa.select(database.shadows.c.arm)).all() == ["shadow"]
