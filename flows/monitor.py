"""One look at the traffic: evidence, decision, record, and only then the event that starts a retrain."""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.events import emit_event
from prefect.events.worker import EventsWorker

from bento import settings
from bento.errors import UserError
from flows.config import Config, load_config
from flows.stages import prepare_logging, run_name, stage
from tasks.monitor import looks
from tasks.monitor.decide import Decision, decide, evidence_json
from tasks.monitor.drift import look
from tasks.monitor.traffic import (
    Watched,
    judge_harm,
    label_mix,
    make_encoder,
    make_reference,
    read_reference,
    take_window,
    watch,
    write_labelled,
)
from tasks.release.ledger import Champion, read_champion
from tasks.report.monitor import write_monitor_report

log = logging.getLogger("retort.monitor")

HARM_EVENT = "retort.harm"
NUM_PRIOR_LOOKS = 20


@flow(name="monitor", flow_run_name=run_name, persist_result=False)
def monitor(config: str, overrides: list[str] | None = None) -> dict[str, Any]:
    """Look once. Returns state, action, reason and evidence. Raises: UserError without a champion."""
    prepare_logging()
    chosen = load_config(Path(config), overrides)
    champion = read_champion(chosen.name)
    if champion is None:
        raise UserError(f"{chosen.name} has no champion to watch; `retort run {config}` makes one")
    decision = examine(chosen, champion)
    result = _record(chosen, champion, decision)
    send_pending(chosen.name)
    create_markdown_artifact(
        f"# {chosen.name}: {result['state']}\n\n{result['reason']}\n\nAction: {result['action']}",
        key=f"{chosen.name.replace('_', '-')}-look",
    )
    return result


def examine(config: Config, champion: Champion) -> Decision:
    """The evidence of one look and what follows from it; writes nothing but cached artifacts."""
    watched: Watched = watch(config.name, champion.model_path, champion.model_sha256)
    encoder = stage("encoder", make_encoder)(config.monitor).artifact
    made = stage("reference", make_reference)(watched, encoder, config.monitor)
    reference, baseline = read_reference(made.artifact)
    window = take_window(watched, encoder, config.monitor)
    last = looks.last_retrain_at(config.name)
    return decide(
        look(reference, window, config=config.monitor, rng=np.random.default_rng()),
        judge_harm(watched, baseline, config.monitor),
        config=config.monitor,
        champion_sha256=champion.model_sha256,
        last_retrain_at=datetime.fromtimestamp(last, UTC) if last is not None else None,
        now=datetime.now(UTC),
    )


def _record(config: Config, champion: Champion, decision: Decision) -> dict[str, Any]:
    """Store the verdict, with the event's payload where there is one, and write the report."""
    evidence = evidence_json(decision)
    payload = None
    if decision.action == "retrain":
        payload = {"name": config.name, "reason": decision.reason, "extra": str(write_labelled(config.name))}
    look_id = looks.store_look(
        {
            "name": config.name,
            "state": decision.report.state,
            "action": decision.action,
            "reason": decision.reason,
            "key": decision.key,
            "evidence": evidence,
            "payload": payload,
        }
    )
    repeated = look_id is None
    result = {
        "name": config.name,
        "champion": champion.version,
        "state": decision.report.state,
        "action": "none" if repeated and payload else decision.action,
        "reason": decision.reason + ("; this very window was judged before" if repeated else ""),
        "repeated": repeated,
        "evidence": evidence,
        "highlights": highlights(evidence),
    }
    return result | {"report": str(_report(config, result, look_id))}


def highlights(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """The figures that a person looks at first."""
    drift, harm = evidence["drift"], evidence["harm"]
    found = {"window rows": drift["num_rows"], "alpha of this look": drift["alpha"]}
    found |= {f"p of {name}": test["p_holm"] for name, test in drift["tests"].items()}
    accuracy = harm["accuracy"]
    found |= {"audited labels": harm["num_labels"], "accuracy at the gate": harm["baseline_accuracy"]}
    if accuracy:
        found |= {
            "audited accuracy": accuracy["value"],
            "its 95 % interval": f"{accuracy['low']:.3f}-{accuracy['high']:.3f}",
        }
    return found | {"p of harm": harm["p_value"]}


def _report(config: Config, result: Mapping[str, Any], look_id: int | None) -> Path:
    drift, harm = result["evidence"]["drift"], result["evidence"]["harm"]
    accuracy = harm["accuracy"]
    prior = looks.read_looks(config.name, limit=NUM_PRIOR_LOOKS + 1)
    page = {
        "name": config.name,
        "state": result["state"],
        "action": result["action"],
        "reason": result["reason"],
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "num_rows": drift["num_rows"],
        "num_reference": drift["num_reference"],
        "tests": [
            {"name": name, "p_value": test["p_holm"], "alpha": drift["alpha"], "statistic": test["statistic"]}
            for name, test in drift["tests"].items()
        ],
        "false_alarm_budget": config.monitor.false_alarm_budget,
        "looks": config.monitor.looks,
        "label_mix": label_mix(drift["prior_reference"], drift["prior_window"]),
        "baseline_accuracy": harm["baseline_accuracy"],
        "audited_accuracy": {**accuracy, "n": harm["num_labels"]} if accuracy else None,
        "prior_looks": [
            {key: row[key] for key in ("at", "state", "action", "reason")} for row in prior if row["id"] != look_id
        ],
    }
    folder = settings.home() / "reports" / f"{config.name}-look-{look_id or 'repeated'}"
    folder.mkdir(parents=True, exist_ok=True)
    return write_monitor_report(page, folder)


def resource_id(name: str) -> str:
    """Prefect's resource id of a model, which triggers match."""
    return f"retort.model.{name}"


def send_pending(name: str) -> None:
    """Emit the event of every stored look whose event is not out yet, one that a kill held back among them."""
    for row in looks.unsent(name):
        emit_event(
            event=HARM_EVENT,
            resource={"prefect.resource.id": resource_id(name), "prefect.resource.name": name},
            payload=row["payload"] | {"look": row["id"]},
        )
        EventsWorker.instance().wait_until_empty()
        looks.mark_sent(row["id"])
        log.warning("%s: harm; asked for a retrain with %s", name, row["payload"]["extra"])
