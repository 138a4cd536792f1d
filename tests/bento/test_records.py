"""The table of answered requests: what monitoring reads, and each row stored once."""

import subprocess
import sys
from pathlib import Path

import orjson
import pytest
import sqlalchemy as sa

from bento import database
from bento.audit_records import audit_queue
from bento.records import (
    COLUMNS,
    DuplicateFeedbackError,
    add_feedback,
    drawn_for_audit,
    insert_rows,
    labelled_rows,
    newest_row,
    read_request,
    read_window,
    spool_line,
    stored_row,
    texts_sha256,
)
from bento.redaction import text_rule
from bento.request_log import MAX_INSERT_ROWS
from tests.logged import line, row, store

ROOT = Path(__file__).resolve().parents[2]


def test_a_row_comes_back_as_it_was_given() -> None:
    given = row(
        "a", text="é \U0001f600 \n", text_pair="two", received_at=1764145234.1234567, probabilities=[1e-06, 0.25]
    )
    store(given)
    (read,) = read_request("tiny", "a")
    assert {key: read[key] for key in given} == given


def test_the_newest_row_is_the_last_stored_of_all_models() -> None:
    assert newest_row() == 0
    store(row("a"), row("b", name="other"))
    assert newest_row() == 2


def test_a_row_is_stored_once_however_often_it_is_tried() -> None:
    rows = [stored_row(line(request_id)) for request_id in ("a", "b", "a")]
    assert insert_rows(database.engine(), rows) == 2
    assert insert_rows(database.engine(), rows) == 0
    assert len(read_window("tiny", 0, 2000)) == 2


def test_however_many_rows_come_few_statements_are_kept() -> None:
    """Each connection to SQLite keeps them with their parameters, and one of 500 rows takes a megabyte."""
    engine, seen = database.engine(), set()
    sa.event.listen(engine, "before_cursor_execute", lambda *event: seen.add(event[2]))
    for num_rows in range(1, MAX_INSERT_ROWS + 1, 37):
        ids = [f"{num_rows}-{at}" for at in range(num_rows)]
        assert insert_rows(engine, [stored_row(line(request_id)) for request_id in ids]) == num_rows
    assert len(seen) == 5


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"\x00\x00",
        b"{",
        b"[]",
        b"17",
        line("a")[: len(line("a")) // 2],
        line("a").replace(b'"item":', b'"itex":'),
        line("a").replace(b'"my card"', b'["my card"]'),
    ],
)
def test_a_damaged_line_is_no_row(damaged: bytes) -> None:
    assert stored_row(damaged) is None


def test_a_line_of_another_version_may_have_fields_that_are_unknown_here() -> None:
    later = orjson.dumps(orjson.loads(line("a")) | {"mood": "good"})
    assert stored_row(later) == stored_row(line("a"))
    assert dict(zip(COLUMNS, stored_row(later) or (), strict=True))["request_id"] == "a"


def test_a_line_of_an_earlier_version_lacks_what_came_since() -> None:
    earlier = orjson.loads(line("a"))
    del earlier["caller"]
    assert stored_row(orjson.dumps(earlier)) == stored_row(line("a"))


def test_nobody_can_choose_an_id_that_is_drawn() -> None:
    """The draw has a key of the process's own, so it cannot be foreseen from the id."""
    code = "from bento.records import drawn_for_audit as d; print([i for i in range(200) if d(str(i), 0, 0.5)])"
    draws = {subprocess.check_output([sys.executable, "-c", code], cwd=ROOT) for _ in range(2)}
    assert len(draws) == 2


def test_numbers_that_are_not_finite_and_nul_in_any_text_are_stored_as_every_database_takes_them() -> None:
    store(row("a", probabilities=[float("nan"), 0.5], label="a\0b", text="\\u0000 \0"))
    (read,) = read_request("tiny", "a")
    assert (read["probabilities"], read["label"], read["text"]) == ([None, 0.5], "a\ufffdb", "\\u0000 \ufffd")


def test_the_digest_of_texts_is_of_what_is_stored() -> None:
    rule = text_rule("redact")
    logged = stored_row(spool_line(row("a", text="I am joe@x.com"), rule))
    assert logged is not None
    text = logged[COLUMNS.index("text")]
    assert texts_sha256([(text, None)]) == texts_sha256([("I am joe@x.com", None)], rule)
    assert texts_sha256([(text, None)]) != texts_sha256([("I am lost", None)], rule)


def test_the_audit_queue_has_no_text_that_nobody_can_read() -> None:
    store(row("a", audit=True, text=""), row("b", audit=True, text=text_rule("hash", "a key")("my card")))
    store(row("c", audit=True))
    assert [row["request_id"] for row in audit_queue("tiny", 10)] == ["c"]


def test_the_audit_draw_is_repeatable_and_near_its_rate() -> None:
    drawn = [drawn_for_audit(f"request-{index}", 0, 0.05) for index in range(20_000)]
    assert drawn == [drawn_for_audit(f"request-{index}", 0, 0.05) for index in range(20_000)]
    assert sum(drawn) / len(drawn) == pytest.approx(0.05, abs=0.006)
    assert not any(drawn_for_audit(f"request-{index}", 0, 0.0) for index in range(100))
    assert all(drawn_for_audit(f"request-{index}", 0, 1.0) for index in range(100))


def test_a_window_is_half_open_of_one_name_and_limited_to_its_newest_rows() -> None:
    store(*(row(str(index), received_at=1000.0 + index) for index in range(10)))
    store(row("other", name="another"))
    assert [row["request_id"] for row in read_window("tiny", 1002, 1006)] == ["2", "3", "4", "5"]
    assert [row["request_id"] for row in read_window("tiny", 1002, 1006, limit=2)] == ["4", "5"]


def test_feedback_joins_its_item_and_is_stored_once() -> None:
    store(row("a"), row("a", item=1))
    add_feedback("tiny", "a", 1, "transfer", 1500.0)
    add_feedback("tiny", "a", 1, "transfer", 1550.0)
    assert [(row["item"], row["true_label"], row["labelled_at"]) for row in read_request("tiny", "a")] == [
        (0, None, None),
        (1, "transfer", 1500.0),
    ]
    with pytest.raises(DuplicateFeedbackError, match="item 1 of request a"):
        add_feedback("tiny", "a", 1, "refund", 1600.0)
    assert [row["item"] for row in labelled_rows("tiny", 1500.0)] == [1]
    assert labelled_rows("tiny", 1500.1) == []


def test_two_models_may_be_asked_under_one_request_id() -> None:
    store(row("a"), row("a", name="another", label="spam"))
    add_feedback("tiny", "a", 0, "transfer", 1500.0)
    assert [row["true_label"] for row in read_request("tiny", "a")] == ["transfer"]
    assert [(row["label"], row["true_label"]) for row in read_request("another", "a")] == [("spam", None)]


def test_the_audit_queue_is_what_was_drawn_and_has_no_label() -> None:
    store(row("a", audit=True), row("b"), row("c", audit=True), row("d", audit=True))
    add_feedback("tiny", "a", 0, "refund", 1500.0)
    assert [row["request_id"] for row in audit_queue("tiny", 10)] == ["c", "d"]
    assert [row["request_id"] for row in audit_queue("tiny", 1)] == ["c"]


def test_what_a_shadow_answered_is_stored_beside_the_request_and_read_as_no_request() -> None:
    store(row("a"), row("a", arm="shadow", version="2", label="transfer"), row("b", arm="challenger"))
    assert [(found["request_id"], found["arm"]) for found in read_window("tiny", 0, 2000)] == [
        ("a", "champion"),
        ("b", "challenger"),
    ]
    add_feedback("tiny", "a", 0, "refund", 1001.0)
    assert [found["arm"] for found in labelled_rows("tiny", 0.0)] == ["champion"]
    with database.engine().connect() as connection:
        (stored,) = connection.execute(sa.select(database.shadows)).mappings()
    assert (stored["request_id"], stored["version"], stored["label"]) == ("a", "2", "transfer")
