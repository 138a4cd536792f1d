"""Experiments end to end, on log rows as the service writes them: good, bad and broken challengers, kills and races."""

import json
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from bento import database
from bento.errors import ReleaseError, UserError
from flows import experiment as experiments
from flows.cli import app
from flows.release import promote_by_hand
from tasks.experiment import table
from tasks.experiment.config import ExperimentConfig
from tasks.experiment.table import Experiment
from tasks.release import ledger
from tasks.release.ledger import Champion
from tests.experiments import Traffic, count, quick, versions

pytestmark = pytest.mark.filterwarnings("default")
__all__ = ["versions"]


def begin(versions: list[Champion], config: ExperimentConfig | None = None, challenger: int = 1) -> Experiment:
    return experiments.start(config or quick(), versions[challenger], versions[0], who="ada", why="a retrain")


def look() -> dict[str, Any]:
    return experiments.look("tiny")


def serving() -> str:
    champion = ledger.read_champion("tiny")
    assert champion is not None
    return champion.version


def shadowed(traffic: Traffic, versions: list[Champion], n: int = 600, **rates: float) -> dict[str, Any]:
    """Traffic in the shadow phase, its disagreements labelled, and a look before and after."""
    traffic.pairs(versions[0], versions[1], n, **rates)
    look()
    traffic.label()
    return look()


def promoted(traffic: Traffic, versions: list[Champion], config: ExperimentConfig | None = None) -> None:
    begin(versions, config)
    assert shadowed(traffic, versions, good=0.05, bad=0.02)["state"] == "watch"


def test_a_good_challenger_is_promoted_on_labelled_disagreements_and_the_old_champion_watches(
    versions: list[Champion],
) -> None:
    begin(versions)
    assert ledger.read_arms("tiny")["shadow"].version == versions[1]
    traffic = Traffic()
    traffic.pairs(versions[0], versions[1], 600, good=0.05, bad=0.02)
    waits = look()
    assert (waits["state"], waits["action"], serving()) == ("shadow", "wait", "1")
    num_labels = traffic.label()
    assert num_labels == waits["evidence"]["num_disagreements"] < 60
    done = look()
    assert (done["state"], done["action"], serving()) == ("watch", "next", "2")
    assert ledger.read_arms("tiny")["shadow"].version == versions[0]
    entry = next(row for row in ledger.history("tiny") if row["action"] == "promote")
    assert entry["evidence"]["experiment"] == done["experiment"]
    assert "not worse than version 1 by 5 points" in entry["why"]
    assert Path(done["report"]).is_file()


def test_a_bad_challenger_is_vetoed_and_not_tried_again(versions: list[Champion]) -> None:
    begin(versions)
    done = shadowed(Traffic(), versions, good=0.01, bad=0.2)
    assert (done["state"], done["action"], serving()) == ("vetoed", "veto", "1")
    assert ledger.read_arms("tiny") == {}
    assert ledger.history("tiny")[0]["action"] == "vetoed"
    assert begin(versions).outcome == "vetoed"
    assert look()["state"] == "none"


def test_the_command_says_what_its_look_did_and_then_what_is_left(versions: list[Champion]) -> None:
    begin(versions)
    traffic = Traffic()
    traffic.pairs(versions[0], versions[1], 600, good=0.01, bad=0.2)
    found = []
    for _ in range(3):
        done = CliRunner().invoke(app, ["experiment", "tiny", "--look", "--json"])
        found.append(tuple(json.loads(done.output)[key] for key in ("state", "action")))
        traffic.label()
    assert found == [("shadow", "wait"), ("vetoed", "veto"), ("vetoed", "wait")]


def test_a_challenger_that_is_bad_on_one_class_alone_is_vetoed_with_its_name(versions: list[Champion]) -> None:
    begin(versions, quick(delta=0.1))
    traffic = Traffic()
    traffic.pairs(versions[0], versions[1], 400, good=0.1, bad=0.0, label="refund")
    traffic.pairs(versions[0], versions[1], 60, good=0.0, bad=0.7, label="transfer")
    look()
    traffic.label()
    done = look()
    assert done["state"] == "vetoed"
    assert "'transfer'" in done["reason"]


def test_a_promoted_model_that_turns_bad_is_rolled_back_by_itself(versions: list[Champion]) -> None:
    traffic = Traffic()
    promoted(traffic, versions)
    traffic.pairs(versions[1], versions[0], 300, good=0.02, bad=0.02)
    assert look()["action"] == "wait"
    traffic.label()
    assert (look()["state"], serving()) == ("watch", "2")
    traffic.pairs(versions[1], versions[0], 300, good=0.3, bad=0.02)
    look()
    traffic.label()
    done = look()
    assert (done["state"], done["action"], serving()) == ("rolled_back", "rollback", "1")
    assert ledger.read_arms("tiny") == {}
    assert [row["action"] for row in ledger.history("tiny")[:1]] == ["rolled_back"]
    assert ledger.previous_champion("tiny") is None


def test_a_promoted_model_that_fails_requests_is_rolled_back(versions: list[Champion]) -> None:
    promoted(Traffic(), versions)
    assert look()["action"] == "wait"
    count(versions[1], "champion", answered=400, failed=30)
    done = look()
    assert (done["state"], serving()) == ("rolled_back", "1")
    assert "error rate 6.98% of 430" in done["reason"]


def test_a_promoted_model_that_does_no_harm_stays_and_is_watched_no_longer(versions: list[Champion]) -> None:
    traffic = Traffic()
    promoted(traffic, versions, quick(watch_labels=10))
    traffic.pairs(versions[1], versions[0], 600, good=0.02, bad=0.02)
    look()
    assert traffic.label() == 10, "no more labels than the budget are asked for"
    done = look()
    assert (done["state"], done["action"], serving()) == ("promoted", "keep", "2")
    assert ledger.read_arms("tiny") == {}


def test_without_labels_or_requests_nothing_is_promoted(versions: list[Champion]) -> None:
    begin(versions)
    assert look()["action"] == "wait"
    traffic = Traffic()
    traffic.pairs(versions[0], versions[1], 90, good=0.1, bad=0.0)
    look()
    traffic.label()
    done = look()
    assert done["action"] == "wait"
    assert "not yet passed: error rate 0.00% of 90" in done["reason"]


def test_labels_used_up_without_a_verdict_are_inconclusive(versions: list[Champion]) -> None:
    begin(versions, quick(delta=0.01, max_labels=20))
    done = shadowed(Traffic(), versions, good=0.04, bad=0.04)
    assert (done["state"], serving()) == ("inconclusive", "1")
    assert "20 labels are used" in done["reason"]


def test_time_used_up_without_a_verdict_is_inconclusive(versions: list[Champion]) -> None:
    begin(versions, quick(max_days=1e-9))
    done = look()
    assert done["state"] == "inconclusive"
    assert "days have passed" in done["reason"]


def test_a_shadow_that_fails_is_vetoed(versions: list[Champion]) -> None:
    begin(versions)
    count(versions[1], "shadow", answered=200, failed=20)
    assert look()["state"] == "vetoed"


def answered(versions: list[Champion], share: float, n: int, *, got: float | None = None) -> None:
    """Counts of A/B at a share, of which the challenger got `got`."""
    salt = ledger.read_arms("tiny")["challenger"].salt
    new = round((share if got is None else got) * n)
    count(versions[1], "challenger", salt=salt, share=share, answered=new, units=new)
    count(versions[0], "champion", salt=salt, share=share, answered=n - new, units=n - new)


def test_shares_grow_step_by_step_before_the_promotion(versions: list[Champion]) -> None:
    begin(versions, quick(ab_share=[0.1, 0.5]))
    assert shadowed(Traffic(), versions, good=0.05, bad=0.02)["state"] == "ab"
    first = ledger.read_arms("tiny")["challenger"]
    assert (first.version, first.share, serving()) == (versions[1], 0.1, "1")
    assert "shadow" not in ledger.read_arms("tiny")
    assert look()["action"] == "wait"
    answered(versions, 0.1, 2_000)
    assert (look()["step"], ledger.read_arms("tiny")["challenger"].share) == (1, 0.5)
    assert ledger.read_arms("tiny")["challenger"].salt == first.salt
    assert look()["action"] == "wait"
    answered(versions, 0.5, 2_000)
    assert (look()["state"], serving()) == ("watch", "2")


def test_a_split_that_is_not_the_planned_one_ends_the_experiment(versions: list[Champion]) -> None:
    begin(versions, quick(ab_share=[0.1, 0.5]))
    shadowed(Traffic(), versions, good=0.05, bad=0.02)
    answered(versions, 0.1, 3_000, got=0.06)
    done = look()
    assert (done["state"], serving()) == ("inconclusive", "1")
    assert "sample ratio mismatch" in done["reason"]


def test_a_challenger_that_fails_requests_in_a_b_is_vetoed_unless_the_champion_does_too(
    versions: list[Champion],
) -> None:
    begin(versions, quick(ab_share=[0.1]))
    shadowed(Traffic(), versions, good=0.05, bad=0.02)
    salt = ledger.read_arms("tiny")["challenger"].salt
    count(versions[1], "challenger", salt=salt, share=0.1, answered=80, failed=8)
    count(versions[0], "champion", salt=salt, share=0.1, answered=1_300, failed=200)
    assert look()["action"] != "veto"
    count(versions[1], "challenger", salt=salt, share=0.1, failed=200)
    assert look()["state"] == "vetoed"


def test_a_look_that_was_killed_after_the_champion_moved_is_finished_by_the_next(
    versions: list[Champion], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(versions)
    with monkeypatch.context() as killed:
        killed.setattr(experiments, "_watch", kill)
        with pytest.raises(KeyboardInterrupt):
            shadowed(Traffic(), versions, good=0.05, bad=0.02)
    assert serving() == "2"
    assert look()["state"] == "watch"
    assert ledger.read_arms("tiny")["shadow"].version == versions[0]
    assert [row["action"] for row in ledger.history("tiny")].count("promote") == 2


def kill(*_args: Any, **_kwargs: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("at", ["move_champion", "put_beside", "check_folder"])
def test_a_look_that_is_killed_anywhere_ends_in_the_same_state_when_taken_again(
    versions: list[Champion], monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    begin(versions)
    with monkeypatch.context() as killed:
        killed.setattr(experiments, at, kill)
        with pytest.raises(KeyboardInterrupt):
            shadowed(Traffic(), versions, good=0.05, bad=0.02)
    look()
    look()
    assert serving() == "2"
    found = table.running("tiny")
    assert found is not None
    assert found.phase == "watch"
    assert ledger.read_arms("tiny")["shadow"].version == versions[0]


def test_a_veto_that_was_killed_is_repeated(versions: list[Champion], monkeypatch: pytest.MonkeyPatch) -> None:
    begin(versions)
    with monkeypatch.context() as killed:
        killed.setattr(table, "end", kill)
        with pytest.raises(KeyboardInterrupt):
            shadowed(Traffic(), versions, good=0.01, bad=0.2)
    assert look()["state"] == "vetoed"
    assert ledger.read_arms("tiny") == {}


def test_a_rollback_that_was_killed_is_finished(versions: list[Champion], monkeypatch: pytest.MonkeyPatch) -> None:
    promoted(Traffic(), versions)
    count(versions[1], "champion", answered=400, failed=30)
    with monkeypatch.context() as killed:
        killed.setattr(table, "end", kill)
        with pytest.raises(KeyboardInterrupt):
            look()
    assert serving() == "1"
    assert look()["state"] == "rolled_back"


def test_of_several_looks_at_once_one_promotes(versions: list[Champion]) -> None:
    begin(versions)
    traffic = Traffic()
    traffic.pairs(versions[0], versions[1], 600, good=0.05, bad=0.02)
    look()
    traffic.label()
    barrier = Barrier(4)
    threads = [Thread(target=lambda: (barrier.wait(), look())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    look()
    assert [row["action"] for row in ledger.history("tiny")].count("promote") == 2, "by hand, and by the experiment"
    found = table.running("tiny")
    assert found is not None
    assert (found.phase, ledger.read_arms("tiny")["shadow"].version) == ("watch", versions[0])


def test_a_champion_that_a_person_moves_ends_the_experiment(versions: list[Champion]) -> None:
    begin(versions)
    promote_by_hand("tiny", "3", who="ada", why="urgent")
    assert look()["state"] == "superseded"
    assert serving() == "3"


def test_a_shadow_that_a_person_withdraws_ends_the_experiment(versions: list[Champion]) -> None:
    begin(versions)
    ledger.end_arms("tiny", "shadow", who="ada", why="too slow")
    done = look()
    assert (done["state"], done["reason"]) == ("stopped", "withdrawn: too slow")


def test_a_newer_version_waits_for_the_running_experiment_and_then_begins(versions: list[Champion]) -> None:
    begin(versions)
    assert begin(versions, challenger=2).phase == "waiting"
    assert begin(versions, challenger=2).phase == "waiting", "asking again changes nothing"
    assert shadowed(Traffic(), versions, good=0.01, bad=0.2)["state"] == "vetoed"
    found = table.running("tiny")
    assert found is not None
    assert (found.challenger, found.phase) == (versions[2], "shadow")
    assert ledger.read_arms("tiny")["shadow"].version == versions[2]


def test_disagreements_are_queued_apart_from_the_random_stream(versions: list[Champion]) -> None:
    begin(versions)
    Traffic().pairs(versions[0], versions[1], 100, good=0.1, bad=0.1)
    look()
    with database.engine().connect() as connection:
        reasons = set(connection.execute(sa.select(database.targeted.c.reason)).scalars())
        audited = connection.execute(sa.select(database.requests.c.request_id).where(database.requests.c.audit)).all()
    assert reasons == {"disagreement"}
    assert audited == []


def test_texts_that_nobody_can_read_are_said(versions: list[Champion]) -> None:
    begin(versions)
    Traffic().pairs(versions[0], versions[1], 200, good=0.1, bad=0.1)
    with database.engine().begin() as connection:
        connection.execute(database.shadows.update().values(text=""))
    assert "RETORT_LOG_TEXT" in look()["reason"]


def test_the_commands_start_show_look_and_stop(versions: list[Champion], tmp_path: Path) -> None:
    run = CliRunner()
    config = tmp_path / "tiny.yaml"
    config.write_text(
        "name: tiny\ndata: {source: x}\ncompress: [{kind: export}]\nrelease: {experiment: {delta: 0.02}}\n"
    )
    none = run.invoke(app, ["experiment", "tiny", "--once"])
    assert isinstance(none.exception, UserError)
    started = run.invoke(app, ["experiment", "tiny", "--start", "2", "--config", str(config), "--why", "newer"])
    assert started.exit_code == 0, started.exception
    assert "version 2 against version 1" in started.output
    Traffic().pairs(versions[0], versions[1], 100, good=0.1, bad=0.1)
    assert "disagreements wait" in run.invoke(app, ["experiment", "tiny", "--look"]).output
    found = json.loads(run.invoke(app, ["experiment", "tiny", "--json"]).output)
    assert (found["state"], found["config"]["delta"], found["why"]) == ("shadow", 0.02, "newer")
    assert found["evidence"]["num_pairs"] == 100
    assert "stopped" in run.invoke(app, ["experiment", "tiny", "--stop"]).output
    assert ledger.read_arms("tiny") == {}
    again = run.invoke(app, ["experiment", "tiny", "--stop"])
    assert "no running experiment" in str(again.exception)


def test_a_version_that_was_vetoed_is_refused_by_hand_too(versions: list[Champion]) -> None:
    begin(versions)
    shadowed(Traffic(), versions, good=0.01, bad=0.2)
    with pytest.raises(ReleaseError, match="was tried against version 1"):
        experiments.start_by_hand(quick(), "tiny", "2", who="ada", why="again")
