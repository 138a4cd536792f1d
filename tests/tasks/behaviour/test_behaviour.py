"""Both models on the same cases: planted faults are caught and shown as pairs."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bento.task_types import Target
from tasks.behaviour import answer, make_cases, read_behaviour, read_shown_failures, try_behaviour, try_rows
from tasks.behaviour.config import BehaviourConfig, Directional, Minimum
from tasks.compress.context import Context
from tasks.types import Artifact, Split

TEXTS = ("I like the good film", "a good day", "nothing here", "the good and the rest", "so dull")


class Rule:
    """A predictor whose answer is a rule on the text."""

    labels = ("negative", "positive")

    def __init__(self, positive: Any) -> None:
        self.positive = positive
        self.manifest = type("Manifest", (), {"batch_invariant": True, "target": Target()})()

    def predict(self, texts: Sequence[str], *, batch_size: int) -> Any:
        share_N = np.array([self.positive(text) for text in texts], dtype=np.float32)
        return np.stack([1 - share_N, share_N], axis=1)


def split() -> Split:
    return Split(name="test", ids=tuple("12345"), texts=TEXTS, labels=("positive",) * 5)


def failures(config: BehaviourConfig, positive: Any) -> list[bool]:
    cases = list(make_cases(config, split(), np.random.default_rng(0)))
    return answer(Rule(positive), cases, score_tolerance=0).failed_N.tolist()  # type: ignore[arg-type]


def test_a_model_that_reads_capitals_otherwise_is_caught_and_one_that_does_not_passes() -> None:
    config = BehaviourConfig(invariance=["case"])
    assert failures(config, lambda text: float("good" in text)) == _good(config)
    assert failures(config, lambda text: float("good" in text.lower())) == [False] * 5


def test_an_answer_that_is_no_number_fails() -> None:
    config = BehaviourConfig(invariance=["case"])
    assert failures(config, lambda text: float("nan") if "good" in text else 0.9) == _good(config)


def test_any_rows_are_tried_with_or_without_another_model() -> None:
    config = BehaviourConfig(invariance=["case"])
    reads, ignores = Rule(lambda text: float("good" in text)), Rule(lambda text: float("good" in text.lower()))
    for reference, counts in ((None, (0, 3)), ((ignores, 1), (0, 3)), ((reads, 1), (3, 0))):
        (found,) = try_rows(config, split(), (reads, 1), reference, seed=0)  # type: ignore[arg-type]
        assert (found.num_cases, found.candidate_failures) == (5, 3)
        assert (found.teacher_failures, found.only_candidate) == counts


def _good(config: BehaviourConfig) -> list[bool]:
    return ["good" in case.text for case in make_cases(config, split(), np.random.default_rng(0))]


def test_a_probability_may_stay_but_not_move_the_wrong_way() -> None:
    rule = Directional(name="worse", replace={"good": "bad"}, label="positive", moves="down")
    config = BehaviourConfig(invariance=[], directional=[rule])
    assert failures(config, lambda text: 0.9 if "good" in text else 0.2) == [False] * 3
    assert failures(config, lambda text: 0.5) == [False] * 3
    assert failures(config, lambda text: 0.45 if "bad" in text else 0.4) == [False] * 3, "within the tolerance"
    assert failures(config, lambda text: 0.9 if "bad" in text else 0.2) == [True] * 3


def test_a_plain_text_must_be_answered_right() -> None:
    plain = Minimum(name="plain", texts=["it is {word}"], words={"word": ["good", "bad"]}, label="positive")
    config = BehaviourConfig(invariance=[], minimum_functionality=[plain])
    assert failures(config, lambda text: float("good" in text)) == [False, True]


def test_no_more_rows_than_asked_for_are_changed() -> None:
    config = BehaviourConfig(invariance=["case", "numbers"], max_rows=2)
    assert [case.test for case in make_cases(config, split(), np.random.default_rng(0))] == ["case", "case"]


@pytest.fixture
def tried(context: Context, exported: Artifact) -> Path:
    """The step on a real model against itself; of two tests that want different answers to a text, one fails."""
    plain = [Minimum(name=f"plain {label}", texts=["a {what}"], words={"what": ["car"]}, label=label)
             for label in ("red", "blue")]  # fmt: skip
    config = BehaviourConfig(invariance=["typos", "names"], minimum_functionality=plain)
    step = try_behaviour(config=config, data=context.data, teacher=exported, candidate=exported, seed=0)
    assert try_behaviour(config=config, data=context.data, teacher=exported, candidate=exported, seed=0).cached
    return step.artifact.path


def test_the_step_counts_every_test_and_writes_every_failure(tried: Path) -> None:
    results = read_behaviour(tried)
    assert [(result.test, result.kind) for result in results] == [
        ("typos", "invariance"), ("names", "invariance"),
        ("plain red", "minimum_functionality"), ("plain blue", "minimum_functionality"),
    ]  # fmt: skip
    typos, names, *plain = results
    assert 30 <= typos.num_cases <= 36, "a letter may be replaced by itself"
    assert names.num_cases == 0, "no text has a name"
    assert sum(result.candidate_failures for result in plain) >= 1
    assert all(result.only_candidate == 0 for result in results), "a model loses nothing against itself"
    with (tried / "behaviour_failures.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(result.candidate_failures for result in results)
    assert read_shown_failures(tried)[-1]["test"] == rows[-1]["test"]
    assert rows[-1]["candidate_after"] != rows[-1]["expected"]
    assert rows[-1]["altered"] == "", "a plain text has no other version"
