"""Challenge, shadow and withdraw by hand: what they refuse, what they move, and what the status shows."""

from pathlib import Path

import mlflow
import pytest
from typer.testing import CliRunner

from bento.errors import IntegrityError, ReleaseError, RetortError, UserError
from bento.manifest import folder_sha256
from flows.arms import put_beside, withdraw
from flows.cli import app
from flows.release import move_champion, promote_by_hand
from flows.status import read_status
from tasks.release import ledger, tracking
from tasks.release.ledger import Champion
from tests.tiny import write_tiny_model

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_HOME", str(tmp_path))
    monkeypatch.delenv("RETORT_DATABASE_URL", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")


@pytest.fixture
def versions(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[Champion]:
    """Three blessed versions, of which the first is the champion, and one with other labels.

    They are registered where the test asks for `registry`; else the aliases stay out of it.
    """
    if "registry" not in request.fixturenames:
        for name in ("point_alias", "set_alias", "drop_aliases"):
            monkeypatch.setattr(tracking, name, lambda *args: None)
    found = []
    for number in range(1, 5):
        labels = ("a", "b") if number == 4 else ("card_lost", "refund", "transfer")
        found.append(bless(number, write_tiny_model(tmp_path / f"v{number}", seed=number, labels=labels)))
    promote_by_hand("tiny", "1", who="ada", why="first")
    return found


def bless(number: int, model: Path, action: str = "bless") -> Champion:
    entry = Champion(
        name="tiny", version=str(number), model_sha256=folder_sha256(model), model_path=model, bento=f"tiny:{number}"
    )
    ledger.record(entry, action=action, who="retort", why="boot check", evidence={})
    return entry


@pytest.fixture
def registry(tmp_path: Path) -> None:
    """MLflow with four versions."""
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    client = mlflow.MlflowClient()
    client.create_registered_model("tiny")
    for number in range(1, 5):
        client.create_model_version("tiny", str(tmp_path / f"v{number}"))


def aliases() -> dict[str, str]:
    return {alias: row["version"] for row in tracking.list_versions("tiny") for alias in row["aliases"]}


def challenge(version: str, share: float = 0.1, arm: str = "challenger") -> None:
    put_beside("tiny", version, arm=arm, share=share, who="ada", why="looks better")


def test_the_commands_move_arm_alias_and_ledger_and_the_status_shows_them(
    registry: None, versions: list[Champion]
) -> None:
    run = CliRunner()
    assert run.invoke(app, ["challenge", "tiny", "2", "--share", "0.1", "--why", "better"]).exit_code == 0
    assert run.invoke(app, ["shadow", "tiny", "3", "--share", "0.5"]).exit_code == 0
    assert aliases() == {"champion": "1", "challenger": "2", "shadow": "3"}
    (status,) = read_status("tiny")
    assert {arm: (found["version"], found["share"]) for arm, found in status["arms"].items()} == {
        "challenger": ("2", 0.1),
        "shadow": ("3", 0.5),
    }
    shown = run.invoke(app, ["status", "tiny"]).output
    assert "challenger: version 2, tiny:2, share 0.1" in shown
    assert "challenge version 2" in shown
    done = run.invoke(app, ["withdraw", "tiny", "--arm", "shadow"])
    assert "version 3 is no longer shadow" in done.output
    assert aliases() == {"champion": "1", "challenger": "2"}
    assert run.invoke(app, ["withdraw", "tiny"]).exit_code == 0
    assert aliases() == {"champion": "1"}
    assert read_status("tiny")[0]["arms"] == {}
    assert [row["action"] for row in ledger.history("tiny")[:4]] == ["withdraw", "withdraw", "shadow", "challenge"]
    challenge("2")
    challenge("3", arm="shadow")
    assert run.invoke(app, ["promote", "tiny", "2"]).exit_code == 0
    assert aliases() == {"champion": "2"}


def test_a_promoted_challenger_ends_its_challenge(versions: list[Champion]) -> None:
    challenge("2")
    challenge("3", arm="shadow")
    promote_by_hand("tiny", "2", who="ada", why="it is better")
    assert ledger.read_arms("tiny") == {}


def test_a_rollback_withdraws_what_stood_beside_the_champion(versions: list[Champion]) -> None:
    promote_by_hand("tiny", "2", who="ada", why="better")
    challenge("3")
    back, now = versions[0], versions[1]
    assert move_champion(back, expected=now, action="rollback", who="ada", why="worse", evidence={})
    assert ledger.read_arms("tiny") == {}


@pytest.mark.parametrize(
    ("version", "share", "arm", "error", "message"),
    [
        ("2", 0.0, "challenger", UserError, "above 0 and up to 0.5"),
        ("2", 0.51, "challenger", UserError, "got 0.51"),
        ("2", 1.5, "shadow", UserError, "up to 1"),
        ("2", float("nan"), "shadow", UserError, "got nan"),
        ("1", 0.1, "challenger", ReleaseError, "is the champion"),
        ("9", 0.1, "challenger", UserError, "those are: 1, 2, 3, 4"),
        ("4", 0.1, "challenger", ReleaseError, "expected labels"),
        ("4", 0.1, "shadow", ReleaseError, "cannot be mixed"),
    ],
)
def test_what_cannot_stand_beside_the_champion_is_refused(
    versions: list[Champion], version: str, share: float, arm: str, error: type[RetortError], message: str
) -> None:
    with pytest.raises(error, match=message):
        challenge(version, share, arm)
    assert ledger.read_arms("tiny") == {}


def test_an_altered_model_is_refused(versions: list[Champion]) -> None:
    (versions[1].model_path / "config.json").write_text("{}")
    with pytest.raises(IntegrityError, match="gone or altered"):
        challenge("2")


def test_a_version_that_did_not_pass_both_blessings_is_refused(versions: list[Champion], tmp_path: Path) -> None:
    bless(5, write_tiny_model(tmp_path / "v5", seed=5), action="reject")
    with pytest.raises(ReleaseError, match="expected a version that passed"):
        challenge("5")


def test_a_second_challenger_has_to_wait(versions: list[Champion]) -> None:
    challenge("2")
    with pytest.raises(ReleaseError, match="first `retort withdraw tiny --arm challenger`"):
        challenge("3")
    challenge("2", share=0.4)
    assert ledger.read_arms("tiny")["challenger"].share == 0.4


def test_a_name_without_a_champion_has_no_challenger() -> None:
    with pytest.raises(UserError, match=r"no champion for a challenger to stand beside; .*`retort status`"):
        challenge("1")


def test_there_must_be_something_to_withdraw(versions: list[Champion]) -> None:
    with pytest.raises(UserError, match="no challenger or shadow to withdraw"):
        withdraw("tiny", None, who="ada", why="enough")
    with pytest.raises(UserError, match="expected challenger or shadow"):
        withdraw("tiny", "champion", who="ada", why="enough")
