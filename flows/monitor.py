"""One look at the traffic: evidence, decision, record, and only then the events that start what follows from it."""

import logging
import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Any
from uuid import uuid4

import numpy as np
from prefect import flow
from prefect.events import emit_event
from prefect.events.worker import EventsWorker

from bento.audit_records import raise_audit_rate
from bento.errors import UserError
from bento.records import newest_row
from flows.config import Config, load_config
from flows.exclusive import under_way
from flows.failures import in_words
from flows.look_report import read_story, tell, track
from flows.notify import announce, retry, tell_of_failure
from flows.release import check_folder
from flows.show_look import publish_look
from flows.stages import prepare_logging, run_name, stage
from tasks.lease import lease
from tasks.monitor import looks
from tasks.monitor.audit import target_odd
from tasks.monitor.calibration import make_calibration, read_calibration
from tasks.monitor.decide import Decision, Past, decide, evidence_json
from tasks.monitor.drift import look
from tasks.monitor.examined import Examined
from tasks.monitor.labels import judge_harm
from tasks.monitor.performance import PerformanceEvidence, read_performance
from tasks.monitor.traffic import (
    Watched,
    make_encoder,
    make_reference,
    read_reference,
    take_window,
    watch,
)
from tasks.monitor.window import Window
from tasks.notices import Kind
from tasks.release.ledger import Champion, read_champion

log = logging.getLogger("retort.monitor")

HARM_EVENT = "retort.harm"
MIX_EVENT = "retort.mix"
EVENTS = {"retrain": HARM_EVENT, "correct_prior": MIX_EVENT}
KINDS: dict[str, Kind] = {"retrain": "harm", "correct_prior": "mix", "audit": "suspect"}
"""What people are told of, by action; what is not asked for again is not told again."""
WAIT_SECONDS = 600.0
"""How long a look waits for another one at the same model."""
MOST_REQUESTS = 3
"""How often the same retrain is asked for before it is given up."""


@flow(
    name="monitor", flow_run_name=run_name, persist_result=False,
    on_failure=[tell_of_failure], on_crashed=[tell_of_failure],
)  # fmt: skip
def monitor(config: str, overrides: list[str] | None = None) -> dict[str, Any]:
    """Look once. Returns state, action, reason and evidence.

    Raises: UserError without a champion, IntegrityError for one that is gone or altered, OutsideError when the database
    is away or the disk is full.
    """
    prepare_logging()
    chosen = load_config(Path(config), overrides)
    who = f"a look by process {os.getpid()} of {socket.gethostname()}"
    with (
        in_words(f"monitor {chosen.name}"),
        lease(f"monitor {chosen.name}", uuid4().hex, who, wait_seconds=WAIT_SECONDS),
    ):
        champion = read_champion(chosen.name)
        if champion is None:
            raise UserError(f"{chosen.name} has no champion to watch; `retort run {config}` makes one")
        check_folder(champion)
        found = examine(chosen, champion)
        if found.decision.watch:
            until = time() + 60 * chosen.monitor.suspect_audit_minutes
            raise_audit_rate(chosen.name, chosen.monitor.suspect_audit_rate, until)
        if found.decision.action == "audit":
            target_odd(chosen.name, champion.model_sha256, drifted=found.drifted())
        result = _record(chosen, champion, found)
        send_pending(chosen, champion)
        retry(chosen.name)
        result |= track(chosen, result)
        publish_look(result, read_story(chosen))
    return result


def examine(config: Config, champion: Champion) -> Examined:
    """The evidence of one look and what follows from it; writes nothing but cached artifacts."""
    watched: Watched = watch(config.name, champion.model_path, champion.model_sha256)
    encoder = stage("encoder", make_encoder)(config.monitor).artifact
    made = stage("reference", make_reference)(watched, encoder, config.monitor)
    reference, baseline = read_reference(made.artifact)
    window = take_window(watched, encoder, config.monitor)
    now = datetime.now(UTC)
    last = looks.last_retrain_at(config.name, now.timestamp())
    calibration = stage("drift_calibration", make_calibration)(
        made.artifact, reference, config.monitor, num_window=len(window), fresh=_fresh(config.name, window)
    )
    decision = decide(
        look(
            reference,
            window,
            config=config.monitor,
            rng=np.random.default_rng(),
            calibration=read_calibration(calibration.artifact),
        ),
        judge_harm(
            watched, baseline, config.monitor, drift_found=looks.drift_found(config.name, champion.model_sha256)
        ),
        config=config.monitor,
        champion_sha256=champion.model_sha256,
        last_retrain_at=datetime.fromtimestamp(last, UTC) if last is not None else None,
        now=now,
        past=_past(config, champion, watched),
    )
    return Examined(watched=watched, decision=decision, reference=reference, window=window)


def _past(config: Config, champion: Champion, watched: Watched) -> Past:
    """What was asked for before; the mix that the champion is corrected for counts as answered."""
    found = looks.past(config.name, champion.model_sha256, retrain=_retrain(config, champion))
    if watched.prior is None:
        return found
    corrected = dict(zip(watched.labels, watched.prior.after, strict=True))
    return replace(found, priors=(*found.priors, corrected))


def _retrain(config: Config, champion: Champion) -> str:
    """The retrain that is under way, or was asked for and has not ended, in words."""
    asked = looks.unanswered(config.name, champion.model_sha256, before=time() + 1)
    return under_way(config.name) or (f"asked for by look {asked[-1]['id']}" if asked else "")


def _fresh(name: str, window: Window) -> float:
    """Share of the window that came since the last look; all of it at the first."""
    before = looks.read_looks(name, limit=1)
    if not before or window.timestamps_s_N is None or not len(window):
        return 1.0
    return float((window.timestamps_s_N > before[0]["at"]).mean())


def _record(config: Config, champion: Champion, found: Examined) -> dict[str, Any]:
    """Store the verdict, with the event's payload where there is one, and tell of it."""
    decision = found.decision
    evidence = evidence_json(decision) | {
        "performance": asdict(_performance(config)), "last_row": newest_row(), "champion": champion.version,
    }  # fmt: skip
    look_id = looks.store_look(
        {
            "name": config.name,
            "state": decision.report.state,
            "action": decision.action,
            "reason": decision.reason,
            "key": decision.key,
            "evidence": evidence,
            "payload": _payload(config, decision),
        }
    )
    repeated = look_id is None
    result = {
        "name": config.name,
        "champion": champion.version,
        "state": decision.report.state,
        "action": "none" if repeated else decision.action,
        "reason": decision.reason + ("; this very window was judged before" if repeated else ""),
        "repeated": repeated,
        "look": look_id,
        "evidence": evidence,
    }
    result |= tell(config, found, result)
    if result["action"] in KINDS:
        announce(config.notify, config.name, KINDS[result["action"]], f"{result['reason']}\nreport: {result['report']}")
    return result


def _payload(config: Config, decision: Decision) -> dict[str, Any] | None:
    """What the event of the action says; None for an action that starts nothing."""
    payload = {"name": config.name, "reason": decision.reason}
    if decision.action == "retrain":
        return payload
    if decision.action == "correct_prior":
        return payload | {"prior": dict(decision.report.evidence["drift"]["prior_window"])}
    return None


def _performance(config: Config) -> PerformanceEvidence:
    last = looks.read_looks(config.name, limit=1)
    last_at = last[0]["at"] if last else None
    return read_performance(config.name, config.monitor, config.serve.objectives, last_look_at=last_at)


def resource_id(name: str) -> str:
    """Prefect's resource id of a model, which triggers match."""
    return f"retort.model.{name}"


def send_pending(config: Config, champion: Champion) -> None:
    """Emit the event of every stored look whose event is not out yet, one that a kill held back among them.

    After the cooldown emit once more that of a retrain which neither runs nor has ended: it was lost with its worker or
    its server, or failed, or nothing was there to start it.
    """
    for row in looks.unsent(config.name):
        _emit(row)
    if under_way(config.name):
        return
    for row in looks.unanswered(
        config.name, champion.model_sha256, before=time() - 60 * config.monitor.cooldown_minutes
    ):
        lost = f"the retrain that look {row['id']} asked for {row['times']} times came to no end; "
        again = row["times"] < MOST_REQUESTS
        announce(config.notify, config.name, "failed run", lost + ("it was asked for again" if again else "given up"))
        if again:
            _emit(row)
        else:
            looks.finish(row["id"], "given_up")


def _emit(row: Mapping[str, Any]) -> None:
    """Send the event of one look, and note that it is out once the server has it."""
    emit_event(
        event=EVENTS[row["action"]],
        resource={"prefect.resource.id": resource_id(row["name"]), "prefect.resource.name": row["name"]},
        payload=row["payload"] | {"look": row["id"]},
    )
    EventsWorker.instance().wait_until_empty()
    looks.mark_sent(row["id"])
    log.warning("%s: %s; emitted %s for look %d", row["name"], row["state"], EVENTS[row["action"]], row["id"])
