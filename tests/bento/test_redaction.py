"""What the request log keeps of a text: nothing that finds a person, and never at the price of a hanging thread."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bento import records
from bento.app import Server, create_app
from bento.entities import entity_tags
from bento.redaction import is_readable, redact, text_rule
from bento.serve_settings import ServeSettings
from bento.task_types import Target
from tests.serving import serving
from tests.tiny import write_tiny_model

MAX_CHARACTERS = 20_000


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("mail joe.o'neil+cards@mail.example.co.uk.", "mail [email]."),
        ("<jürgen@müller.de>, or a@b@c.org", "<[email]>, or a@[email]"),
        ("JOE@X.COM;jane_doe-1@x-y.io", "[email];[email]"),
        ("my card 4111 1111 1111 1111 was lost", "my card [card] was lost"),
        ("4111-1111-1111-1111", "[card]"),
        ("amex 378282246310005, visa 4222222222222", "amex [card], visa [card]"),
        ("order 12 4111 1111 1111 1111 123", "order 12 [card] 123"),
        ("4111 1111 1111 1111 5500 0000 0000 0004", "[card] [card]"),
        ("6304000000000000000 is of 19 digits", "[card] is of 19 digits"),
        ("call +44 20 7946 0958 or 020 7946 0958", "call [phone] or [phone]"),
        ("(555) 123-4567, 555.123.4567, +1 (555) 123-4567", "[phone], [phone], [phone]"),
        ("0176 12345678 0176 87654321", "[phone] [phone]"),
        ("tel:0301234567now", "tel:[phone]now"),
        ("+493012345", "[phone]"),
        ("\u0664\u0661\u0661\u0661 1111 1111 1111", "[card]"),
    ],
)
def test_what_finds_a_person_is_replaced(text: str, stored: str) -> None:
    assert redact(text) == stored
    assert redact(stored) == stored


@pytest.mark.parametrize(
    "text",
    [
        "I was charged 1,234.56 on 2024-01-15 at 10:30",
        "the exchange rate of 2023 was 1.0845, now 1.09",
        "what @ the machine? cost @ 5.00",
        "order 12345678",
        "see user@localhost",
    ],
)
def test_what_finds_nobody_stays(text: str) -> None:
    assert redact(text) == text


def test_a_number_that_fails_luhns_check_is_no_card() -> None:
    assert redact("4111111111111112") == "4111111111111112"


@pytest.mark.parametrize(
    "unit",
    ["1", "1 ", "1-", "a", "a@", "a.", "a@b.", "+1", "(1", "1.", "1/ ", "4111 1111 1111 1112 ", "@", "é@é.", "'"],
)
def test_no_text_makes_redaction_slow(unit: str) -> None:
    def seconds(text: str) -> float:
        started = time.thread_time()
        redact(text)
        return time.thread_time() - started

    text = (unit * MAX_CHARACTERS)[:MAX_CHARACTERS]
    assert min(seconds(text), seconds(text)) < 0.2
    assert min(seconds(text + "!"), seconds(text + "x")) < 0.2


def test_a_digest_is_equal_for_equal_texts_and_differs_with_the_key() -> None:
    rule = text_rule("hash", "a key of the company")
    assert rule("my card") == rule("my card") != rule("my cards")
    assert rule("my card") != text_rule("hash", "another key entirely")("my card")
    assert not is_readable(rule("my card"))
    with pytest.raises(ValueError, match="RETORT_LOG_KEY"):
        text_rule("hash")


def test_a_dropped_text_is_empty_and_not_readable() -> None:
    assert text_rule("drop")("my card") == ""
    assert not is_readable("")


def test_a_kept_text_is_itself_but_for_nul() -> None:
    assert text_rule("keep")("joe@x.com\0") == "joe@x.com\ufffd"
    assert is_readable("joe@x.com")


MODES = [{"log_text": "redact"}, {"log_text": "hash", "log_key": "a key of 16 characters"}, {"log_text": "drop"}]
BODY = {"text": "card of joe@example.com", "request_id": "order-17"}


@pytest.mark.parametrize("changes", MODES)
def test_the_same_request_again_is_no_conflict_for_the_next_process_however_its_text_was_logged(
    make_server: Callable[..., Server], changes: dict[str, str]
) -> None:
    with serving(create_app(make_server(**changes))) as client:
        assert client.post("/predict", json=BODY).status_code == 200
        assert client.post("/predict", json=BODY).status_code == 200
        assert client.post("/predict", json=BODY | {"text": "card of jim@example.com"}).status_code == 409
    with serving(create_app(make_server(**changes))) as next_client:
        assert next_client.post("/predict", json=BODY).status_code == 200
    (row,) = records.read_request("tiny", "order-17")
    assert "joe@example.com" not in row["text"]
    with serving(create_app(make_server(**changes))) as last_client:
        other = last_client.post("/predict", json=BODY | {"text": "refund"}).status_code
    assert other == (200 if changes["log_text"] == "drop" else 409)


def test_what_a_model_of_entities_finds_is_logged_without_its_text(
    make_server: Callable[..., Server], tmp_path: Path
) -> None:
    tags = tuple(entity_tags(["CARD", "SHOP"]))
    folder = write_tiny_model(tmp_path / "entities", labels=tags, seed=3, target=Target(task="entities"))
    with serving(create_app(make_server(model=folder, log_text="drop"))) as client:
        answer = client.post("/predict", json={"text": "the card of the shop", "request_id": "order-17"}).json()
    found = answer["predictions"][0]["entities"]
    (row,) = records.read_request("tiny", "order-17")
    assert found
    assert not any(entity["text"] in row["label"].replace(entity["label"], "") for entity in found)


def test_digests_without_a_key_are_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_LOG_TEXT", "hash")
    with pytest.raises(ValueError, match="RETORT_LOG_TEXT=hash needs RETORT_LOG_KEY"):
        ServeSettings.from_env()
    monkeypatch.setenv("RETORT_LOG_KEY", "short")
    with pytest.raises(ValueError, match="at least 16"):
        ServeSettings.from_env()
    monkeypatch.setenv("RETORT_LOG_KEY", "a key of 16 characters")
    assert "a key of" not in repr(ServeSettings.from_env())
    monkeypatch.setenv("RETORT_LOG_TEXT", "shorten")
    with pytest.raises(ValueError, match="redact"):
        ServeSettings.from_env()
