"""Experiments: a candidate shadows the champion, may answer a share, is promoted or not, and is watched afterwards.

A look can be killed at any point and taken again, and two at once do no harm: evidence is read from the log, every move
is a compare-and-swap, and arms that a kill kept from being moved are moved by the next look.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from bento import settings
from bento.arms import CHALLENGER, MUST_FIT, SHADOW
from bento.audit_records import add_targets
from bento.errors import ReleaseError, RetortError, UserError
from bento.manifest import Manifest
from flows.arms import put_beside
from flows.config import load_config
from flows.failures import in_words
from flows.notify import notify, tell_of_failure
from flows.release import check_folder, find_entry, move_champion
from flows.stages import prepare_logging, run_name
from tasks.experiment import table
from tasks.experiment.config import ExperimentConfig
from tasks.experiment.decide import Decision, decide
from tasks.experiment.evidence import Evidence, read_evidence
from tasks.experiment.pairs import Pair, read_pairs
from tasks.experiment.table import Experiment
from tasks.notices import Kind
from tasks.release import ledger, tracking
from tasks.release.ledger import Champion
from tasks.report.experiment import write_experiment_report
from tasks.report.page import markdown_cell

log = logging.getLogger("retort.experiment")

WHO = "retort"
KINDS: dict[tuple[str, str], Kind] = {
    ("next", "watch"): "promotion", ("veto", "vetoed"): "veto", ("rollback", "rolled_back"): "rollback",
}  # fmt: skip
"""What people are told of, by a look's action and the state after it."""


def misfit(entry: Champion, champion: Champion) -> str | None:
    """Why the two cannot be compared text by text, or None."""
    ours, its = Manifest.read(champion.model_path), Manifest.read(entry.model_path)
    for part in MUST_FIT:
        if getattr(ours, part) != getattr(its, part):
            return f"its {part} differ from the champion's"
    return (
        None if its.target.task == "single_label" else f"experiments compare classes, and it answers {its.target.task}"
    )


def start(config: ExperimentConfig, entry: Champion, champion: Champion, *, who: str, why: str) -> Experiment:
    """Try `entry` against `champion`: at once, or, while another experiment runs, after it.

    A version that was tried against this champion before is not tried again, unless a person had stopped that.
    """
    for known in table.history(entry.name):
        if (known.challenger, known.champion) == (entry, champion) and known.outcome not in ("stopped", "superseded"):
            return known
    num_classes = len(Manifest.read(entry.model_path).labels)
    made = table.insert(champion, entry, config=config, num_classes=num_classes, who=who, why=why)
    log.info("version %s of %s is tried against version %s", entry.version, entry.name, champion.version)
    return _begin_next(entry.name) or table.read(made.id)


def start_by_hand(config: ExperimentConfig, name: str, version: str, *, who: str, why: str) -> Experiment:
    """Try a version that has both blessings. Raises: ReleaseError, UserError."""
    champion, entry = ledger.read_champion(name), find_entry(name, version)
    if champion is None or champion.version == version:
        raise UserError(f"{name}: expected a champion and another version to try against it, got version {version}")
    reason = misfit(entry, champion)
    if reason is not None:
        raise ReleaseError(f"{name} version {version} cannot be tried: {reason}; `retort promote` can promote it")
    found = start(config, entry, champion, who=who, why=why)
    if found.phase == "ended":
        raise ReleaseError(f"{name} version {version} was tried against version {champion.version}: {found.reason}")
    return found


def stop(name: str, *, who: str, why: str) -> Experiment:
    """End the running experiment without a verdict; the champion stays. Raises: UserError."""
    found = table.running(name)
    if found is None:
        raise UserError(f"{name} has no running experiment to stop; `retort experiment {name}` shows the last one")
    _end_arms(found, f"experiment {found.id} was stopped")
    if not table.end(found, "stopped", who=who, reason=why, evidence={}):
        raise UserError(f"{name}: the experiment moved at the same moment; look at `retort experiment {name}`")
    return table.read(found.id)


@flow(
    name="experiment", flow_run_name=run_name, persist_result=False,
    on_failure=[tell_of_failure], on_crashed=[tell_of_failure],
)  # fmt: skip
def experiment(config: str, overrides: list[str] | None = None) -> dict[str, Any]:
    """One look at the running experiment of a config's name, and what follows from it."""
    prepare_logging()
    chosen = load_config(Path(config), overrides)
    with in_words(f"experiment {chosen.name}"):
        result = look(chosen.name)
    kind = KINDS.get((result["action"], result["state"]))
    if kind is not None:
        notify(chosen.notify, chosen.name, kind, result["reason"])
    create_markdown_artifact(
        f"# {result['name']}: {result['state']}\n\n{markdown_cell(result['reason'])}",
        key=f"{result['name'].replace('_', '-')}-experiment",
    )
    return result


def look(name: str) -> dict[str, Any]:
    """Look once at what runs under `name`. Returns name, state, action, reason, evidence, report."""
    found = table.running(name) or _begin_next(name)
    if found is None:
        return {"name": name, "state": "none", "action": "none", "reason": "no experiment is running", "evidence": None}
    found, decision, evidence = _take(found)
    result = describe(found, decision, evidence)
    result["report"] = str(write_report(result, table.read_looks(found.id)))
    if found.phase == "ended":
        _begin_next(name)
    return result


def _take(found: Experiment) -> tuple[Experiment, Decision, Evidence | None]:
    """See where it stands, decide, store, act."""
    found = _after_a_kill(found)
    if found.phase == "ended":
        return found, Decision(action="wait", reason=found.reason or ""), None
    pairs = read_pairs(found)
    evidence = read_evidence(found, pairs)
    decision = decide(found, evidence, time.time())
    table.store_look(found, action=decision.action, reason=decision.reason, evidence=asdict(evidence))
    if decision.action == "wait":
        _keep_arms(found)
        _ask_for_labels(found, evidence, pairs)
    else:
        log.warning("%s: %s: %s", found.name, decision.action, decision.reason)
        _act(found, decision, evidence)
    return table.read(found.id), decision, evidence


def _after_a_kill(found: Experiment) -> Experiment:
    """Finish what a look began that was killed, and end an experiment whose champion somebody else moved."""
    champion = ledger.read_champion(found.name)
    serving = found.challenger if found.phase == "watch" else found.champion
    if champion == serving:
        return _unless_withdrawn(found)
    if _moved_it(found, "rollback") and champion == found.champion:
        table.end(found, "rolled_back", who=WHO, reason=_last_reason(found), evidence={})
    elif found.phase != "watch" and _moved_it(found, "promote") and champion == found.challenger:
        _watch(found)
    else:
        version = champion.version if champion else "none"
        table.end(found, "superseded", who=WHO, reason=f"the champion was moved to version {version}", evidence={})
    return table.read(found.id)


def _moved_it(found: Experiment, action: str) -> bool:
    """Whether the newest move of the champion was this experiment's."""
    moves = (row for row in ledger.history(found.name) if row["action"] in ("promote", "rollback"))
    newest = next(moves, None)
    return newest is not None and newest["action"] == action and newest["evidence"].get("experiment") == found.id


def _unless_withdrawn(found: Experiment) -> Experiment:
    """A person who withdraws the arm by hand ends the experiment."""
    arm, entry = _arm(found)
    for row in ledger.history(found.name):
        if row["at"] < found.phase_at:
            break
        by_hand = row["action"] == "withdraw" and row["who"] != WHO and row["version"] == entry.version
        if by_hand and row["evidence"]["arm"] == arm and arm not in ledger.read_arms(found.name):
            table.end(found, "stopped", who=row["who"], reason=f"withdrawn: {row['why']}", evidence={})
            return table.read(found.id)
    return found


def _last_reason(found: Experiment) -> str:
    looks = table.read_looks(found.id, limit=1)
    return str(looks[0]["reason"]) if looks else "rolled back"


def _act(found: Experiment, decision: Decision, evidence: Evidence) -> None:
    """Each is safe to repeat; whoever comes second changes nothing."""
    proof = {"experiment": found.id, "reason": decision.reason, "evidence": asdict(evidence)}
    if decision.action == "next":
        _next(found, decision, proof)
    elif decision.action == "rollback":
        _roll_back(found, decision, proof)
    else:
        outcome: dict[str, table.Outcome] = {"veto": "vetoed", "inconclusive": "inconclusive", "keep": "promoted"}
        _end_arms(found, f"experiment {found.id}: {decision.action}")
        table.end(found, outcome[decision.action], who=WHO, reason=decision.reason, evidence=proof)


def _next(found: Experiment, decision: Decision, proof: Mapping[str, Any]) -> None:
    step = found.step + 1 if found.phase == "ab" else 0
    if step < len(found.config.ab_share):
        moved = table.move(found, phase="ab", step=step)
        if moved is not None:
            _keep_arms(moved)
        return
    check_folder(found.challenger)
    why = f"experiment {found.id}: {decision.reason}"
    if move_champion(found.challenger, expected=found.champion, action="promote", who=WHO, why=why, evidence=proof):
        _watch(found)


def _watch(found: Experiment) -> None:
    """The one before becomes the shadow; the alias is set again, as a kill may have kept it back."""
    tracking.point_alias(found.name, found.challenger.version)
    moved = table.move(found, phase="watch")
    if moved is not None:
        _keep_arms(moved)


def _roll_back(found: Experiment, decision: Decision, proof: Mapping[str, Any]) -> None:
    check_folder(found.champion)
    why = f"experiment {found.id}: {decision.reason}"
    if move_champion(found.champion, expected=found.challenger, action="rollback", who=WHO, why=why, evidence=proof):
        table.end(found, "rolled_back", who=WHO, reason=decision.reason, evidence=proof)


def _arm(found: Experiment) -> tuple[str, Champion]:
    """What has to stand beside the champion in this phase."""
    if found.phase == "watch":
        return SHADOW, found.champion
    return (CHALLENGER if found.phase == "ab" else SHADOW), found.challenger


def _keep_arms(found: Experiment) -> None:
    """Put beside the champion what belongs there; one that another person's arm keeps out waits and is told."""
    arm, entry = _arm(found)
    share = found.config.ab_share[found.step] if found.phase == "ab" else found.config.shadow_share
    known = ledger.read_arms(found.name)
    other = SHADOW if arm == CHALLENGER else CHALLENGER
    if other in known and known[other].version == entry:
        _withdraw(found.name, other, f"experiment {found.id} goes on in another arm")
    if arm in known and (known[arm].version, known[arm].share) == (entry, share):
        return
    try:
        put_beside(found.name, entry.version, arm=arm, share=share, who=WHO, why=f"experiment {found.id}")
    except RetortError as error:
        log.error("%s: the %s cannot be put beside the champion: %s", found.name, arm, error)


def _end_arms(found: Experiment, why: str) -> None:
    """Take away what the experiment had put beside the champion, and nothing else."""
    for arm, known in ledger.read_arms(found.name).items():
        if known.version == _arm(found)[1]:
            _withdraw(found.name, arm, why)


def _withdraw(name: str, arm: str, why: str) -> None:
    ended = ledger.end_arms(name, arm, who=WHO, why=why)
    tracking.drop_aliases(name, {each: found.version.version for each, found in ended.items()})


def _ask_for_labels(found: Experiment, evidence: Evidence, pairs: list[Pair]) -> None:
    """The oldest disagreements first, since what comes after an unknown one counts for little; never more than the
    budget."""
    budget = found.config.watch_labels if found.phase == "watch" else found.config.max_labels
    asked = [(pair.request_id, pair.item) for pair in pairs if pair.waits and pair.readable]
    add_targets(found.name, asked[: max(0, budget - evidence.num_labels)], "disagreement")


def _begin_next(name: str) -> Experiment | None:
    """Start the newest that waits, if nothing runs; the older ones are superseded."""
    champion = ledger.read_champion(name)
    if champion is None or table.running(name) is not None:
        return None
    for at, found in enumerate(table.waiting(name)):
        if at > 0 or found.challenger == champion or misfit(found.challenger, champion) is not None:
            table.end(found, "superseded", who=WHO, reason="another version is tried or serves", evidence={})
            continue
        begun = table.begin(found, champion)
        if begun is not None:
            _keep_arms(begun)
    return table.running(name)


def describe(found: Experiment, decision: Decision, evidence: Evidence | None) -> dict[str, Any]:
    """What is shown of an experiment: in the terminal, as JSON and on the page."""
    return {
        "name": found.name,
        "experiment": found.id,
        "state": found.outcome or found.phase,
        "phase": found.phase,
        "step": found.step,
        "action": decision.action,
        "reason": decision.reason,
        "champion": found.champion.version,
        "challenger": found.challenger.version,
        "who": found.who,
        "why": found.why,
        "started_at": found.started_at,
        "phase_at": found.phase_at,
        "config": found.config.model_dump(mode="json"),
        "evidence": None if evidence is None else asdict(evidence),
    }


def read_now(name: str) -> dict[str, Any]:
    """The newest experiment as it stands, without acting on it. Raises: UserError when there was none."""
    found = table.running(name) or next(iter(table.history(name)), None)
    if found is None:
        raise UserError(
            f"{name} has no experiment: set release.experiment in its config and build it, or start one with "
            f"`retort experiment {name} --start VERSION --config CONFIG`"
        )
    if found.phase in table.RUNNING:
        evidence = read_evidence(found)
        return describe(found, decide(found, evidence, time.time()), evidence)
    last = next(iter(table.read_looks(found.id, limit=1)), None)
    shown = describe(found, Decision(action="wait", reason=found.reason or "waits for another to end"), None)
    return shown | {"evidence": last["evidence"] if last else None}


def write_report(result: Mapping[str, Any], looks: list[dict[str, Any]]) -> Path:
    """The page of an experiment, written anew by each look."""
    folder = settings.home() / "reports" / f"{result['name']}-experiment-{result['experiment']}"
    return write_experiment_report(result, looks, folder)
