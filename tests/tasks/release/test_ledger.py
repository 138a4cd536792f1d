import json
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Thread

import pytest
import sqlalchemy as sa

from bento.database import engine
from bento.errors import UserError
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


def test_a_name_without_a_champion_is_told_what_makes_one() -> None:
    with pytest.raises(UserError, match="demo has no champion to serve; `retort run CONFIG` makes one"):
        ledger.require_champion("demo", " to serve")
    swap(version(1), None)
    assert ledger.require_champion("demo") == version(1)


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


def test_a_model_promoted_again_while_it_serves_is_not_what_a_rollback_goes_to() -> None:
    swap(version(1), None)
    swap(version(1), version(1))
    assert ledger.previous_champion("demo") is None
    swap(version(2), version(1))
    again = replace(version(3), model_sha256=version(2).model_sha256)
    swap(again, version(2))
    assert ledger.previous_champion("demo") == version(1)
    swap(version(1), again, action="rollback")
    assert ledger.rolled_back(version(2)) is not None
    assert ledger.rolled_back(version(1)) is None


def test_a_promotion_after_a_rollback_can_be_rolled_back() -> None:
    swap(version(1), None)
    swap(version(2), version(1))
    swap(version(1), version(2), action="rollback")
    swap(version(3), version(1))
    assert ledger.previous_champion("demo") == version(1)


def test_a_model_that_was_rolled_back_is_known_until_somebody_promotes_it_again() -> None:
    swap(version(1), None)
    assert ledger.rolled_back(version(1)) is None
    swap(version(2), version(1))
    swap(version(1), version(2), action="rollback")
    undone = ledger.rolled_back(version(2))
    assert undone is not None
    assert undone["previous"] == "2"
    assert ledger.rolled_back(version(1)) is None
    same_weights = replace(version(3), model_sha256=version(2).model_sha256)
    assert ledger.rolled_back(same_weights) is not None, "a new version of the same model is the same model"
    swap(version(2), version(1))
    assert ledger.rolled_back(version(2)) is None


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


def beside(new: Champion, expected: Champion, arm: str = "challenger", share: float = 0.1) -> ledger.Arm | None:
    return ledger.set_arm(
        new, arm=arm, share=share, expected=expected, action="challenge", who="ada", why="looks better"
    )


def test_an_arm_says_what_who_and_why() -> None:
    swap(version(1), None)
    found = beside(version(2), version(1))
    assert found is not None
    assert ledger.read_arms("demo") == {"challenger": found}
    assert (found.version, found.share) == (version(2), 0.1)
    newest = ledger.history("demo")[0]
    assert (newest["action"], newest["who"], newest["why"], newest["version"]) == (
        "challenge",
        "ada",
        "looks better",
        "2",
    )
    assert newest["evidence"] == {"share": 0.1, "salt": found.salt}


def test_another_share_keeps_the_salt_and_another_challenge_has_one_of_its_own() -> None:
    swap(version(1), None)
    first, more = beside(version(2), version(1)), beside(version(2), version(1), share=0.3)
    assert first is not None
    assert more is not None
    assert (more.salt, more.since, more.share) == (first.salt, first.since, 0.3)
    ledger.end_arms("demo", None, who="ada", why="enough")
    again = beside(version(2), version(1))
    assert again is not None
    assert again.salt != first.salt


def test_an_arm_that_is_taken_and_a_champion_that_moved_change_nothing() -> None:
    swap(version(1), None)
    beside(version(2), version(1))
    assert beside(version(3), version(1)) is None
    swap(version(4), version(1))
    num_entries = len(ledger.history("demo"))
    assert beside(version(2), version(1)) is None
    assert ledger.read_arms("demo") == {}
    assert len(ledger.history("demo")) == num_entries


@pytest.mark.parametrize("action", ["promote", "rollback"])
def test_a_champion_that_moves_ends_challenge_and_shadow_with_an_entry_each(action: str) -> None:
    swap(version(1), None)
    beside(version(2), version(1))
    beside(version(3), version(1), arm="shadow", share=1.0)
    swap(version(2), version(1), action=action)
    assert ledger.read_arms("demo") == {}
    entries = {row["version"]: row for row in ledger.history("demo") if row["action"] == "withdraw"}
    assert set(entries) == {"2", "3"}
    assert entries["3"]["why"] == f"{action} of version 2 moved the champion"
    assert entries["3"]["evidence"]["arm"] == "shadow"
    assert ledger.history("demo")[2]["action"] == action


def test_one_arm_can_be_ended_alone() -> None:
    swap(version(1), None)
    beside(version(2), version(1))
    beside(version(3), version(1), arm="shadow", share=1.0)
    assert set(ledger.end_arms("demo", "challenger", who="ada", why="worse")) == {"challenger"}
    assert set(ledger.read_arms("demo")) == {"shadow"}
    assert ledger.end_arms("demo", "challenger", who="ada", why="worse") == {}


def test_arms_do_not_disturb_the_way_back() -> None:
    swap(version(1), None)
    beside(version(2), version(1))
    swap(version(2), version(1))
    beside(version(3), version(2), arm="shadow", share=1.0)
    ledger.end_arms("demo", None, who="ada", why="enough")
    assert ledger.previous_champion("demo") == version(1)


def test_a_challenge_and_a_promotion_at_once_leave_no_challenger_beside_another_champion() -> None:
    swap(version(1), None)
    for number in range(2, 12):
        champion = ledger.read_champion("demo")
        assert champion is not None
        barrier = Barrier(2)
        threads = [
            Thread(target=lambda: (barrier.wait(), beside(version(99), champion))),  # noqa: B023
            Thread(target=lambda: (barrier.wait(), swap(version(number), champion))),  # noqa: B023
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ledger.read_champion("demo") == version(number)
        assert ledger.read_arms("demo") == {}
