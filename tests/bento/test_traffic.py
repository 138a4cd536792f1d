"""Real processes under steady load: whatever is swapped, challenged, withdrawn or restarted, no request fails."""

import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from scipy import stats

from bento import database, records
from bento.arms import drawn
from bento.manifest import ONNX_FILE
from tests.arms import end_arm, point_at, put_beside
from tests.tiny import write_tiny_model
from tests.traffic import Load, followers, wait_for

pytestmark = pytest.mark.slow

SLOW_S = 1.0
"""Far above what an answer takes even on a machine that is busy with other tests."""


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    return [write_tiny_model(tmp_path / f"v{seed}", seed=seed) for seed in range(1, 5)]


def test_every_change_of_the_models_under_load_fails_no_request(models: list[Path], state: Path) -> None:
    point_at(models[0], "1")
    with followers(state) as (replica,):
        with Load([replica]) as load:
            load.now_from("1")
            point_at(models[1], "2")
            load.now_from("2")
            point_at(models[0], "1")  # back
            load.now_from("1")

            put_beside(models[1], "2", "challenger", 0.3, salt="first")
            answers = load.now_from("1", "2", least=400)
            assert all(answer.version == ("2" if drawn("first", answer.key, 0.3) else "1") for answer in answers)
            asked = {answer.key: answer.version for answer in answers}
            assert len(asked) == 200
            assert stats.binomtest(list(asked.values()).count("2"), len(asked), 0.3).pvalue > 0.01

            put_beside(models[1], "2", "challenger", 0.5, salt="first")
            wait_for(lambda: replica.metric('retort_arm_share{arm="challenger"}') == 0.5)
            more = {answer.key: answer.version for answer in load.now_from("1", "2", least=250)}
            assert all(more[key] == "2" for key, version in asked.items() if version == "2")
            assert list(more.values()).count("2") > list(asked.values()).count("2")
            end_arm("challenger")
            load.now_from("1")

            with (models[3] / ONNX_FILE).open("ab") as file:
                file.write(b"x")
            put_beside(models[3], "4", "challenger", 0.5)
            wait_for(lambda: replica.metric("retort_model_swaps_refused_total") == 1)
            load.now_from("1")
            end_arm("challenger")

            put_beside(models[2], "3", "shadow", 1.0)
            wait_for(lambda: replica.metric("retort_shadow_rows_total") >= 50)
            load.now_from("1")
        assert replica.terminate() == 0
    assert load.failed() == []
    assert load.latency_s(0.99) < SLOW_S
    with database.engine().connect() as connection:
        shadows = connection.execute(sa.select(database.shadows)).mappings().all()
    rows = {row["request_id"]: row for row in records.read_window("tiny", 0, time.time())}
    assert {answer.content["request_id"]: answer.version for answer in load.answers} == {
        request_id: row["version"] for request_id, row in rows.items()
    }
    assert {(row["arm"], row["version"]) for row in rows.values()} == {
        ("champion", "1"),
        ("champion", "2"),
        ("challenger", "2"),
    }
    assert {(row["arm"], row["version"]) for row in shadows} == {("shadow", "3")}
    assert all(row["request_id"] in rows for row in shadows)


def test_replicas_that_are_restarted_one_after_the_other_fail_no_request(models: list[Path], state: Path) -> None:
    point_at(models[0], "1")
    with followers(state, num=2) as replicas, Load(replicas) as load:
        load.now_from("1")
        for replica in replicas:
            assert replica.terminate() == 0
            replica.start()
            wait_for(lambda: replica in load.ready)  # noqa: B023
        load.now_from("1")
    assert load.failed() == []
    assert any(answer.closing for answer in load.answers)
    assert load.latency_s(0.99) < SLOW_S
