"""Counts per arm: what is counted, that writing twice changes nothing, and what a database that is away costs."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from bento import database
from bento.app import Server, create_app
from bento.arm_counts import ArmCounts, read_counts, read_units
from bento.metrics import Metrics
from bento.serve_settings import ServeSettings
from tests.arms import point_at, put_beside
from tests.serving import serving as serving_app
from tests.tiny import write_tiny_model

HOUR = 3_600.0


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_HOME", str(tmp_path))
    monkeypatch.delenv("RETORT_DATABASE_URL", raising=False)


def model(version: str, arm: str) -> Any:
    return SimpleNamespace(identity=SimpleNamespace(name="tiny", version=version), arm=arm)


def serving(share: float | None = None) -> Any:
    arm = SimpleNamespace(arm=SimpleNamespace(salt="s", share=share))
    return SimpleNamespace(beside={} if share is None else {"challenger": arm})


def answers(*abstained: bool) -> Any:
    return [SimpleNamespace(abstained=one) for one in abstained]


@pytest.fixture
def counts() -> ArmCounts:
    return ArmCounts(Metrics().arm_count_errors, now=lambda: 10 * HOUR)


def test_answers_failures_and_abstentions_are_counted_for_the_arm_that_had_them(counts: ArmCounts) -> None:
    counts.add(serving(), model("1", "champion"), "a", answers(False, True))
    counts.add(serving(), model("1", "champion"), "b", None)
    counts.add_shadow(model("2", "shadow"), answers(False))
    counts.write()
    found = read_counts("tiny", version="1", arm="champion", since=0)
    assert found == {"answered": 1, "failed": 1, "texts": 2, "abstained": 1, "units": 0}
    assert read_counts("tiny", version="2", arm="shadow", since=0)["answered"] == 1
    assert read_counts("tiny", version="1", arm="champion", since=11 * HOUR)["answered"] == 0


def test_the_service_counts_what_it_answers_and_what_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point_at(write_tiny_model(tmp_path / "v1", seed=1), "1")
    put_beside(write_tiny_model(tmp_path / "v2", seed=2), "2", "challenger", 0.5)
    server = Server(ServeSettings(follow="tiny"))
    with serving_app(create_app(server)) as client:
        for number in range(40):
            client.post("/predict", json={"text": f"card {number}", "key": f"k{number % 20}"}).raise_for_status()
        assert client.post("/predict", json={"text": ""}).status_code == 422

        async def fail(*_args: Any) -> None:
            raise RuntimeError("planted")

        monkeypatch.setattr(server.inference, "answer", fail)
        key = next(key for key in map(str, range(100)) if server.router.serving.choose(key).arm == "challenger")
        assert client.post("/predict", json={"text": "my card", "key": key}).status_code == 500
    challenger = read_counts("tiny", version="2", arm="challenger", since=0, salt="salt", share=0.5)
    champion = read_counts("tiny", version="1", arm="champion", since=0)
    assert challenger["answered"] + champion["answered"] == 40
    assert (challenger["failed"], champion["failed"]) == (1, 0)
    assert challenger["units"] + champion["units"] in (20, 21), "each key once; the failed one may be new"


def test_a_key_is_one_unit_however_often_it_comes(counts: ArmCounts) -> None:
    for unit in ("ada", "ada", "bob"):
        counts.add(serving(0.5), model("2", "challenger"), unit, answers(False))
    counts.add(serving(0.5), model("1", "champion"), "eve", answers(False))
    counts.write()
    assert read_units("tiny", "s", 0.5) == [(2, 1)]
    assert read_units("tiny", "s", 0.2) == []


def test_writing_again_changes_nothing_and_processes_add_up(counts: ArmCounts) -> None:
    other = ArmCounts(Metrics().arm_count_errors, now=lambda: 10 * HOUR)
    for one in (counts, other):
        one.add(serving(), model("1", "champion"), "a", answers(False))
        one.write()
        one.write()
    assert read_counts("tiny", version="1", arm="champion", since=0)["answered"] == 2


def test_a_database_that_is_away_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    away = True

    def engine() -> sa.Engine:
        if away:
            raise sa.exc.OperationalError("away", None, Exception("away"))
        return database.engine()

    metrics = Metrics()
    counts = ArmCounts(metrics.arm_count_errors, engine=engine)
    counts.add(serving(), model("1", "champion"), "a", None)
    counts.write()
    assert metrics.registry.get_sample_value("retort_arm_count_errors_total") == 1
    away = False
    counts.stop()
    assert read_counts("tiny", version="1", arm="champion", since=0)["failed"] == 1


def test_hours_that_are_over_are_forgotten_once_they_are_written() -> None:
    now = [10 * HOUR]
    counts = ArmCounts(Metrics().arm_count_errors, now=lambda: now[0])
    counts.add(serving(), model("1", "champion"), "a", answers(False))
    counts.write()
    now[0] = 12 * HOUR
    counts.add(serving(), model("1", "champion"), "b", answers(False))
    counts.write()
    assert len(counts._totals) == 1
    assert read_counts("tiny", version="1", arm="champion", since=0)["answered"] == 2
