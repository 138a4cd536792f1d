"""Release: register, package, boot check, promote. Both blessings, gate and boot, are needed for the last."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from bento.arms import CHALLENGER
from bento.errors import IntegrityError, ReleaseError, UserError
from bento.manifest import folder_sha256
from tasks.release import ledger, tracking
from tasks.release.boot import BootCheck, check_boot
from tasks.release.ledger import Champion
from tasks.release.package import Package, build_bento
from tasks.types import Artifact, GateReport

log = logging.getLogger("retort.release")

MAX_SWAPS = 3
"""How often a champion that moved during the build is gated against again before giving up."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A model that passed its gate."""

    name: str
    model: Artifact
    tags: Mapping[str, str]
    description: str
    golden: Sequence[Any]
    """Sentences that the started Bento must answer as evaluated."""
    latency_p95_ms: float | None
    run_id: str
    card: str
    """The model card, Markdown."""


@task(name="register", task_run_name="register", cache_policy=NO_CACHE)
def register(candidate: Candidate) -> tracking.Version:
    """The registered version of this model; found again after a kill.

    It has the alias `challenger`, unless a challenge is running, whose version keeps it.
    """
    tags = {"retort.model_sha256": candidate.model.sha256, "retort.gate_key": candidate.tags["retort.gate_key"]}
    found = tracking.find_version(candidate.name, tags=tags)
    if found is not None:
        return found
    version = tracking.register(
        candidate.name,
        candidate.model.path,
        sha256=candidate.model.sha256,
        run_id=candidate.run_id,
        tags=candidate.tags,
        description=candidate.description,
        examples=candidate.golden[:2],
    )
    running = ledger.read_arms(candidate.name).get(CHALLENGER)
    if running is not None:
        tracking.set_alias(candidate.name, CHALLENGER, running.version.version)
    return version


@task(name="package", task_run_name="package", cache_policy=NO_CACHE)
def package(candidate: Candidate) -> Package:
    """The Bento of this model."""
    return build_bento(
        candidate.name, candidate.model.path, sha256=candidate.model.sha256, card=candidate.card
    )  # fmt: skip


@task(name="boot_check", task_run_name="boot_check", cache_policy=NO_CACHE)
def boot_check(candidate: Candidate, built: Package, entry: Champion) -> BootCheck:
    """Start the Bento, check it, and write the blessing, or the rejection, into the ledger."""
    found = check_boot(
        built,
        sha256=candidate.model.sha256,
        golden=candidate.golden,
        latency_p95_ms=candidate.latency_p95_ms,
        name=candidate.name,
    )
    action = "bless" if found.passed else "reject"
    why = "boot check passed" if found.passed else f"boot check failed: {found.checks}"
    ledger.record(entry, action=action, who="retort", why=why, evidence=found.evidence())
    tracking.tag_version(entry.name, entry.version, {"retort.boot": "pass" if found.passed else "fail"})
    return found


def prepare_release(candidate: Candidate) -> tuple[Champion, BootCheck | None]:
    """Register, package and boot-check; the entry that could be promoted. The check is None when it passed earlier."""
    version = register(candidate)
    built = package(candidate)
    tracking.tag_version(candidate.name, version.version, {"retort.bento": built.bento})
    entry = Champion(
        name=candidate.name,
        version=version.version,
        model_sha256=candidate.model.sha256,
        model_path=built.model_path,
        bento=built.bento,
    )
    return entry, None if ledger.blessed(entry) else boot_check(candidate, built, entry)


def refuse_rolled_back(entry: Champion) -> str | None:
    """Why no flow may promote this model, since it was rolled back; None where it may. A person can, by hand."""
    undone = ledger.rolled_back(entry)
    if undone is None:
        return None
    why = f"version {undone['previous']}, this very model, was rolled back by {undone['who']}: {undone['why']}"
    ledger.record(entry, action="refuse", who="retort", why=why, evidence={})
    return why


def promote(
    entry: Champion,
    *,
    expected: Champion | None,
    judge: Callable[[Champion | None], GateReport],
    report: GateReport,
    who: str,
    why: str,
) -> GateReport:
    """Compare-and-swap the champion; when it moved since the build began, gate against the new one and try again.

    Returns the gate report that counts; the champion has moved exactly if its outcome is `pass`.
    Raises: ReleaseError without both blessings, or when the champion keeps moving.
    """
    if not ledger.blessed(entry):
        raise ReleaseError(f"{entry.name} {entry.version} has not passed its boot check, so it is not promoted")
    for _ in range(MAX_SWAPS):
        if report.outcome != "pass":
            evidence = {"verdicts": [verdict.__dict__ for verdict in report.verdicts]}
            ledger.record(entry, action="refuse", who=who, why="the gate said no at promotion", evidence=evidence)
            return report
        evidence = {"verdicts": [verdict.__dict__ for verdict in report.verdicts]}
        if move_champion(entry, expected=expected, action="promote", who=who, why=why, evidence=evidence):
            return report
        expected = ledger.read_champion(entry.name)
        log.warning("the champion moved to %s during the build; gating against it", expected and expected.version)
        report = judge(expected)
    raise ReleaseError(f"the champion of {entry.name} moved {MAX_SWAPS} times during promotion; run the build again")


def move_champion(
    entry: Champion, *, expected: Champion | None, action: str, who: str, why: str, evidence: Any
) -> bool:
    """Compare-and-swap the champion, then let the aliases follow; False, with nothing changed, when it had moved."""
    ended = {arm: found.version.version for arm, found in ledger.read_arms(entry.name).items()}
    if not ledger.swap_champion(entry, expected=expected, action=action, who=who, why=why, evidence=evidence):
        return False
    tracking.point_alias(entry.name, entry.version)
    tracking.drop_aliases(entry.name, ended)
    return True


def moved_meanwhile(name: str) -> ReleaseError:
    """The error of whoever came second."""
    return ReleaseError(f"what serves {name} was changed at the same moment; look at `retort status {name}` and repeat")


def promote_by_hand(name: str, version: str, *, who: str, why: str) -> Champion:
    """Move the champion to a registered version that has both blessings; where it is that already, nothing changes.

    Raises: UserError, ReleaseError.
    """
    entry = find_entry(name, version)
    expected = ledger.read_champion(name)
    if entry == expected:
        return entry
    if not move_champion(entry, expected=expected, action="promote", who=who, why=why, evidence={"by": "hand"}):
        raise moved_meanwhile(name)
    return entry


def find_entry(name: str, version: str) -> Champion:
    """The blessed ledger entry of a version.

    Raises: UserError for a version that there is not, ReleaseError for one without blessing, saying which have it.
    """
    entries = ledger.history(name)
    rows = [row for row in entries if row["action"] == "bless"]
    for row in rows:
        if row["version"] == version:
            return Champion(
                name=name,
                version=version,
                model_sha256=row["model_sha256"],
                model_path=Path(row["model_path"]),
                bento=row["bento"],
            )
    blessed = ", ".join(sorted({row["version"] for row in rows}, key=int)) or "none"
    exists = any(row["version"] == version for row in entries)
    raise (ReleaseError if exists else UserError)(
        f"{name} {version}: expected a version that passed its gate and its boot check; those are: {blessed}. "
        "`retort status` shows all"
    )


def check_folder(entry: Champion) -> None:
    """See that the version's model is where it was packaged, unaltered. Raises: IntegrityError."""
    folder = entry.model_path
    if not folder.is_dir() or folder_sha256(folder) != entry.model_sha256:
        raise IntegrityError(f"{entry.bento} at {folder} is gone or altered; build it again with `retort run`")
