"""The chain of stages up to the gate, without Prefect, so that `plan` walks the same one."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from flows.config import Config
from tasks.compress.context import Context
from tasks.compress.export import Export
from tasks.data import fingerprint, prepare
from tasks.evaluate import evaluate, evaluate_champion, read_predictions, read_scores
from tasks.gate import judge, judge_limits
from tasks.release.ledger import Champion
from tasks.store import Step, run_step
from tasks.train import teacher_logits, train_teacher
from tasks.types import Artifact, GateReport, Scores

Stage = Callable[[str, Callable[..., Step]], Callable[..., Step]]


@dataclass(frozen=True, kw_only=True)
class Built:
    """Everything that the stages before the gate made."""

    steps: tuple[Step, ...]
    data: Artifact
    model: Artifact
    evaluation: Artifact
    scores: dict[str, Scores]

    @property
    def techniques(self) -> dict[str, list[str]]:
        """Evaluated model -> the techniques that made it from the one before."""
        found: dict[str, list[str]] = {}
        since: list[str] = []
        for step in self.steps[4:-1]:
            since.append(step.name)
            if step.name in self.scores:
                found[step.name], since = since, []
        return found

    @property
    def chain(self) -> list[str]:
        """Names of the evaluated models, the teacher first."""
        return [name for name in self.scores if name not in ("floor", "candidate")]


def make_candidate(config: Config, extra: Path | None, *, stage: Stage) -> Built:
    """All stages up to the evaluation, each run as `stage(name, function)(...)`."""
    data = stage("data", prepare_data)(config, extra)
    teacher = stage("teacher", train_teacher)(config.teacher, data.artifact)
    logits = stage("teacher_logits", teacher_logits)(config.teacher, teacher.artifact, data.artifact)
    context = Context(
        name=config.name,
        data=data.artifact,
        teacher=teacher.artifact,
        teacher_logits=logits.artifact,
        max_tokens=config.serve.max_tokens or config.teacher.max_tokens,
        seed=config.teacher.seed,
    )
    exported = stage("export_teacher", Export().run)(teacher.artifact, context)
    steps = [data, teacher, logits, replace(exported, name="export_teacher")]
    models, artifact = {"teacher": exported.artifact}, teacher.artifact
    for technique in config.compress:
        step = stage(technique.kind, technique.run)(artifact, context)
        steps.append(step)
        artifact = step.artifact
        if artifact.kind == "onnx":
            models[technique.kind] = artifact
    evaluation = stage("evaluate", partial(evaluate, seed=config.teacher.seed))(
        data=data.artifact, teacher=teacher.artifact, models=models
    )
    scores = read_scores(evaluation.artifact.path)
    return Built(
        steps=(*steps, evaluation),
        data=data.artifact,
        model=artifact,
        evaluation=evaluation.artifact,
        scores=scores | {"candidate": scores[config.compress[-1].kind]},
    )


def prepare_data(config: Config, extra: Path | None) -> Step:
    """The validated splits, keyed by the content of their sources."""
    return run_step(
        "data",
        kind="data",
        inputs=fingerprint(config.data, extra),
        config=config.data.model_dump() | {"extra": extra is not None},
        code="tasks.data",
        make=lambda out, work: prepare(config.data, out, extra=extra),
    )


def gate(config: Config, built: Built, champion: Champion | None) -> GateReport:
    """Judge the candidate against its teacher, its limits and the serving champion."""
    candidate = read_predictions(built.evaluation.path, built.chain[-1])
    teacher = read_predictions(built.evaluation.path, "teacher")
    verdicts = judge(candidate, teacher, reference_name="teacher", config=config.gate)
    verdicts += judge_limits(built.scores["candidate"], config.gate)
    if champion is not None and champion.model_sha256 != built.model.sha256:
        step = evaluate_champion(data=built.data, folder=champion.model_path, sha256=champion.model_sha256)
        reference = read_predictions(step.artifact.path, "champion")
        verdicts += judge(candidate, reference, reference_name="champion", config=config.gate)
    return GateReport(verdicts=tuple(verdicts))
