"""Behavioural tests (CheckList, Ribeiro 2020, arXiv:2005.04118): what accuracy on a test split does not show.

- invariance: a change that leaves the meaning must leave the answer;
- directional: a change with a known effect must not move a class's probability, or a score, the other way;
- minimum functionality: plain texts must be answered right.

What an answer is, and when two are the same, is the task's (`tasks.behaviour.answers`).

Teacher and candidate are tried on the same cases, so that what compression broke is told from what was never learnt.

Shapes: N cases.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bento.entities import Entity
from bento.predictor import Predictor
from tasks.behaviour.answers import fails, read_answers
from tasks.behaviour.config import BehaviourConfig, Directional, Minimum
from tasks.behaviour.perturb import perturb
from tasks.data import read_split, read_target
from tasks.evaluate import evaluation_batch, is_calibrated, with_threshold
from tasks.store import Step, run_step
from tasks.tables import Rows, shown, write_table
from tasks.types import Artifact, BehaviourResult, Split

__all__ = ["BehaviourConfig", "read_behaviour", "read_shown_failures", "try_behaviour", "try_rows"]

RESULTS_FILE = "behaviour.json"
FAILURES_FILE = "behaviour_failures.csv"
NUM_SHOWN = 4
"""Failures of one test that the report shows."""
COLUMNS = (
    "test", "kind", "text", "altered", "expected", "teacher_before", "teacher_after", "teacher_failed",
    "candidate_before", "candidate_after", "candidate_failed",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Case:
    """One text beside its changed version; a minimum functionality case has no other version."""

    test: str
    kind: Literal["invariance", "directional", "minimum_functionality"]
    text: Any
    altered: Any
    expected: str
    """What must hold, in words."""
    rule: Directional | Minimum | None = None
    entities: tuple[Entity, ...] = ()
    """Of a minimum functionality case: those that must be found."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """One model's answers before and after, and which of them fail."""

    before_N: list[str]
    after_N: list[str]
    failed_N: NDArray[np.bool_]


Tried = tuple[Predictor, int]
"""A model, and how many texts a run it is asked."""


def try_behaviour(
    *, config: BehaviourConfig, data: Artifact, teacher: Artifact, candidate: Artifact, seed: int
) -> Step:
    """Both models on all cases: the counts of each test, and every failure as a pair of texts."""
    return run_step(
        "behaviour",
        kind="scores",
        inputs=(data, teacher, candidate),
        config=config.model_dump() | {"seed": seed},
        code="tasks.behaviour",
        make=lambda out, work: _make(config, data.path, teacher.path, candidate.path, seed, out),
    )


def read_behaviour(folder: Path) -> list[BehaviourResult]:
    """The counts of each test."""
    return [BehaviourResult(**row) for row in _read(folder)["tests"]]


def read_shown_failures(folder: Path) -> Rows:
    """A few failures of each test, for the report."""
    found: Rows = _read(folder)["failures"]
    return found


def _read(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / RESULTS_FILE).read_text(encoding="utf-8"))
    return found


def _make(config: BehaviourConfig, data: Path, teacher: Path, candidate: Path, seed: int, out: Path) -> None:
    cases = list(make_cases(config, read_split(data, "test"), np.random.default_rng(seed)))
    before, after = (
        answer(_predictor(folder, data), cases, score_tolerance=config.score_tolerance)
        for folder in (teacher, candidate)
    )
    results = [asdict(result) for result in _count(config, cases, before.failed_N, after.failed_N)]
    failures = _failures(cases, before, after)
    names = [result["test"] for result in results]
    some = [row for name in names for row in [failure for failure in failures if failure["test"] == name][:NUM_SHOWN]]
    (out / RESULTS_FILE).write_text(json.dumps({"tests": results, "failures": some}, indent=1), encoding="utf-8")
    write_table(out / FAILURES_FILE, COLUMNS, failures)


def try_rows(
    config: BehaviourConfig, rows: Split, candidate: Tried, reference: Tried | None, *, seed: int
) -> list[BehaviourResult]:
    """The counts of each test on any rows; without a reference it fails none."""
    cases = list(make_cases(config, rows, np.random.default_rng(seed)))
    failed_N, others_N = (
        np.zeros(len(cases), dtype=np.bool_)
        if tried is None
        else answer(tried[0], cases, score_tolerance=config.score_tolerance, batch_size=tried[1]).failed_N
        for tried in (candidate, reference)
    )
    return _count(config, cases, others_N, failed_N)


def _count(
    config: BehaviourConfig, cases: list[Case], teacher_N: NDArray[np.bool_], candidate_N: NDArray[np.bool_]
) -> list[BehaviourResult]:
    names = [*config.invariance, *(test.name for test in config.planned)]
    kinds = ["invariance"] * len(config.invariance) + ["directional"] * len(config.directional)
    kinds += ["minimum_functionality"] * len(config.minimum_functionality)
    test_N = np.array([case.test for case in cases])
    return [
        BehaviourResult(
            test=name,
            kind=kind,  # type: ignore[arg-type]
            num_cases=int((test_N == name).sum()),
            teacher_failures=int(teacher_N[test_N == name].sum()),
            candidate_failures=int(candidate_N[test_N == name].sum()),
            only_candidate=int((candidate_N & ~teacher_N)[test_N == name].sum()),
        )
        for name, kind in zip(names, kinds, strict=True)
    ]


def _predictor(folder: Path, data: Path) -> Predictor:
    """The model as it was evaluated: label sets from the threshold that suits it on."""
    predictor, target = Predictor(folder, check=False), read_target(data)
    if target.task != "multi_label" or is_calibrated(predictor.manifest):
        return predictor
    return with_threshold(predictor, read_split(data, "validation"), target)


def make_cases(config: BehaviourConfig, test: Split, rng: np.random.Generator) -> Iterator[Case]:
    """All cases in the order of the config, from at most `max_rows` changed rows of the test split a test."""
    for how in config.invariance:
        changed = ((text, perturb(text, how, rng)) for text in _shuffled(test, rng))
        for text, altered in _some(changed, config.max_rows):
            yield Case(test=how, kind="invariance", text=text, altered=altered, expected="the same answer")
    for rule in config.directional:
        changed = ((text, _alter(rule, text)) for text in _shuffled(test, rng))
        for text, altered in _some(changed, config.max_rows):
            expected = f"{rule.label or 'score'} {rule.moves}"
            yield Case(test=rule.name, kind="directional", text=text, altered=altered, expected=expected, rule=rule)
    for minimum in config.minimum_functionality:
        for text, entities in minimum.filled():
            kind: Any = "minimum_functionality"
            yield Case(
                test=minimum.name, kind=kind, text=text, altered=text, expected=minimum.expected, rule=minimum,
                entities=entities,
            )  # fmt: skip


def _shuffled(test: Split, rng: np.random.Generator) -> list[Any]:
    return [test.texts[row] for row in rng.permutation(len(test))]


def _alter(rule: Directional, text: Any) -> Any:
    return rule.alter(text) if isinstance(text, str) else (text[0], rule.alter(text[1]))


def _some(changed: Iterator[tuple[Any, Any]], most: int) -> list[tuple[Any, Any]]:
    """The first `most` that were changed at all."""
    found = []
    for text, altered in changed:
        if altered != text:
            found.append((text, altered))
        if len(found) == most:
            break
    return found


def answer(
    predictor: Predictor, cases: list[Case], *, score_tolerance: float, batch_size: int | None = None
) -> Answers:
    """The model's answers to both versions of every case; each different text is asked once.

    An answer that is no number fails. `score_tolerance` is a share of the scale; `batch_size` is by default that of the
    model's evaluation.
    """
    texts = list(dict.fromkeys(text for case in cases for text in (case.text, case.altered)))
    if not texts:
        return Answers(before_N=[], after_N=[], failed_N=np.zeros(0, dtype=np.bool_))
    probabilities_NC = predictor.predict(texts, batch_size=batch_size or evaluation_batch(predictor.manifest))
    said = dict(zip(texts, read_answers(predictor, texts, probabilities_NC), strict=True))
    target = predictor.manifest.target
    tolerance = score_tolerance * (target.high - target.low)
    missing = {text for text, row_C in zip(texts, probabilities_NC, strict=True) if not np.isfinite(row_C).all()}
    if target.task == "entities":
        missing = set()  # words without a token have no numbers
    failed = [
        not missing.isdisjoint((case.text, case.altered))
        or fails(case.rule, said[case.text], said[case.altered], case.entities, score_tolerance=tolerance)
        for case in cases
    ]
    return Answers(
        before_N=[said[case.text].words for case in cases],
        after_N=[said[case.altered].words for case in cases],
        failed_N=np.array(failed, dtype=np.bool_),
    )


def _failures(cases: list[Case], teacher: Answers, candidate: Answers) -> Rows:
    """Every case that either model fails, those of the candidate alone first within each test."""
    rows = [
        {
            "test": case.test,
            "kind": case.kind,
            "text": shown(case.text),
            "altered": shown(case.altered) if case.kind != "minimum_functionality" else "",
            "expected": case.expected,
            "teacher_before": teacher.before_N[at],
            "teacher_after": teacher.after_N[at],
            "teacher_failed": bool(teacher.failed_N[at]),
            "candidate_before": candidate.before_N[at],
            "candidate_after": candidate.after_N[at],
            "candidate_failed": bool(candidate.failed_N[at]),
        }
        for at, case in enumerate(cases)
        if teacher.failed_N[at] or candidate.failed_N[at]
    ]
    order = {test: at for at, test in enumerate(dict.fromkeys(case.test for case in cases))}
    return sorted(rows, key=lambda row: (order[row["test"]], not row["candidate_failed"], row["teacher_failed"]))
