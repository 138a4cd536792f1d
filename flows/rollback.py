"""Rollback: a boot check of the previous champion's Bento, a ledger entry and a pointer flip; nothing is rebuilt."""

from pathlib import Path

from prefect import flow

from bento.errors import IntegrityError, ReleaseError
from bento.manifest import Manifest, folder_sha256
from flows.stages import prepare_logging
from tasks.release import ledger, tracking
from tasks.release.boot import BootCheck, check_boot
from tasks.release.ledger import Champion
from tasks.release.package import Package

PROBES = ("a first sentence", "and another, longer one, to see that the model answers as before")


@flow(name="rollback", flow_run_name="rollback {name}", persist_result=False)
def rollback(name: str, why: str = "by hand", who: str = "retort") -> dict[str, str]:
    """Put the champion before the present one back into service. Raises: ReleaseError."""
    prepare_logging()
    now, before = ledger.read_champion(name), ledger.previous_champion(name)
    if now is None or before is None:
        raise ReleaseError(f"{name} has no earlier champion to go back to; `retort status {name}` shows its history")
    check = _boot(before)
    if not check.passed:
        raise ReleaseError(f"{name} {before.version} failed its boot check, so {now.version} stays: {check.checks}")
    swapped = ledger.swap_champion(before, expected=now, action="rollback", who=who, why=why, evidence=check.evidence())
    if not swapped:
        raise ReleaseError(
            f"the champion of {name} moved at the same moment; look at `retort status {name}` and repeat"
        )
    tracking.point_alias(name, before.version)
    return {"name": name, "champion": before.version, "previous": now.version, "bento": before.bento}


def _boot(before: Champion) -> BootCheck:
    folder = Path(before.model_path)
    if not folder.is_dir() or folder_sha256(folder) != before.model_sha256:
        raise IntegrityError(f"{before.bento} at {folder} is gone or altered; build it again with `retort run`")
    package = Package(bento=before.bento, path=folder.parent.parent, model_path=folder)
    probes = [PROBES] if Manifest.read(folder).pairs else PROBES
    return check_boot(package, sha256=before.model_sha256, golden=probes, latency_p95_ms=None, name=before.name)
