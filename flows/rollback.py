"""Rollback: a boot check of the previous champion's Bento, a ledger entry and a pointer flip; nothing is rebuilt."""

from prefect import flow

from bento.errors import ReleaseError
from bento.manifest import Manifest
from flows.failures import in_words
from flows.notify import notify as tell
from flows.notify import tell_of_failure
from flows.release import check_folder, move_champion, moved_meanwhile
from flows.stages import prepare_logging
from tasks.release import ledger
from tasks.release.boot import BootCheck, check_boot
from tasks.release.ledger import Champion
from tasks.release.package import Package

PROBES = ("a first sentence", "and another, longer one, to see that the model answers as before")


@flow(
    name="rollback", flow_run_name="rollback {name}", persist_result=False,
    on_failure=[tell_of_failure], on_crashed=[tell_of_failure],
)  # fmt: skip
def rollback(name: str, why: str = "by hand", who: str = "retort", notify: list[str] | None = None) -> dict[str, str]:
    """Put the champion before the present one back into service and tell the Prefect blocks `notify`.

    Raises: UserError without a champion, ReleaseError without an earlier one that passes its boot check.
    """
    prepare_logging()
    with in_words(f"rollback {name}"):
        done = _roll_back(name, why, who)
        tell(notify or (), name, "rollback", f"version {done['champion']} serves again, not {done['previous']}: {why}")
    return done


def _roll_back(name: str, why: str, who: str) -> dict[str, str]:
    now, before = ledger.require_champion(name, " to roll back"), ledger.previous_champion(name)
    if before is None:
        raise ReleaseError(f"{name} has no earlier champion to go back to; `retort status {name}` shows its history")
    check = _boot(before)
    if not check.passed:
        raise ReleaseError(f"{name} {before.version} failed its boot check, so {now.version} stays: {check.checks}")
    if not move_champion(before, expected=now, action="rollback", who=who, why=why, evidence=check.evidence()):
        raise moved_meanwhile(name)
    return {"name": name, "champion": before.version, "previous": now.version, "bento": before.bento}


def _boot(before: Champion) -> BootCheck:
    check_folder(before)
    folder = before.model_path
    package = Package(bento=before.bento, path=folder.parent.parent, model_path=folder)
    probes = [PROBES] if Manifest.read(folder).pairs else PROBES
    return check_boot(package, sha256=before.model_sha256, golden=probes, latency_p95_ms=None, name=before.name)
