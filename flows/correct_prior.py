"""The answer to a mix-only drift: the champion with its prior corrected, gated, registered, promoted like a build."""

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from prefect import flow
from prefect.artifacts import create_table_artifact

from bento.errors import UserError
from bento.manifest import Manifest
from flows.build import NUM_GOLDEN
from flows.chain import Stage
from flows.config import Config, load_config
from flows.failures import in_words
from flows.notify import notify, tell_of_failure
from flows.release import Candidate, prepare_release, promote, refuse_rolled_back
from flows.stages import prepare_logging, run_name, stage
from flows.summary import verdict_rows
from tasks.data import read_split
from tasks.holdout import note_use
from tasks.monitor import looks, mix
from tasks.monitor.traffic import Watched, answered_window, watch
from tasks.release import tracking
from tasks.release.ledger import Champion, require_champion
from tasks.report.page import markdown_cell
from tasks.types import Artifact, GateReport

log = logging.getLogger("retort.correct_prior")

OUTCOMES = {"pass": "promoted", "fail": "blocked", "inconclusive": "inconclusive"}


@dataclass(frozen=True, kw_only=True)
class _Case:
    """One correction: what is asked for, of which model, in front of which traffic."""

    config: Config
    watched: Watched
    base: Artifact
    model: Artifact
    """The candidate."""
    traffic: mix.Traffic


@flow(
    name="correct-prior", flow_run_name=run_name, persist_result=False,
    on_failure=[tell_of_failure], on_crashed=[tell_of_failure],
)  # fmt: skip
def correct_prior(
    config: str,
    overrides: list[str] | None = None,
    prior: dict[str, float] | None = None,
    why: str = "a correction started by hand",
) -> dict[str, Any]:
    """Correct the champion for the mix `prior` (class -> share), or that of the newest look, and promote what gains.

    A correction never stacks on another: it starts from the model without one, and is that model where the mix is back.
    Run twice, the second changes nothing. Raises: UserError without a champion, a mix or a window to judge it by.
    """
    prepare_logging()
    chosen = load_config(Path(config), overrides)
    with in_words(f"correct-prior {chosen.name}"):
        result = correct(chosen, prior, why, stage=stage)
    if result["outcome"] == "promoted" and not result.get("unchanged"):
        notify(chosen.notify, chosen.name, "promotion", f"version {result['version']}: {why}")
    create_table_artifact(
        table=result["prior"], key=f"{chosen.name.replace('_', '-')}-prior",
        description=f"Class mix of {chosen.name}: {result['outcome']}",
    )  # fmt: skip
    return result


def correct(config: Config, prior: dict[str, float] | None, why: str, *, stage: Stage) -> dict[str, Any]:
    """What the flow does, without its pages. Raises: UserError."""
    champion = require_champion(config.name, " to correct")
    case = _prepare(config, champion, prior, stage)
    result = _result(case, champion)
    if case.model.sha256 == champion.model_sha256:
        tracking.repair_alias(champion.name, champion.version)
        return result | {"outcome": "promoted", "unchanged": True, "champion": champion.version}
    report = _judge(case, champion)
    return result | _record_and_release(case, champion, report, result, why)


def _prepare(config: Config, champion: Champion, prior: dict[str, float] | None, stage: Stage) -> _Case:
    """The candidate, and what the traffic says. Raises: UserError."""
    watched = watch(config.name, champion.model_path, champion.model_sha256)
    base = mix.uncorrected(champion.model_path, champion.model_sha256)
    window = answered_window(watched, config.monitor)
    num_rows = len(window.probabilities_NC)
    if num_rows < config.monitor.min_window:
        raise UserError(
            f"correct-prior: expected at least {config.monitor.min_window:,} distinct texts that {config.name}'s "
            f"champion answered, got {num_rows:,}; wait for traffic, or lower monitor.min_window"
        )
    traffic = mix.observe(
        base, watched.data, probabilities_NC=window.probabilities_NC, audited_N=window.audited_N,
        blocks_N=window.blocks_N,
    )  # fmt: skip
    shares_C = mix.named_shares(_newest_prior(config.name) if prior is None else prior, watched.labels)
    model = base
    if mix.moved(shares_C, traffic):
        model = stage("correct_prior", mix.correct)(
            base, watched.data, before_C=traffic.before_C, shares_C=shares_C, num_rows=num_rows,
            abstain=config.serve.abstain,
        ).artifact  # fmt: skip
    return _Case(config=config, watched=watched, base=base, model=model, traffic=traffic)


def _newest_prior(name: str) -> dict[str, float]:
    """What the newest look found. Raises: UserError where none did."""
    for row in looks.read_looks(name):
        found: dict[str, float] = row["evidence"]["drift"]["prior_window"]
        if found:
            return found
    raise UserError(f"correct-prior: no look at {name} has found a class mix yet; `retort monitor CONFIG` looks")


def _judge(case: _Case, champion: Champion | None) -> GateReport:
    """The gate against the champion, which may have moved since."""
    data = case.watched.data
    before = case.base
    if champion is not None:
        before = Artifact(kind="onnx", path=champion.model_path, sha256=champion.model_sha256, parents=(), made_by="")
    note_use(read_split(data.path, "test"), model_sha256=case.model.sha256, name=case.config.name)
    shifts = (_shift_C(case.model.path), _shift_C(before.path))
    return mix.judge(
        mix.answers(case.model, data), mix.answers(before, data), shifts, case.traffic,
        margin=case.config.gate.accuracy.margin,
    )  # fmt: skip


def _shift_C(folder: Path) -> Any:
    manifest = Manifest.read(folder)
    return manifest.prior.log_shift_C if manifest.prior else np.zeros(len(manifest.labels))


def _result(case: _Case, champion: Champion) -> dict[str, Any]:
    """JSON-able: what is known before the gate."""
    return {
        "name": case.config.name,
        "outcome": "inconclusive",
        "unchanged": False,
        "previous": champion.version,
        "champion": champion.version,
        "version": None,
        "model_path": str(case.model.path),
        "model_sha256": case.model.sha256,
        "uncorrected_sha256": case.base.sha256,
        "restored": case.model.sha256 == case.base.sha256,
        "num_rows": len(case.traffic.probabilities_NC),
        "num_audited": int((case.traffic.audited_N >= 0).sum()),
        "prior": _prior_rows(case, champion),
        "verdicts": [],
    }


def _prior_rows(case: _Case, champion: Champion) -> list[dict[str, Any]]:
    """A row a class: the mix without correction, the one that is served now, the candidate's, and the window's."""
    found, before_C = case.traffic.mix, case.traffic.before_C
    low_C, high_C = found.interval()
    columns = {
        "uncorrected": before_C,
        "old": _served_C(champion.model_path, before_C),
        "new": _served_C(case.model.path, before_C),
        "window": found.shares_C,
        "window_low": low_C,
        "window_high": high_C,
        "window_check": found.check_C if found.check_C is not None else np.full(len(before_C), np.nan),
    }
    return [
        {"label": label} | {key: None if np.isnan(values[at]) else round(float(values[at]), 6)
                            for key, values in columns.items()}
        for at, label in enumerate(case.watched.labels)
    ]  # fmt: skip


def _served_C(folder: Path, before_C: Any) -> Any:
    prior = Manifest.read(folder).prior
    return np.array(prior.after) if prior else before_C


def _record_and_release(
    case: _Case, champion: Champion, report: GateReport, result: Mapping[str, Any], why: str
) -> dict[str, Any]:
    """Log to MLflow and, if the gate passed, register, package, boot-check and promote. Returns what changes."""
    run_id = _log(case, report, result, why)
    changes: dict[str, Any] = {"mlflow_run_id": run_id, "verdicts": verdict_rows(report.verdicts)}
    changes["outcome"] = OUTCOMES[report.outcome]
    if report.outcome == "pass":
        changes |= _release(case, champion, report, run_id, why)
    tracking.tag_outcome(run_id, changes["outcome"])
    return changes


def _log(case: _Case, report: GateReport, result: Mapping[str, Any], why: str) -> str:
    """The MLflow run of this correction with the old and the new mix; one run however often it is begun again."""
    tags = {
        "retort.correction_sha256": case.model.sha256,
        "retort.previous": str(result["previous"]),
        "retort.gate_key": _gate_key(case),
    }
    known = tracking.find_run(case.config.name, tags=tags)
    if known is not None:
        return known
    tags |= {"retort.why": why}
    with tracking.build_run(case.config.name, tags=tags, started_at=time.time(), what="correct-prior") as run_id:
        tracking.log_gate(report)
        tracking.log_correction(result["prior"], _description(case, result))
    return run_id


def _gate_key(case: _Case) -> str:
    """Digest of what the gate judged by: model, data, margin and the window's mix."""
    shares = case.traffic.mix.shares_C.round(6).tolist()
    key = [case.model.sha256, case.watched.data.sha256, case.config.gate.accuracy.model_dump(), shares]
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()


def _release(case: _Case, champion: Champion, report: GateReport, run_id: str, why: str) -> dict[str, Any]:
    entry, check = prepare_release(_candidate(case, champion, report, run_id))
    changes: dict[str, Any] = {"version": entry.version, "bento": entry.bento}
    if check is not None and not check.passed:
        return changes | {"outcome": "blocked", "boot": check.evidence()}
    if (undone := refuse_rolled_back(entry)) is not None:
        return changes | {"outcome": "blocked", "rolled_back": undone}
    if _needs_person(case.config, report):
        log.info("approval is needed: `retort promote %s %s` gives it", entry.name, entry.version)
        return changes | {"outcome": "awaiting_approval"}
    final = promote(
        entry, expected=champion, judge=partial(_judge, case), report=report, who="retort", why=why
    )  # fmt: skip
    changes |= {"outcome": OUTCOMES[final.outcome], "verdicts": verdict_rows(final.verdicts)}
    return changes | ({"champion": entry.version} if final.outcome == "pass" else {})


def _needs_person(config: Config, report: GateReport) -> bool:
    """As for a build: always, or where accuracy was seen to fall by more than allowed."""
    if config.release.approval != "require_if":
        return config.release.approval == "require"
    drops = [-verdict.observed for verdict in report.verdicts if verdict.gate in ("accuracy_at_mix", "audited_labels")]
    return any(drop > config.release.accuracy_drop for drop in drops)


def _candidate(case: _Case, champion: Champion, report: GateReport, run_id: str) -> Candidate:
    description = _description(case, {"prior": _prior_rows(case, champion)})
    return Candidate(
        name=case.config.name,
        model=case.model,
        tags={
            "retort.data_sha256": case.watched.data.sha256,
            "retort.gate": report.outcome,
            "retort.gate_key": _gate_key(case),
            "retort.uncorrected_sha256": case.base.sha256,
        },
        description=description,
        golden=read_split(case.watched.data.path, "test").texts[:NUM_GOLDEN],
        latency_p95_ms=case.config.gate.latency_p95_ms,
        run_id=run_id,
        card=_card(champion, description),
    )


def _description(case: _Case, result: Mapping[str, Any]) -> str:
    """Markdown: what was corrected."""
    rows = sorted(result["prior"], key=lambda row: -abs(row["new"] - row["old"]))[:10]
    table = "\n".join(f"| {markdown_cell(row['label'])} | {row['old']:.1%} | {row['new']:.1%} |" for row in rows)
    what = "The prior correction is taken back" if case.model.sha256 == case.base.sha256 else "The prior is corrected"
    return (
        f"{what} for a mix of classes that {len(case.traffic.probabilities_NC):,} texts of the traffic show; the "
        f"weights are those of {case.base.sha256[:16]}.\n\n| class | share before | share now |\n|---|---|---|\n{table}"
    )


def _card(champion: Champion, description: str) -> str:
    """The champion's card with what changed."""
    card = champion.model_path.parent.parent / "README.md"
    own = card.read_text(encoding="utf-8") if card.is_file() else f"# {champion.name}\n"
    return f"{own.split('## Prior correction')[0].rstrip()}\n\n## Prior correction\n\n{description}\n"
