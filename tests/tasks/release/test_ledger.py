import json
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Thread

import pytest
import sqlalchemy as sa

from bento.database import engine
from tasks.release import ledger
from tasks.release.ledger import Champion


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_HOME", str(tmp_path))
    monkeypatch.delenv("RETORT_DATABASE_URL", raising=False)


def version(number: int) -> Champion:
    return Champion(
        name="demo",
        version=str(number),
        model_sha256=f"{number:064d}",
        model_path=Path(f"/m/{number}"),
        bento=f"demo:{number}",
    )


def swap(new: Champion, expected: Champion | None, action: str = "promote") -> bool:
    return ledger.swap_champion(new, expected=expected, action=action, who="test", why="test", evidence={})


def test_the_first_champion_is_taken_only_from_nobody() -> None:
    assert swap(version(1), None)
    assert not swap(version(2), None)
    assert ledger.read_champion("demo") == version(1)


def test_a_swap_against_a_champion_that_moved_changes_nothing() -> None:
    swap(version(1), None)
    swap(version(2), version(1))
    assert not swap(version(3), version(1))
    assert ledger.read_champion("demo") == version(2)
    assert len(ledger.history("demo")) == 2


def test_a_champion_of_the_same_version_but_other_content_does_not_match() -> None:
    swap(version(1), None)
    assert not swap(version(2), replace(version(1), model_sha256="f" * 64))


def test_of_many_concurrent_promotions_exactly_one_wins() -> None:
    swap(version(1), None)
    barrier, won = Barrier(8), []

    def race(number: int) -> None:
        barrier.wait()
        if swap(version(number), version(1)):
            won.append(number)

    threads = [Thread(target=race, args=(number,)) for number in range(2, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    champion = ledger.read_champion("demo")
    assert champion is not None
    assert champion.version == str(won[0])


def test_rollback_goes_back_one_by_one_and_never_in_a_circle() -> None:
    swap(version(1), None)
    swap(version(2), version(1))
    swap(version(3), version(2))
    assert ledger.previous_champion("demo") == version(2)
    swap(version(2), version(3), action="rollback")
    assert ledger.previous_champion("demo") == version(1)
    swap(version(1), version(2), action="rollback")
    assert ledger.previous_champion("demo") is None


def test_a_promotion_after_a_rollback_can_be_rolled_back() -> None:
    swap(version(1), None)
    swap(version(2), version(1))
    swap(version(1), version(2), action="rollback")
    swap(version(3), version(1))
    assert ledger.previous_champion("demo") == version(1)


def test_a_blessing_counts_for_this_bento_and_digest_only() -> None:
    ledger.record(version(1), action="bless", who="retort", why="boot check passed", evidence={})
    assert ledger.blessed(version(1))
    assert not ledger.blessed(replace(version(1), model_sha256="f" * 64))
    assert not ledger.blessed(version(2))


def test_the_ledger_says_who_why_and_what_was_before() -> None:
    swap(version(1), None)
    ledger.swap_champion(
        version(2), expected=version(1), action="promote", who="ada", why="better", evidence={"z": 2.5}
    )
    newest = ledger.history("demo")[0]
    assert (newest["who"], newest["why"], newest["previous"], newest["evidence"]) == ("ada", "better", "1", {"z": 2.5})


def test_evidence_that_is_not_finite_is_stored_as_standard_json() -> None:
    ledger.record(version(1), action="bless", who="test", why="test", evidence={"limit": float("nan"), "n": 3})
    with engine().connect() as connection:
        stored = connection.execute(sa.text("SELECT evidence FROM ledger")).scalar_one()
    assert json.loads(stored, parse_constant=pytest.fail) == {"limit": None, "n": 3}
