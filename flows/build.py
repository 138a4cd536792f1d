"""The build: data -> teacher -> compression -> evaluation -> gate -> release, each stage cached by content."""

import hashlib
import json
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from prefect import flow, runtime
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput

from flows import experiment as experiments
from flows import summary as summaries
from flows.chain import Built, gate, make_candidate
from flows.config import Config, load_config
from flows.exclusive import once
from flows.failures import in_words
from flows.notify import notify, tell_of_failure
from flows.release import Candidate, prepare_release, promote, refuse_rolled_back
from flows.stages import prepare_logging, run_name, side_by_side, stage
from tasks.analysis import read_analysis
from tasks.behaviour import read_behaviour
from tasks.data import read_split
from tasks.metrics import TITLES
from tasks.release import ledger, tracking
from tasks.release.ledger import Champion
from tasks.report.card import CARD_FILE
from tasks.report.theme import compared
from tasks.types import Artifact, GateReport

log = logging.getLogger("retort")

NUM_GOLDEN = 20


class Approval(RunInput):
    """The form that a person fills in on the suspended run."""

    approve: bool = False
    approver: str = ""
    comment: str = ""


@flow(
    name="build", flow_run_name=run_name, persist_result=False,
    on_failure=[tell_of_failure], on_crashed=[tell_of_failure],
)  # fmt: skip
def build(
    config: str,
    overrides: list[str] | None = None,
    extra: str | None = None,
    why: str = "a build started by hand",
) -> dict[str, Any]:
    """Build, gate and release the model of one config; `extra` is a file of newly labelled rows.

    Returns the summary that `retort run --json` prints. Raises: UserError for bad input, RetortError otherwise.
    """
    prepare_logging()
    chosen = load_config(Path(config), overrides)
    command = command_of("retort run", config, overrides, extra)
    body = partial(make, chosen, why=why, command=command, extra=Path(extra) if extra else None)
    with in_words(f"build {chosen.name}"):
        return once(chosen.name, None, body, timeout_hours=chosen.release.timeout_hours)


def make(
    chosen: Config, *, why: str, command: str, extra: Path | None = None, more: Artifact | None = None
) -> dict[str, Any]:
    """The body of a build and of a retrain, which has `more` from its traffic; runs within either's flow run."""
    champion = ledger.read_champion(chosen.name)
    built = make_candidate(chosen, extra, stage=stage, submit=side_by_side, more=more)
    report = gate(chosen, built, champion)
    result = summaries.summarise(chosen, built, report, champion, command=command)
    if champion is not None and champion.model_sha256 == built.model.sha256 and report.outcome == "pass":
        tracking.repair_alias(champion.name, champion.version)
        result |= {"outcome": "promoted", "unchanged": True, **_identity(champion)}
    else:
        result |= _record_and_release(chosen, built, report, champion, result, why)
    result["report"] = str(summaries.write_report(result, built))
    _show(result)
    if result["outcome"] == "promoted" and not result.get("unchanged"):
        text = f"version {result['version']} is champion: {why}\nreport: {result['report']}"
        notify(chosen.notify, chosen.name, "promotion", text)
    return result


def _record_and_release(
    config: Config, built: Built, report: GateReport, champion: Champion | None, result: dict[str, Any], why: str
) -> dict[str, Any]:
    """Log the build to MLflow and, if its gate passed, release it. Returns what changes in the summary.

    A run that was suspended for its approval begins again from the top and finds what it logged before.
    """
    tags = {"retort.flow_run_id": str(runtime.flow_run.id)}
    run_id = tracking.find_run(config.name, tags=tags)
    if run_id is None:
        tags |= {"retort.why": why, "retort.candidate_sha256": built.model.sha256}
        run_id = _log(config, built, report, result, tags)
    changes: dict[str, Any] = {"mlflow_run_id": run_id}
    if report.outcome == "pass":
        changes |= _release(config, built, report, champion, result | changes, why)
    else:
        changes["outcome"] = "blocked" if report.outcome == "fail" else "inconclusive"
    _publish(built, result | changes)
    return changes


def _publish(built: Built, result: Mapping[str, Any]) -> None:
    """Report, model card and description as they now are, on the pages of the run and of the registered version."""
    page, description = summaries.write_report(result, built), summaries.markdown(result, result["outcome"])
    run_id = result["mlflow_run_id"]
    files = (page, page.with_name(CARD_FILE), *summaries.tables(built))
    tracking.log_outcome(run_id, result["outcome"], description, files)
    if result["version"]:
        tags = {"retort.outcome": result["outcome"], "retort.flow_run_id": str(runtime.flow_run.id)}
        tracking.describe_version(
            result["name"], result["version"], run_id=run_id, description=description, tags=tags
        )  # fmt: skip


def _log(config: Config, built: Built, report: GateReport, result: Mapping[str, Any], tags: Mapping[str, str]) -> str:
    """The build's MLflow run with everything up to the gate; its id."""
    with tracking.build_run(config.name, tags=tags, started_at=built.steps[0].started_at) as run_id:
        tracking.log_config(config.model_dump(mode="json"))
        tracking.log_data(built.data.path, built.data.sha256)
        for step in built.steps:
            tracking.log_stage(step)
        tracking.log_scores(built.scores)
        tracking.log_gate(report)
        analysis, behaviour = read_analysis(built.analysis.path), read_behaviour(built.behaviour.path)
        tracking.log_evidence(analysis.get("calibration", {}), analysis.get("abstention"), behaviour)
        details = dict(result) | summaries.read_details(built)
        tracking.log_figures(summaries.figures(details))
        tracking.log_tables(summaries.evaluation_tables(built, details))
        if built.found is not None:
            tracking.log_search(built.found)
    return run_id


def _release(
    config: Config, built: Built, report: GateReport, champion: Champion | None, result: Mapping[str, Any], why: str
) -> dict[str, Any]:
    """Register, package, boot-check and, if allowed, promote."""
    card = summaries.write_card(dict(result) | {"outcome": "passed"}, built).read_text(encoding="utf-8")
    entry, check = prepare_release(_candidate(config, built, report, result["mlflow_run_id"], card))
    if check is not None and not check.passed:
        return {"outcome": "blocked", "version": entry.version, "bento": entry.bento, "boot": check.evidence()}
    if (undone := refuse_rolled_back(entry)) is not None:
        return {"outcome": "blocked", "version": entry.version, "bento": entry.bento, "rolled_back": undone}
    answer = _approval(config, built, report, dict(result) | {"version": entry.version, "bento": entry.bento})
    if answer is None:
        return {"outcome": "awaiting_approval", "version": entry.version, "bento": entry.bento}
    if not answer.approve:
        ledger.record(entry, action="refuse", who=answer.approver, why=answer.comment or "not approved", evidence={})
        return {"outcome": "blocked", "version": entry.version, "bento": entry.bento, "approval": "refused"}
    why = why if not answer.comment else f"{why}: {answer.comment}"
    tried = _try(config, entry, champion, who=answer.approver, why=why)
    if tried is not None:
        return tried
    final = promote(
        entry,
        expected=champion,
        judge=partial(gate, config, built),
        report=report,
        who=answer.approver,
        why=why,
    )
    outcome = {"pass": "promoted", "fail": "blocked", "inconclusive": "inconclusive"}[final.outcome]
    changes: dict[str, Any] = {"outcome": outcome, "version": entry.version, "bento": entry.bento}
    changes["verdicts"] = summaries.verdict_rows(final.verdicts)
    return changes | (_identity(entry) if outcome == "promoted" else {})


def _try(config: Config, entry: Champion, champion: Champion | None, *, who: str, why: str) -> dict[str, Any] | None:
    """Let the candidate prove itself on real traffic, if the config says so; None where it is promoted at once."""
    settings = config.release.experiment
    if settings is None or champion is None:
        return None
    reason = experiments.misfit(entry, champion)
    if reason is not None:
        log.warning("%s version %s is promoted without an experiment: %s", entry.name, entry.version, reason)
        return None
    found = experiments.start(settings, entry, champion, who=who, why=why)
    outcomes = {"vetoed": "blocked", "rolled_back": "blocked", "inconclusive": "inconclusive"}
    shown = {"id": found.id, "phase": found.phase, "reason": found.reason}
    outcome = outcomes.get(found.outcome or "", "experiment")
    return {"outcome": outcome, "version": entry.version, "bento": entry.bento, "experiment": shown}


def _candidate(config: Config, built: Built, report: GateReport, run_id: str, card: str) -> Candidate:
    test = read_split(built.data.path, "test")
    key = json.dumps([built.model.sha256, built.data.sha256, config.gate.model_dump()], sort_keys=True)
    scores, teacher = built.scores["candidate"], built.scores["teacher"]
    metric = next(iter(scores.metrics))
    description = (
        f"{TITLES[metric]} {scores.metrics[metric].value:.4f} (teacher {teacher.metrics[metric].value:.4f}) "
        f"on {scores.num_rows} test rows; "
        f"{scores.size_bytes / 1e6:.1f} MB; {scores.latency_ms_p50:.2f} ms a sentence, against the teacher in PyTorch "
        f"{compared(teacher.latency_ms_p50 / scores.latency_ms_p50, 'faster', 'slower')}. "
        f"Gate: {report.outcome}."
    )
    return Candidate(
        name=config.name,
        model=built.model,
        tags={
            "retort.data_sha256": built.data.sha256,
            "retort.gate": report.outcome,
            "retort.gate_key": hashlib.sha256(key.encode()).hexdigest(),
        },
        description=description,
        golden=test.texts[:NUM_GOLDEN],
        latency_p95_ms=config.gate.latency_p95_ms,
        run_id=run_id,
        card=card,
    )


def _approval(config: Config, built: Built, report: GateReport, result: Mapping[str, Any]) -> Approval | None:
    """Who promotes: Retort itself, or a person by the form of the suspended run, who finds the report where everybody
    does. None outside a deployment."""
    if not _needs_person(config, report):
        return Approval(approve=True, approver="retort", comment="")
    if runtime.deployment.id is None:
        log.info("approval is needed: `retort promote %s VERSION` gives it", config.name)
        return None
    _publish(built, dict(result) | {"outcome": "awaiting_approval"})
    form = Approval.with_initial_data(description=summaries.markdown(result, "promote it?"), approve=False)
    answer: Approval = suspend_flow_run(
        wait_for_input=form, timeout=int(config.release.timeout_hours * 3600), key="approval"
    )
    return answer


def _needs_person(config: Config, report: GateReport) -> bool:
    if config.release.approval != "require_if":
        return config.release.approval == "require"
    drops = [-verdict.observed for verdict in report.verdicts if verdict.gate == "accuracy_vs_champion"]
    return any(drop > config.release.accuracy_drop for drop in drops)


def _identity(champion: Champion) -> dict[str, Any]:
    return {"version": champion.version, "champion": champion.version, "bento": champion.bento}


def command_of(command: str, config: str, overrides: list[str] | None, extra: str | None = None) -> str:
    """The command line that does the same again."""
    parts = [command, config, *(f"--set {override}" for override in overrides or [])]
    return " ".join([*parts, f"--extra {extra}"] if extra else parts)


def _show(result: Mapping[str, Any]) -> None:
    """Tables and links on the run's page in Prefect's UI."""
    key = str(result["name"]).replace("_", "-")
    create_table_artifact(table=list(result["verdicts"]), key=f"{key}-gate", description=f"Gate of {result['name']}")
    create_table_artifact(
        table=[{"model": name} | scores for name, scores in result["scores"].items()], key=f"{key}-scores",
        description=f"Scores of {result['name']}",
    )  # fmt: skip
    create_markdown_artifact(
        summaries.markdown(result, result["outcome"]), key=f"{key}-result", description=f"Result of {result['name']}"
    )
    create_link_artifact(
        Path(result["report"]).as_uri(), key=f"{key}-report", link_text="Report",
        description=f"Report of {result['name']}",
    )  # fmt: skip
