"""The compression benchmark on a small real chain: what is compared with what, and what is said of each target."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from flows import bench
from flows.bench import Measured, bench_compress
from flows.config import Config
from flows.peers import Missing
from tests.small import colours_build

OURS = Measured(
    name="candidate", version="", size_bytes=4_000_000, accuracy=0.9, latency_ms_p50=0.4, latency_ms_p95=0.8,
    throughput_per_s=1_000,
)  # fmt: skip
EAGER = replace(OURS, name="PyTorch eager", version="2", size_bytes=40_000_000, latency_ms_p50=10.0)
OPTIMUM = replace(OURS, name="optimum int8", version="0.1", size_bytes=24_000_000, latency_ms_p50=1.6)
ABSENT = Missing(name="another tool", packages=("that-one",))


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return Config.model_validate(colours_build(tmp_path_factory.mktemp("bench")))


@pytest.fixture(scope="module")
def found(chosen: Config) -> Iterator[dict[str, Any]]:
    """Measured once, beside a peer that nobody has."""
    load = bench.load_peers
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "NUM_BATCH_ROUNDS", 1)
        patch.setattr(bench, "load_peers", lambda *artifacts, **settings: [*load(*artifacts, **settings), ABSENT])
        yield bench_compress(chosen)


def rows_of(found: dict[str, Any], metric: str) -> list[dict[str, Any]]:
    return [row for row in found["rows"] if row["metric"] == metric]


def test_every_peer_is_measured_in_every_metric(found: dict[str, Any]) -> None:
    names = [model["name"] for model in found["models"]]
    assert names[:4] == ["candidate", "PyTorch eager", "ONNX Runtime float", "optimum int8"]
    for metric in ("one sentence, p50", "one sentence, p95", "batches of 32", "accuracy"):
        assert [row["against"].partition(" ")[0] for row in rows_of(found, metric)] == [
            name.partition(" ")[0] for name in names[1:]
        ]
        assert all(row["ratio"] > 0 for row in rows_of(found, metric))


def test_a_stage_says_that_it_begins(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="retort.bench"):
        assert bench.plain("teacher", lambda number: number + 1)(2) == 3
    assert caplog.messages == ["teacher"]


def test_the_int8_step_alone_and_the_teacher_have_their_rows(found: dict[str, Any]) -> None:
    (saved,) = rows_of(found, "int8 alone: folder saved")
    assert 0 < saved["value"] < 100
    assert saved["met"] is (saved["value"] >= 74)
    (kept,) = rows_of(found, "int8 alone: accuracy kept")
    assert kept["target"] == ">= 99 %"
    (teacher,) = rows_of(found, "accuracy of the teacher")
    assert teacher["against"].startswith("TF-IDF floor")


def test_too_few_rows_are_no_pass_and_say_how_many_are_needed(found: dict[str, Any]) -> None:
    (row,) = rows_of(found, "accuracy less the teacher's")
    assert row["met"] is False
    assert row["against"].startswith("inconclusive: 36 rows are too few to judge; at least 100")


def test_a_peer_that_is_not_installed_has_a_row_that_says_so(found: dict[str, Any]) -> None:
    (row,) = rows_of(found, ABSENT.name)
    assert (row["value"], row["met"]) == (None, None)
    assert row["against"] == "not installed; pip install that-one"


def test_ratios_are_the_peers_over_ours_and_targets_hold_at_their_bound() -> None:
    eager, optimum = bench._latency_rows(OURS, [EAGER, OPTIMUM])[:2]
    assert (eager["ratio"], eager["target"], eager["met"]) == (25.0, ">= 25 times", True)
    assert (optimum["ratio"], optimum["target"], optimum["met"]) == (4.0, ">= 3 times", True)
    slower = bench._latency_rows(replace(OURS, latency_ms_p50=0.6), [EAGER, OPTIMUM])
    assert [row["met"] for row in slower[:2]] == [False, False]


def test_size_and_accuracy_have_their_targets() -> None:
    folder, eager, optimum = bench._size_rows(OURS, [EAGER, OPTIMUM])
    assert (folder["target"], folder["met"]) == ("<= 4.5 MB", True)
    assert (eager["ratio"], eager["met"]) == (10.0, None)
    assert (optimum["ratio"], optimum["target"], optimum["met"]) == (6.0, ">= 5 times", True)
    assert [row["met"] for row in bench._accuracy_rows(OURS, [EAGER, OPTIMUM])] == [None, True]
    assert bench._accuracy_rows(replace(OURS, accuracy=0.89), [OPTIMUM])[0]["met"] is False
