"""Counts and experiments on PostgreSQL, whose upserts and partial indexes are others than SQLite's."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bento.arm_counts import ArmCounts, read_counts, read_units
from bento.metrics import Metrics
from tasks.experiment import table
from tasks.experiment.evidence import read_evidence
from tasks.experiment.pairs import read_pairs
from tasks.release.ledger import Champion
from tests import postgres
from tests.bento.test_arm_counts import answers, model, serving
from tests.experiments import Traffic, quick

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    yield from postgres.database_server(monkeypatch)


def version(number: int) -> Champion:
    return Champion(
        name="tiny", version=str(number), model_sha256=f"{number:064d}", model_path=Path("/m"), bento="tiny:1"
    )


def test_counts_are_written_twice_and_added_up() -> None:
    counts = ArmCounts(Metrics().arm_count_errors)
    for unit in ("ada", "bob"):
        counts.add(serving(0.5), model("2", "challenger"), unit, answers(False))
        counts.write()
    assert read_counts("tiny", version="2", arm="challenger", since=0, salt="s", share=0.5)["answered"] == 2
    assert read_units("tiny", "s", 0.5) == [(2, 0)]


def test_one_experiment_runs_at_a_time_and_its_evidence_is_read_and_stored() -> None:
    first, second = (
        table.insert(version(1), version(number), config=quick(), num_classes=3, who="ada", why="test")
        for number in (2, 3)
    )
    found = table.begin(first, version(1))
    assert found is not None
    assert table.begin(second, version(1)) is None
    assert table.begin(first, version(1)) is None
    traffic = Traffic()
    traffic.pairs(version(1), version(2), 200, good=0.1, bad=0.1)
    assert len(read_pairs(found)) == 200
    evidence = read_evidence(found)
    assert evidence.num_waiting == evidence.num_disagreements > 20
    assert table.end(found, "vetoed", who="ada", reason="worse", evidence={})
    assert not table.end(found, "vetoed", who="ada", reason="worse", evidence={})
    assert table.begin(second, version(1)) is not None
