"""The audit queue's two streams, which never mix, and what is kept of labels."""

from typing import Any

import pytest

from bento import audit_records, database
from bento.audit_records import (
    add_targets,
    audit_queue,
    count_queue,
    drawn_rows,
    find_items,
    has_answered,
    history,
    open_rows,
    shadow_disagreements,
    store_proposals,
)
from bento.records import add_feedback
from bento.redaction import text_rule
from tests.logged import row, store


def serve(num: int, **changes: Any) -> None:
    """Every second request is drawn."""
    store(*(row(f"r{at}", audit=at % 2 == 0, **changes) for at in range(num)))


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["request_id"] for row in rows]


def test_random_rows_come_first_and_targeted_ones_keep_a_place_in_five() -> None:
    serve(60)
    assert add_targets("tiny", [(f"r{at}", 0) for at in (7, 3, 5)], "drifted") == 3
    queue = audit_queue("tiny", 10)
    assert ids(queue) == ["r0", "r2", "r4", "r6", "r8", "r10", "r12", "r14", "r7", "r3"]
    assert [row["stream"] for row in queue] == ["random"] * 8 + ["targeted"] * 2
    assert {row["reason"] for row in queue[8:]} == {"drifted"}
    assert ids(audit_queue("tiny", 1)) == ["r0"]
    assert len(audit_queue("tiny", 100)) == 33


def test_a_name_has_answered_once_the_log_has_a_request_to_it() -> None:
    serve(1)
    assert has_answered("tiny")
    assert not has_answered("tin")


def test_the_queue_is_in_the_order_of_arrival_whatever_the_clock_said() -> None:
    store(row("a", audit=True, received_at=2000.0), row("b", audit=True, received_at=1000.0))
    assert ids(audit_queue("tiny", 10)) == ["a", "b"]


def test_what_is_drawn_labelled_unreadable_unknown_or_there_already_is_not_targeted() -> None:
    store(row("drawn", audit=True), row("labelled"), row("plain"), row("empty", text=""), row("other", name="another"))
    store(row("hashed", text=text_rule("hash", "a key of 16 characters")("my card")))
    add_feedback("tiny", "labelled", 0, "refund", 1.0)
    items = [(name, 0) for name in ("drawn", "labelled", "plain", "plain", "empty", "other", "hashed", "nobody")]
    assert add_targets("tiny", [*items, ("plain", 1)], "low_confidence") == 1
    assert ids([row for row in audit_queue("tiny", 10) if row["stream"] == "targeted"]) == ["plain"]
    assert add_targets("tiny", items, "drifted") == 0


def test_the_targeted_stream_is_bounded_and_has_room_again_when_rows_are_labelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(audit_records, "MAX_TARGETED", 12)
    store(*(row(f"r{at}") for at in range(20)))
    items = [(f"r{at}", 0) for at in range(20)]
    assert add_targets("tiny", items, "drifted", most=7) == 7
    assert add_targets("tiny", items, "drifted") == 5
    assert add_targets("tiny", items, "drifted") == 0
    add_feedback("tiny", "r0", 0, "refund", 1.0)
    assert add_targets("tiny", items, "drifted") == 1


def test_both_streams_are_counted_apart() -> None:
    serve(10)
    add_targets("tiny", [("r1", 0), ("r3", 0)], "drifted")
    for request_id in ("r0", "r1"):
        add_feedback("tiny", request_id, 0, "refund", 1.0)
    counts = count_queue("tiny")
    assert (counts.random_waiting, counts.random_labelled) == (4, 1)
    assert (counts.targeted_waiting, counts.targeted_labelled) == (1, 1)


def test_the_random_stream_of_a_model_is_what_was_drawn_in_the_order_of_arrival() -> None:
    serve(6)
    store(row("other", audit=True, model_sha256="1" * 64))
    add_targets("tiny", [("r1", 0)], "drifted")
    add_feedback("tiny", "r1", 0, "transfer", 1.0)
    add_feedback("tiny", "r4", 0, "transfer", 1.0)
    assert [row["true_label"] for row in drawn_rows("tiny", "0" * 64)] == [None, None, "transfer"]


def test_a_key_sees_its_own_rows_and_those_of_nobody() -> None:
    store(row("mine", audit=True, caller="a"), row("theirs", audit=True, caller="b"), row("nobodys", audit=True))
    assert ids(audit_queue("tiny", 10, caller="a")) == ["mine", "nobodys"]
    assert ids(audit_queue("tiny", 10)) == ["mine", "theirs", "nobodys"]


def test_a_proposal_is_shown_with_its_row_and_a_newer_one_takes_its_place() -> None:
    serve(2)
    assert store_proposals("tiny", [(("r0", 0), "transfer", 0.7)], "a" * 64) == 1
    store_proposals("tiny", [(("r0", 0), "refund", 0.9)], "b" * 64)
    (queued,) = audit_queue("tiny", 10)
    assert (queued["proposed_label"], queued["proposed_probability"], queued["proposed_by"]) == (
        "refund",
        0.9,
        "b" * 64,
    )
    assert drawn_rows("tiny", "0" * 64)[0]["true_label"] is None


def test_open_rows_are_in_neither_stream_and_disagreements_are_the_shadows() -> None:
    serve(6)
    add_targets("tiny", [("r1", 0)], "drifted")
    store(row("r3", arm="shadow", label="transfer"), row("r5", arm="shadow"))
    assert ids(open_rows("tiny", "0" * 64, 10)) == ["r5", "r3"]
    assert shadow_disagreements("tiny", 10) == [("r3", 0)]


def test_items_are_found_under_every_models_name_with_their_labels() -> None:
    store(row("a"), row("a", item=1), row("a", name="another"))
    add_feedback("tiny", "a", 1, "refund", 1.0)
    assert find_items(["a", "nobody"]) == {("a", 0): {"tiny": None, "another": None}, ("a", 1): {"tiny": "refund"}}


def test_a_correction_keeps_what_was_there_before() -> None:
    store(row("a"))
    assert add_feedback("tiny", "a", 0, "refund", 1.0) == "taken"
    assert add_feedback("tiny", "a", 0, "refund", 2.0, replace=True) == "known"
    assert add_feedback("tiny", "a", 0, "transfer", 3.0, source="audit", replace=True) == "replaced"
    assert add_feedback("tiny", "a", 0, "lost", 4.0, source="import", replace=True) == "replaced"
    kept = [(row["label"], row["received_at"], row["source"], row["replaced_at"]) for row in history("tiny")]
    assert kept == [("refund", 1.0, "client", 3.0), ("transfer", 3.0, "audit", 4.0)]
    with database.engine().connect() as connection:
        (stored,) = connection.execute(database.feedback.select()).mappings()
    assert (stored["label"], stored["source"]) == ("lost", "import")
