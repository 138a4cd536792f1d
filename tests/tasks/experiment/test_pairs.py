"""What is read as a pair, and what a missing label counts as."""

import time

from bento.records import add_feedback
from tasks.experiment import table
from tasks.experiment.pairs import Pair, differences, read_pairs
from tasks.experiment.table import Experiment
from tasks.release.ledger import Champion
from tests.experiments import quick, versions
from tests.logged import row, store

__all__ = ["versions"]


def begun(versions: list[Champion]) -> Experiment:
    made = table.insert(versions[0], versions[1], config=quick(), num_classes=3, who="ada", why="test")
    found = table.begin(made, versions[0])
    assert found is not None
    return found


def ask(versions: list[Champion], request_id: str, old: str, new: str, text: str) -> None:
    for arm, version, label in (("champion", versions[0], old), ("shadow", versions[1], new)):
        identity = {"version": version.version, "model_sha256": version.model_sha256}
        store(row(request_id, arm=arm, label=label, text=text, **identity))


def test_an_unknown_label_counts_as_asked_and_a_known_one_as_it_is() -> None:
    common = {"request_id": "a", "item": 0, "readable": True}
    agree = Pair(old="x", new="x", truth=None, **common)  # type: ignore[arg-type]
    waits = Pair(old="x", new="y", truth=None, **common)  # type: ignore[arg-type]
    right = Pair(old="x", new="y", truth="y", **common)  # type: ignore[arg-type]
    both_wrong = Pair(old="x", new="y", truth="z", **common)  # type: ignore[arg-type]
    pairs = [agree, waits, right, both_wrong]
    assert differences(pairs, -1).tolist() == [0, -1, 1, 0]
    assert differences(pairs, 1).tolist() == [0, 1, 1, 0]
    assert differences([], 1).tolist() == []


def test_a_text_that_comes_again_counts_once_with_the_label_that_any_of_them_has(versions: list[Champion]) -> None:
    found = begun(versions)
    ask(versions, "a", "refund", "transfer", "my card")
    ask(versions, "b", "refund", "refund", "another")
    ask(versions, "c", "refund", "transfer", "my card")
    add_feedback("tiny", "c", 0, "transfer", time.time())
    pairs = read_pairs(found)
    assert [(pair.old, pair.new, pair.truth) for pair in pairs] == [
        ("refund", "transfer", "transfer"),
        ("refund", "refund", None),
    ]


def test_what_was_logged_before_the_phase_or_of_other_versions_is_no_pair(versions: list[Champion]) -> None:
    ask(versions, "a", "refund", "transfer", "early")
    found = begun(versions)
    store(row("b", arm="champion", version="9", model_sha256="9" * 64, text="other", label="refund"))
    store(row("b", arm="shadow", version="2", model_sha256=versions[1].model_sha256, text="other", label="refund"))
    assert read_pairs(found) == []
    ask(versions, "c", "refund", "transfer", "now")
    assert [pair.request_id for pair in read_pairs(found)] == ["c"]
