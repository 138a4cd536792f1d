"""From the request log to what a retrain learns: each text once, contradictions told, and the same rows ever after."""

import json
from pathlib import Path
from typing import Any

import pytest

from bento.errors import UserError
from bento.records import add_feedback
from bento.redaction import text_rule
from tasks.data.retrain import ASSEMBLED, LABELLED, TEXTS
from tasks.data.validate import MAX_TEXT_CHARS
from tasks.monitor.looks import store_look
from tasks.monitor.retrain_config import RetrainConfig
from tasks.monitor.retrain_data import assemble, assemble_once, check_look
from tasks.types import Artifact
from tests.logged import row, store

HASHED = text_rule("hash", "a key of 16 characters")("my card")
CONFIG = RetrainConfig()


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RETORT_DATABASE_URL", raising=False)


def label(request_id: str, name: str, at: float = 1500.0) -> None:
    add_feedback("tiny", request_id, 0, name, at)


def lines(artifact: Artifact, name: str) -> list[Any]:
    return [json.loads(line) for line in (artifact.path / name).read_text(encoding="utf-8").splitlines()]


def report(artifact: Artifact) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((artifact.path / ASSEMBLED).read_text(encoding="utf-8"))
    return found


def test_labelled_texts_that_can_be_read_are_learnt_from_and_the_others_counted() -> None:
    long = "x" * (MAX_TEXT_CHARS + 1)
    store(row("a", audit=True), row("b", text=HASHED), row("c", text=""), row("d", text=long), row("e", text="hello"))
    for request_id in "abcd":
        label(request_id, "transfer")
    found = assemble("tiny", CONFIG).artifact
    assert lines(found, LABELLED) == [{"text": "my card", "label": "transfer", "drawn": True}]
    assert lines(found, TEXTS) == ["hello"]
    told = report(found)
    assert (told["num_labels"], told["num_unusable"], told["num_drawn"]) == (4, 3, 1)


def test_no_label_at_all_and_no_readable_text_are_each_refused_with_what_to_do() -> None:
    with pytest.raises(UserError, match="the request log has none; label its audit queue"):
        assemble("tiny", CONFIG)
    store(row("b", text=HASHED))
    label("b", "transfer")
    with pytest.raises(UserError, match="RETORT_LOG_TEXT"):
        assemble("tiny", CONFIG)


def test_of_labels_that_contradict_each_other_the_newest_wins_and_the_case_is_told() -> None:
    store(row("a", text="My card"), row("b", text="my CARD"), row("c", text="other"))
    label("b", "refund", 1600.0)
    label("a", "transfer", 1700.0)
    found = assemble("tiny", CONFIG).artifact
    assert lines(found, LABELLED) == [{"text": "My card", "label": "transfer", "drawn": False}]
    assert report(found)["contradicted"] == ["'My card': now transfer, before refund"]


def test_labels_count_as_drawn_at_random_where_nearly_all_traffic_has_one() -> None:
    store(*(row(str(at), text=f"text {at}") for at in range(20)))
    for at in range(17):
        label(str(at), "refund")
    assert report(assemble("tiny", CONFIG).artifact)["num_drawn"] == 0
    label("17", "refund")
    assert report(assemble("tiny", CONFIG).artifact)["num_drawn"] == 18


def test_the_newest_labels_and_texts_are_taken_where_there_are_more_than_the_config_allows() -> None:
    store(*(row(str(at), text=f"text {at}", received_at=1000.0 + at) for at in range(10)))
    for at in range(4):
        label(str(at), "refund", 2000.0 + at)
    found = assemble("tiny", RetrainConfig(max_labelled=2, transfer=3)).artifact
    assert {row["text"] for row in lines(found, LABELLED)} == {"text 2", "text 3"}
    assert set(lines(found, TEXTS)) == {"text 7", "text 8", "text 9"}
    assert report(found)["num_beyond_limit"] == 2


def test_the_same_labels_give_the_same_digest_in_whatever_order_they_came() -> None:
    store(row("a", text="one"), row("b", text="two"))
    label("a", "refund", 1500.0)
    label("b", "transfer", 1600.0)
    first = assemble("tiny", CONFIG).artifact
    assert assemble("tiny", CONFIG).cached
    store(*(row(f"other-{each}", name="other", text=each) for each in ("two", "one")))
    add_feedback("other", "other-two", 0, "transfer", 1.0)
    add_feedback("other", "other-one", 0, "refund", 2.0)
    assert assemble("other", CONFIG).artifact.sha256 == first.sha256


def test_a_retrain_that_begins_again_learns_from_the_rows_it_began_with() -> None:
    store(row("a", text="one"), row("b", text="two"))
    label("a", "refund")
    first = assemble_once("tiny", "look 7", CONFIG)
    label("b", "transfer", 1600.0)
    assert assemble_once("tiny", "look 7", CONFIG).sha256 == first.sha256
    assert assemble_once("tiny", "look 8", CONFIG).sha256 != first.sha256


def test_a_look_that_there_is_not_starts_nothing() -> None:
    with pytest.raises(UserError, match="expected a look at tiny, got 7"):
        check_look("tiny", 7)
    look = {"name": "tiny", "state": "harm", "action": "retrain", "reason": "as planted", "key": "k", "evidence": {}}
    number = store_look(look | {"payload": None})
    assert number is not None
    check_look("tiny", number)
    with pytest.raises(UserError, match="expected a look at other"):
        check_look("other", number)


def test_rows_that_are_gone_from_the_store_are_assembled_anew() -> None:
    store(row("a", text="one"))
    label("a", "refund")
    first = assemble_once("tiny", "look 7", CONFIG)
    first.path.rename(first.path.with_name("elsewhere"))
    store(row("b", text="two"))
    label("b", "transfer", 1600.0)
    second = assemble_once("tiny", "look 7", CONFIG)
    assert second.sha256 != first.sha256
    assert assemble_once("tiny", "look 7", CONFIG).sha256 == second.sha256
