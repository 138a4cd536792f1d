"""The chain of stages up to the gate, without Prefect, so that `plan` walks the same one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from bento.entities import entity_types
from bento.errors import UserError
from bento.predictor import Predictor
from flows.config import Config
from tasks.analysis import analyse, check_errors
from tasks.analysis.answers import analyse_answers
from tasks.behaviour import read_behaviour, try_behaviour
from tasks.calibrate import calibrate
from tasks.collapse import check_teacher
from tasks.compress import Technique, check_sizes, read_chain, step_names
from tasks.compress.context import Context
from tasks.compress.export import Export
from tasks.data import FRESH, fingerprint, has_fresh, prepare, read_labels, read_split
from tasks.evaluate import evaluate, evaluate_champion, evaluate_fresh, read_predictions, read_scores
from tasks.gate import (
    Evidence,
    judge_evidence,
    judge_fresh,
    judge_holdout,
    no_verdict,
    probe,
    slice_columns,
    with_frozen_margin,
)
from tasks.gate.slices import read_columns
from tasks.holdout import note_use
from tasks.release.ledger import Champion
from tasks.search import Found, Submit, one_after_another, read_search, search
from tasks.store import Step, run_step
from tasks.train import base_architecture, teacher_logits, train_teacher
from tasks.types import AnyPredictions, Artifact, GateReport, Scores, Verdict

EVIDENCE = ("calibrate", "evaluate", "behaviour", "analysis")
"""The stages after the chain, whatever it was."""

Stage = Callable[[str, Callable[..., Step]], Callable[..., Step]]


@dataclass(frozen=True, kw_only=True)
class Built:
    """Everything that the stages before the gate made."""

    steps: tuple[Step, ...]
    data: Artifact
    model: Artifact
    evaluation: Artifact
    behaviour: Artifact
    analysis: Artifact
    scores: dict[str, Scores]
    techniques: dict[str, list[str]]
    """Evaluated model -> the techniques that made it from the one before."""
    found: Found | None
    """What the search looked at, where there was one."""

    @property
    def chain(self) -> list[str]:
        """Names of the evaluated models, the teacher first."""
        return [name for name in self.scores if name not in ("floor", "candidate")]


def make_candidate(
    config: Config,
    extra: Path | None,
    *,
    stage: Stage,
    submit: Submit = one_after_another,
    more: Artifact | None = None,
) -> Built:
    """All stages up to the evaluation, each run as `stage(name, function)(...)`; a search's trials by `submit`.

    `more` is what a retrain assembled of the traffic. Raises: UserError for a chain that this teacher cannot go
    through, before any compute.
    """
    _check(config)
    data = stage("data", prepare_data)(config, extra, more)
    _check_classes(config, data.artifact)
    _slices(config, data.artifact)
    teachers = _teachers(config, data.artifact, stage)
    logits = stage("teacher_logits", teacher_logits)(
        config.teacher, [step.artifact for step in teachers], data.artifact
    )
    context = make_context(config, data.artifact, [step.artifact for step in teachers], logits.artifact)
    exported = stage("export_teacher", Export().run)(context.teacher, context)
    steps = [data, *teachers, logits, replace(exported, name="export_teacher")]
    chain, found = config.compress, None
    if not isinstance(chain, tuple):
        steps.append(stage("search", partial(search, submit=submit))(chain.search, context))
        found = read_search(steps[-1].artifact.path)
        chain = read_chain(found.chain)
    walk = _compress(chain, context, stage)
    calibrated = stage("calibrate", calibrate)(
        model=walk.steps[-1].artifact, data=data.artifact, abstain=config.serve.abstain
    )
    candidate = step_names(chain)[-1]
    models = {"teacher": exported.artifact} | walk.models | {candidate: calibrated.artifact}
    evaluation = stage("evaluate", partial(evaluate, seed=config.teacher.seed))(
        data=data.artifact, teacher=context.teacher, models=models
    )
    behaviour = stage("behaviour", partial(try_behaviour, config=config.behaviour, seed=config.teacher.seed))(
        data=data.artifact, teacher=exported.artifact, candidate=calibrated.artifact
    )
    given = {"data": data.artifact, "evaluation": evaluation.artifact, "candidate": calibrated.artifact}
    of_classes = config.data.task == "single_label"
    if of_classes:
        given["teacher_logits"] = logits.artifact
    analysed = partial(analyse if of_classes else analyse_answers, config=config.errors, seed=config.teacher.seed)
    analysis = stage("analysis", analysed)(candidate_name=candidate, **given)
    scores = read_scores(evaluation.artifact.path)
    return Built(
        steps=(*steps, *walk.steps, calibrated, evaluation, behaviour, analysis),
        data=data.artifact,
        model=calibrated.artifact,
        evaluation=evaluation.artifact,
        behaviour=behaviour.artifact,
        analysis=analysis.artifact,
        scores=scores | {"candidate": scores[candidate]},
        techniques=walk.techniques,
        found=found,
    )


def stage_names(config: Config) -> list[str]:
    """The stages of `make_candidate` in their order; what a search will choose is not known before it."""
    more = [f"teacher_{number}" for number in range(2, len(config.more_teachers) + 2)]
    names = ["data", "teacher", *more, "teacher_logits", "export_teacher"]
    if not isinstance(config.compress, tuple):
        return [*names, "search", "the chain that it chooses", *EVIDENCE]
    for at, name in enumerate(step_names(config.compress)):
        names += [name, f"export_{name}"] if _needs_export(config.compress, at) else [name]
    return [*names, *EVIDENCE]


def _check(config: Config) -> None:
    """Raises: UserError for what cannot be made of this teacher, or not for this task."""
    config.check_task()
    max_tokens = config.serve.max_tokens or config.teacher.max_tokens
    base = base_architecture(config.teacher)
    positions = max(base.max_positions, config.teacher.max_tokens)
    if max_tokens > positions:
        raise UserError(
            f"serve.max_tokens: expected at most the {positions} tokens that the teacher has positions for, got "
            f"{max_tokens}; lower it, or raise teacher.max_tokens, which gives the teacher as many"
        )
    _check_more_teachers(config, max(max_tokens, config.teacher.max_tokens))
    shape = replace(base, max_positions=max_tokens)
    if isinstance(config.compress, tuple):
        check_sizes(config.compress, shape)
    else:
        config.compress.search.check(shape)


def _check_more_teachers(config: Config, longest: int) -> None:
    """Raises: UserError for a further teacher that cannot be one, or not of texts of `longest` tokens."""
    for at, teacher in enumerate(config.more_teachers):
        key = f"more_teachers.{at}"
        if max(base_architecture(teacher, key).max_positions, teacher.max_tokens) < longest:
            raise UserError(
                f"{key}.max_tokens: expected at least {longest}, since all teachers answer the same texts, got "
                f"{teacher.max_tokens}; raise it, or lower teacher.max_tokens and serve.max_tokens"
            )


def _check_classes(config: Config, data: Artifact) -> None:
    """Raises: UserError for a class of the config, or a time column, that the data does not have."""
    labels = read_labels(data.path)
    config.behaviour.check_classes(entity_types(labels) if config.data.task == "entities" else labels)
    if config.serve.abstain is not None:
        config.serve.abstain.check_classes(labels)
    check_errors(config.errors, data.path)


@dataclass
class _Walk:
    """What the chain of techniques has made so far."""

    steps: list[Step]
    models: dict[str, Artifact]
    techniques: dict[str, list[str]]


def _teachers(config: Config, data: Artifact, stage: Stage) -> list[Step]:
    """The teacher and the others, one after another."""
    found = [stage("teacher", train_teacher)(config.teacher, data)]
    for number, more in enumerate(config.more_teachers, start=2):
        name = f"teacher_{number}"
        found.append(replace(stage(name, train_teacher)(more, data), name=name))
    return found


def make_context(config: Config, data: Artifact, teachers: list[Artifact], logits: Artifact) -> Context:
    """What every technique is given. Raises: RetortError for a teacher that has learnt nothing."""
    context = Context(
        name=config.name,
        data=data,
        teacher=teachers[0],
        more_teachers=tuple(teachers[1:]),
        teacher_logits=logits,
        max_tokens=config.serve.max_tokens or config.teacher.max_tokens,
        seed=config.teacher.seed,
    )
    truth = context.task.targets(read_split(data.path, "validation"), read_labels(data.path))
    check_teacher(np.load(logits.path / "validation.npy"), truth, context.task)
    return context


def _compress(chain: Sequence[Technique], context: Context, stage: Stage) -> _Walk:
    """Run the chain; a torch model that is not exported next is exported beside it, to be evaluated."""
    walk = _Walk(steps=[], models={}, techniques={})
    artifact, since = context.teacher, []
    for at, name in enumerate(step_names(chain)):
        step = replace(stage(name, chain[at].run)(artifact, context), name=name)
        artifact = step.artifact
        walk.steps.append(step)
        since.append(name)
        model = artifact
        if _needs_export(chain, at):
            beside = stage(f"export_{name}", Export().run)(artifact, context)
            walk.steps.append(replace(beside, name=f"export_{name}"))
            model = beside.artifact
        if model.kind == "onnx":
            walk.models[name] = model
            walk.techniques[name], since = since, []
    return walk


def _needs_export(chain: Sequence[Technique], at: int) -> bool:
    """Whether the technique makes a torch model that the next one does not export."""
    return chain[at].produces == "torch" and chain[at + 1].kind != "export"


def prepare_data(config: Config, extra: Path | None, more: Artifact | None = None) -> Step:
    """The validated splits, keyed by the content of their sources."""
    retrain = {"retrain": config.retrain.of_data} if more is not None else {}
    return run_step(
        "data",
        kind="data",
        inputs=[*fingerprint(config.data, extra), *([more] if more is not None else [])],
        config=config.data.model_dump() | {"extra": extra is not None} | retrain,
        code="tasks.data",
        make=lambda out, work: prepare(
            config.data, out, extra=extra, more=more.path if more is not None else None, retrain=config.retrain
        ),
    )


def gate(config: Config, built: Built, champion: Champion | None) -> GateReport:
    """Judge the candidate against its teacher, its limits and the serving champion; the holdout notes its use."""
    test, predictor = read_split(built.data.path, "test"), Predictor(built.model.path)
    found = Evidence(
        predictions=read_predictions(built.evaluation.path, built.chain[-1]),
        scores=built.scores["candidate"],
        probes=probe(predictor, predictor.tokenizer, test.texts, config.gate),
        num_judged=note_use(test, model_sha256=built.model.sha256, name=config.name),
        columns=_slices(config, built.data),
        behaviour=read_behaviour(built.behaviour.path),
    )
    references: dict[str, AnyPredictions] = {"teacher": read_predictions(built.evaluation.path, "teacher")}
    if champion is not None and champion.model_sha256 != built.model.sha256:
        step = evaluate_champion(data=built.data, folder=champion.model_path, sha256=champion.model_sha256)
        references["champion"] = read_predictions(step.artifact.path, "champion")
    if not has_fresh(built.data.path):
        return judge_evidence(found, references, config.gate)
    moved = with_frozen_margin(config.gate, config.retrain.frozen_margin)
    report = judge_evidence(found, references, config.gate, against={"champion": moved})
    fresh = _judge_fresh(config, built, champion if "champion" in references else None)
    return replace(report, verdicts=(*fresh, *report.verdicts))


def _judge_fresh(config: Config, built: Built, champion: Champion | None) -> list[Verdict]:
    """The candidate against teacher and champion on recent traffic that no model was trained on."""
    rule, rows = config.retrain.fresh, read_split(built.data.path, FRESH)
    teacher = next(step.artifact for step in built.steps if step.name == "export_teacher")
    models = {"teacher": (teacher.path, teacher.sha256)}
    if champion is not None:
        models["champion"] = (champion.model_path, champion.model_sha256)
    if len(rows) < rule.min_rows:
        return [no_verdict(name, rule, len(rows), rule.min_rows) for name in models]
    num_judged = note_use(rows, model_sha256=built.model.sha256, name=config.name)
    models["candidate"] = (built.model.path, built.model.sha256)
    answers: dict[str, AnyPredictions] = {}
    for name, (folder, sha256) in models.items():
        step = evaluate_fresh(name, data=built.data, folder=folder, sha256=sha256)
        answers[name] = read_predictions(step.artifact.path, name)
    candidate = answers.pop("candidate")
    uses = judge_holdout(num_judged, config.gate.holdout, gate="fresh_holdout_uses")
    return [*judge_fresh(candidate, answers, rule, min_rows=rule.min_rows), uses]


def _slices(config: Config, data: Artifact) -> dict[str, tuple[str, ...]]:
    """The test rows' parts. Raises: DataError for slices that the data does not have."""
    further = read_columns(data.path / "test.parquet") if config.gate.slices else {}
    labels, task = read_labels(data.path), config.data.task
    names = {"multi_label": labels, "entities": entity_types(labels)}.get(task)
    return slice_columns(config.gate.slices, read_split(data.path, "test"), further, names)
