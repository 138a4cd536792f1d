"""Promotion when the champion moves during a build, and without blessings."""

from pathlib import Path

import pytest

from bento.errors import ReleaseError, UserError
from flows import release, rollback
from flows.release import find_entry, promote, promote_by_hand
from tasks.release import ledger, tracking
from tasks.release.ledger import Champion
from tasks.types import Artifact, GateReport, Outcome, Verdict


@pytest.fixture(autouse=True)
def aliases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("RETORT_HOME", str(tmp_path))
    monkeypatch.delenv("RETORT_DATABASE_URL", raising=False)
    moved: list[str] = []
    monkeypatch.setattr(release.tracking, "point_alias", lambda name, version: moved.append(version))
    return moved


def version(number: int) -> Champion:
    return Champion(
        name="demo",
        version=str(number),
        model_sha256=f"{number:064d}",
        model_path=Path(f"/m/{number}"),
        bento=f"demo:{number}",
    )


def bless(entry: Champion) -> Champion:
    ledger.record(entry, action="bless", who="retort", why="boot check passed", evidence={})
    return entry


def serve(entry: Champion, before: Champion | None) -> None:
    ledger.swap_champion(entry, expected=before, action="promote", who="other", why="other", evidence={})


def report(outcome: Outcome) -> GateReport:
    return GateReport(verdicts=(Verdict(gate="accuracy", outcome=outcome, observed=0, limit=0, n=1),))


def test_without_the_boot_blessing_nothing_is_promoted(aliases: list[str]) -> None:
    with pytest.raises(ReleaseError, match="boot check"):
        promote(
            version(1), expected=None, judge=lambda champion: report("pass"), report=report("pass"), who="a", why="b"
        )
    assert ledger.read_champion("demo") is None
    assert aliases == []


def test_a_champion_that_moved_is_gated_against_and_beaten(aliases: list[str]) -> None:
    serve(version(1), None)
    serve(version(2), version(1))
    judged: list[Champion | None] = []

    def judge(champion: Champion | None) -> GateReport:
        judged.append(champion)
        return report("pass")

    final = promote(bless(version(3)), expected=version(1), judge=judge, report=report("pass"), who="a", why="b")
    assert judged == [version(2)]
    assert final.outcome == "pass"
    assert ledger.read_champion("demo") == version(3)
    assert aliases == ["3"]


def test_a_champion_that_moved_and_is_better_stays(aliases: list[str]) -> None:
    serve(version(1), None)
    serve(version(2), version(1))
    final = promote(
        bless(version(3)),
        expected=version(1),
        judge=lambda champion: report("fail"),
        report=report("pass"),
        who="a",
        why="b",
    )
    assert final.outcome == "fail"
    assert ledger.read_champion("demo") == version(2)
    assert aliases == []
    assert ledger.history("demo")[0]["action"] == "refuse"


def test_a_champion_that_keeps_moving_ends_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release.ledger, "swap_champion", lambda *args, **kwargs: False)
    with pytest.raises(ReleaseError, match="moved 3 times"):
        promote(
            bless(version(3)),
            expected=None,
            judge=lambda champion: report("pass"),
            report=report("pass"),
            who="a",
            why="b",
        )


def test_two_retrains_cannot_both_promote() -> None:
    serve(version(1), None)
    first, second = bless(version(2)), bless(version(3))
    seen: list[Champion | None] = []

    def worse(champion: Champion | None) -> GateReport:
        seen.append(champion)
        return report("fail")

    assert promote(first, expected=version(1), judge=worse, report=report("pass"), who="a", why="b").outcome == "pass"
    assert promote(second, expected=version(1), judge=worse, report=report("pass"), who="a", why="b").outcome == "fail"
    assert seen == [version(2)]
    assert ledger.read_champion("demo") == version(2)


def test_only_blessed_versions_can_be_promoted_by_hand() -> None:
    bless(version(4))
    assert find_entry("demo", "4") == version(4)
    ledger.record(version(5), action="reject", who="retort", why="boot check failed", evidence={})
    with pytest.raises(ReleaseError, match="those are: 4"):
        find_entry("demo", "5")


def test_a_version_or_name_that_there_is_not_is_bad_input() -> None:
    bless(version(4))
    with pytest.raises(UserError, match="those are: 4"):
        find_entry("demo", "99")
    with pytest.raises(UserError, match=r"those are: none. `retort status` shows all"):
        find_entry("nope", "1")
    with pytest.raises(UserError, match="nope has no champion to roll back"):
        rollback._roll_back("nope", "worse", "ada")
    serve(version(4), None)
    with pytest.raises(ReleaseError, match="no earlier champion"):
        rollback._roll_back("demo", "worse", "ada")


def test_a_new_version_leaves_the_alias_of_a_running_challenger_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    serve(version(1), None)
    newest = tracking.Version(name="demo", version="3", model_sha256="3" * 64, run_id="r")
    set_aliases: list[tuple[str, str, str]] = []
    monkeypatch.setattr(tracking, "find_version", lambda name, tags: None)
    monkeypatch.setattr(tracking, "register", lambda *args, **kwargs: newest)
    monkeypatch.setattr(tracking, "set_alias", lambda *args: set_aliases.append(args))
    model = Artifact(kind="onnx", path=Path("/m"), sha256="3" * 64, parents=(), made_by="quantize")
    candidate = release.Candidate(
        name="demo", model=model, tags={"retort.gate_key": "k"}, description="", golden=["a", "b"],
        latency_p95_ms=None, run_id="r", card="",
    )  # fmt: skip
    assert release.register.fn(candidate) == newest
    assert set_aliases == []
    ledger.set_arm(
        version(2), arm="challenger", share=0.1, expected=version(1), action="challenge", who="a", why="b"
    )  # fmt: skip
    assert release.register.fn(candidate) == newest
    assert set_aliases == [("demo", "challenger", "2")]


def test_promoting_what_serves_already_changes_nothing(aliases: list[str]) -> None:
    serve(bless(version(1)), None)
    before = ledger.history("demo")
    assert promote_by_hand("demo", "1", who="ada", why="again") == version(1)
    assert ledger.history("demo") == before
    assert aliases == []
