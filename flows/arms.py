"""Challenge, shadow, withdraw: versions beside the champion, put there and taken away by hand, each with an entry."""

from bento.arms import CHALLENGER, MUST_FIT, SHADOW
from bento.errors import ReleaseError, UserError
from bento.manifest import Manifest
from flows.release import check_folder, find_entry, moved_meanwhile
from tasks.release import ledger, tracking
from tasks.release.ledger import Arm, Champion

MAX_SHARE = {CHALLENGER: 0.5, SHADOW: 1.0}
"""A challenger that answered the most would be the champion."""
ACTION = {CHALLENGER: "challenge", SHADOW: "shadow"}


def put_beside(name: str, version: str, *, arm: str, share: float, who: str, why: str) -> Arm:
    """Put a version that has both blessings beside the champion, or change its share.

    Those who had the challenger keep it as its share grows. Raises: UserError, ReleaseError, IntegrityError.
    """
    if not 0 < share <= MAX_SHARE[arm]:
        raise UserError(f"expected a share above 0 and up to {MAX_SHARE[arm]:g} for a {arm}, got {share:g}")
    champion = ledger.require_champion(name, f" for a {arm} to stand beside")
    entry = find_entry(name, version)
    _check_fits(entry, champion, arm)
    done = ledger.set_arm(entry, arm=arm, share=share, expected=champion, action=ACTION[arm], who=who, why=why)
    if done is None:
        raise moved_meanwhile(name)
    tracking.set_alias(name, arm, version)
    return done


def _check_fits(entry: Champion, champion: Champion, arm: str) -> None:
    """Raises: ReleaseError when the version cannot stand beside the champion, saying why."""
    title = f"{entry.name} version {entry.version}"
    if entry.version == champion.version:
        raise ReleaseError(f"{title} is the champion; expected another version as its {arm}")
    known = ledger.read_arms(entry.name).get(arm)
    if known is not None and known.version != entry:
        raise ReleaseError(
            f"version {known.version.version} is the {arm} of {entry.name} already; first "
            f"`retort withdraw {entry.name} --arm {arm}`"
        )
    check_folder(entry)
    ours, its = Manifest.read(champion.model_path), Manifest.read(entry.model_path)
    for part in MUST_FIT:
        expected, got = getattr(ours, part), getattr(its, part)
        if expected != got:
            raise ReleaseError(
                f"{title} answers otherwise than the champion, version {champion.version}, so their answers cannot be "
                f"mixed: expected {part} {expected}, got {got}. `retort promote` can put it in the champion's place"
            )


def withdraw(name: str, arm: str | None, *, who: str, why: str) -> dict[str, Arm]:
    """Take the challenger, the shadow, or both from beside the champion. Raises: UserError when there is none."""
    if arm not in (None, *ACTION):
        raise UserError(f"expected {' or '.join(ACTION)} as the arm, got {arm!r}")
    ended = ledger.end_arms(name, arm, who=who, why=why)
    if not ended:
        raise UserError(f"{name} has no {arm or 'challenger or shadow'} to withdraw; see `retort status`")
    tracking.drop_aliases(name, {each: found.version.version for each, found in ended.items()})
    return ended
