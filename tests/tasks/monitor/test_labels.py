"""Which labels count: those of a random sample, in the order they became due, however and whenever they arrive."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bento.audit_records import add_targets, store_proposals
from bento.records import DuplicateFeedbackError, add_feedback
from tasks.monitor.config import MonitorConfig
from tasks.monitor.harm import Baseline
from tasks.monitor.labels import judge_harm, random_sample, settled
from tasks.monitor.traffic import Watched
from tasks.monitor.triage import HeldOut, sureness
from tasks.types import Artifact
from tests.logged import row, store

CONFIG = MonitorConfig(min_labels=20, looks=10)
HELD_OUT = HeldOut(sureness=sureness(np.array([[0.1, 0.9]] * 100)), correct_N=np.arange(100) >= 8)
BASELINE = Baseline(num_errors=8, num_rows=100, held_out=HELD_OUT)
WATCHED = Watched(
    name="tiny", folder=Path("nowhere"), sha256="0" * 64, labels=("refund", "transfer"),
    data=Artifact(kind="data", path=Path("nowhere"), sha256="0" * 64, parents=(), made_by="test"),
)  # fmt: skip


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RETORT_DATABASE_URL", raising=False)


def serve(num: int, **changes: Any) -> None:
    """Every fifth request is drawn."""
    store(*(row(f"r{at}", **({"audit": at % 5 == 0, "received_at": 1000.0 + at} | changes)) for at in range(num)))


def judge() -> Any:
    return judge_harm(WATCHED, BASELINE, CONFIG)


def label(at: int, right: str = "refund", **options: Any) -> str:
    return add_feedback("tiny", f"r{at}", 0, right, 2000.0, **options)


def test_the_drawn_rows_are_counted_and_their_estimate_uses_the_confidences_of_the_others() -> None:
    serve(300)
    for at in range(0, 300, 5):
        label(at, "transfer" if at < 100 else "refund")
    found = judge()
    assert (found.num_labels, found.num_errors, found.num_waiting, found.num_volunteered) == (60, 20, 0, 0)
    assert found.estimate is not None
    assert found.estimate.value == pytest.approx(40 / 60)
    assert {guess.method: round(guess.error, 3) for guess in found.triage} == {
        "atc": pytest.approx(1 / 3, abs=0.001),
        "doc": pytest.approx(0.92 - 2 / 3, abs=0.001),
        "mean_confidence": pytest.approx(0.9 - 2 / 3, abs=0.001),
    }


def test_the_order_in_which_labels_arrive_changes_nothing() -> None:
    serve(300)
    drawn = list(range(0, 300, 5))
    for at in np.random.default_rng(0).permutation(drawn):
        label(int(at), "transfer" if at >= 200 else "refund")
    found = judge()
    assert found.num_errors == 20
    assert found.e_path[39][1] < 1 < found.e_path[-1][1], "the good ones come first, as they were served"


def test_a_clock_that_jumps_back_changes_no_order() -> None:
    serve(300)
    store(*(row(f"late{at}", audit=True, received_at=10.0) for at in range(30)))
    for at in range(0, 300, 5):
        label(at)
    before = judge().e_path
    for at in range(30):
        add_feedback("tiny", f"late{at}", 0, "transfer", 5.0)
    assert judge().e_path[: len(before)] == before


def test_labels_twice_or_in_contradiction_leave_the_first_and_the_verdict() -> None:
    serve(150)
    for at in range(0, 150, 5):
        assert label(at) == "taken"
    before = judge()
    for at in range(0, 150, 5):
        assert label(at) == "known"
        with pytest.raises(DuplicateFeedbackError):
            label(at, "transfer")
    assert judge() == before


def test_targeted_and_volunteered_labels_never_enter_an_estimate() -> None:
    serve(300)
    odd = [(f"r{at}", 0) for at in range(1, 300, 5)]
    assert add_targets("tiny", odd, "drifted") == 60
    for at in range(0, 300, 5):
        label(at)
    before = judge()
    for at in [*range(1, 300, 5), *range(2, 100, 5)]:
        label(at, "transfer")
    after = judge()
    assert after.num_volunteered == 20
    assert (after.num_labels, after.num_errors, after.e_value) == (before.num_labels, 0, before.e_value)
    assert not after.harmful


def test_proposals_of_the_teacher_never_count() -> None:
    serve(100)
    items = [(f"r{at}", 0) for at in range(100)]
    store_proposals("tiny", [(item, "transfer", 0.99) for item in items], "a" * 64)
    found = judge()
    assert (found.num_labels, found.num_waiting, found.harmful) == (0, 0, False)


def test_clients_who_complain_of_what_was_wrong_alarm_nobody_before_the_others_have_labels() -> None:
    serve(1_000)
    for at in range(0, 1_000, 40):
        label(at, "transfer")
    assert (judge().num_labels, judge().num_waiting, judge().harmful) == (1, 24, False)
    for at in range(0, 1_000, 5):
        if at % 40:
            label(at)
    assert (judge().num_labels, judge().num_errors, judge().harmful) == (200, 25, False)


def test_where_nearly_all_traffic_is_labelled_there_is_nothing_to_draw() -> None:
    serve(100, audit=False)
    for at in range(95):
        label(at, "transfer")
    assert (judge().num_labels, judge().harmful) == (95, True)


def test_labels_of_another_model_do_not_count() -> None:
    serve(100, model_sha256="1" * 64)
    for at in range(0, 100, 5):
        label(at, "transfer")
    assert judge().num_labels == 0


def test_rows_that_nobody_can_read_hold_nothing_up() -> None:
    store(*(row(f"u{at}", audit=True, text="") for at in range(50)))
    serve(150)
    for at in range(0, 150, 5):
        label(at)
    assert judge().num_labels == 30


@pytest.mark.parametrize(
    ("labelled", "num"),
    [("", 0), ("0", 0), ("1", 1), ("01", 0), ("1110", 3), ("1111111110", 10), ("11111111100001", 10)],
)
def test_labels_count_up_to_the_last_place_where_nine_in_ten_are_there(labelled: str, num: int) -> None:
    assert settled(np.array([digit == "1" for digit in labelled], dtype=bool)) == num


def test_a_sample_of_nothing_is_empty() -> None:
    assert random_sample([]).ids == []


def test_labels_are_weighed_by_the_chance_with_which_their_rows_were_drawn() -> None:
    store(*(row(f"r{at}", audit=True, audit_rate=0.1 if at < 30 else 0.4) for at in range(60)))
    store(*(row(f"u{at}", audit_rate=0.4) for at in range(60)))
    for at in range(60):
        label(at, "refund" if at < 30 else "transfer")
    assert judge().accuracy.value == pytest.approx(1.0 * 10 / 12.5)
    sample = random_sample([{"id": at, "label": "a", "true_label": "a", "audit_rate": rate} for at, rate in
                            enumerate([None, 0.05, 0.5])])  # fmt: skip
    assert sample.weights_n.tolist() == [20, 20, 2]
