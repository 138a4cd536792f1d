"""Behavioural tests of label sets, scores and entities: planted faults fail, what the change allows does not."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from bento.entities import entity_tags, tags_of, words_of
from bento.errors import UserError
from bento.predictor import Predictor
from bento.task_types import Target, Task
from tasks.behaviour import answer, make_cases
from tasks.behaviour.config import BehaviourConfig, Directional, Minimum
from tasks.types import Split

LABELS = {"multi_label": ("joy", "fear"), "score": ("score",), "entities": tuple(entity_tags(["person", "place"]))}


class Rule:
    """A predictor whose answer is a rule on the text: probabilities, a share of the scale, or spans with a type."""

    words = Predictor.words
    answers = Predictor.answers

    def __init__(self, task: Task, rule: Callable[[Any], Any]) -> None:
        self.rule, self.labels = rule, LABELS[task]
        target = Target(task=task, low=0, high=5)
        self.manifest = type("Manifest", (), {"batch_invariant": True, "target": target, "threshold": 0.5})()

    def predict(self, texts: Sequence[Any], *, batch_size: int) -> Any:
        if self.manifest.target.task != "entities":
            return np.array([self.rule(text) for text in texts], dtype=np.float32).reshape(len(texts), -1)
        found = np.full((len(texts), 12, len(self.labels)), np.nan, dtype=np.float32)
        for row, text in enumerate(texts):
            for word, tag in enumerate(tags_of(words_of(text), self.rule(text))):
                found[row, word] = [float(tag == name) for name in self.labels]
        return found


def failed(task: Task, rule: Callable[[Any], Any], texts: Sequence[Any], **config: Any) -> list[bool]:
    return answers(task, rule, texts, **config).failed_N.tolist()


def answers(task: Task, rule: Callable[[Any], Any], texts: Sequence[Any], **config: Any) -> Any:
    ids = tuple(map(str, range(len(texts))))
    split = Split(name="test", ids=ids, texts=tuple(texts), labels=("",) * len(texts))
    asked = BehaviourConfig(**{"invariance": [], **config})
    asked.check_task(task, pairs=not isinstance(texts[0], str))
    cases = list(make_cases(asked, split, np.random.default_rng(0)))
    return answer(Rule(task, rule), cases, score_tolerance=asked.score_tolerance)  # type: ignore[arg-type]


def named(text: str, names: dict[str, str]) -> list[tuple[int, int, str]]:
    return [(text.index(name), text.index(name) + len(name), kind) for name, kind in names.items() if name in text]


def test_a_set_of_labels_must_stay_the_same_set() -> None:
    both = lambda text: (0.9, 0.4) if text.isupper() else (0.6, 0.1)  # noqa: E731
    assert failed("multi_label", both, ["so good"], invariance=["case"]) == [False], "the probabilities may differ"
    assert failed("multi_label", lambda text: (0.9, text.isupper()), ["so good"], invariance=["case"]) == [True]
    assert answers("multi_label", lambda text: (0.1, text.isupper()), ["so"], invariance=["case"]).before_N == [
        "no label"
    ]


def test_a_score_may_move_within_the_tolerance_alone() -> None:
    moved = {0.05: False, 0.15: True, -0.15: True}
    for share, fails in moved.items():
        rule = lambda text, share=share: 0.5 + share * text.isupper()  # noqa: E731
        assert failed("score", rule, ["so good"], invariance=["case"]) == [fails]
    exact = {"invariance": ["case"], "score_tolerance": 0.0}
    assert failed("score", lambda text: 0.5 + 0.01 * text.isupper(), ["so good"], **exact) == [True]
    pair = ("so good", "so bad")
    assert failed("score", lambda text: 0.5 + 0.3 * text[0].isupper(), [pair], invariance=["case"]) == [True]


def test_a_name_that_is_replaced_is_still_a_person() -> None:
    def first_word(text: str) -> list[tuple[int, int, str]]:
        return [(0, len(text.split()[0]), "person")]

    assert failed("entities", first_word, ["Maria left"], invariance=["names"]) == [False]
    only_maria = lambda text: named(text, {"Maria": "person"})  # noqa: E731
    assert failed("entities", only_maria, ["Maria left"], invariance=["names"]) == [True]


def test_entities_are_compared_by_their_types_in_order() -> None:
    text = "Ann met Bob in Rome"
    small = lambda text: named(text, {"Ann": "person", "Rome": "place"})  # noqa: E731
    turned = lambda text: named(text, {"ANN": "place", "ROME": "person"}) or small(text)  # noqa: E731
    same = lambda text: named(text, {"ANN": "person", "ROME": "place"}) or small(text)  # noqa: E731
    assert failed("entities", turned, [text], invariance=["case"]) == [True]
    assert failed("entities", same, [text], invariance=["case"]) == [False]
    found = answers("entities", turned, [text], invariance=["case"])
    assert (found.before_N, found.after_N) == (["Ann (person), Rome (place)"], ["ANN (place), ROME (person)"])


def test_the_probability_of_a_label_and_a_score_move_as_told() -> None:
    worse = Directional(name="worse", replace={"good": "bad"}, label="fear", moves="up")
    wrong = lambda text: (0.9, 0.2 if "bad" in text else 0.6)  # noqa: E731
    right = lambda text: (0.1, 0.6 if "bad" in text else 0.2)  # noqa: E731
    assert failed("multi_label", wrong, ["so good"], directional=[worse]) == [True]
    assert failed("multi_label", right, ["so good"], directional=[worse]) == [False]
    less = Directional(name="less", append="not", moves="down")
    pair = ("a cat", "a cat")
    assert failed("score", lambda text: 0.9 if "not" in text[1] else 0.5, [pair], directional=[less]) == [True]
    assert failed("score", lambda text: 0.2 if "not" in text[1] else 0.5, [pair], directional=[less]) == [False]


def test_plain_texts_have_their_set_of_labels_their_score_and_their_entities() -> None:
    just = Minimum(name="just", texts=["what a day"], labels=["joy"])
    none = Minimum(name="none", texts=["a table"], labels=[])
    among = Minimum(name="among", texts=["what a day"], label="joy")
    rule = lambda text: (0.9 if "day" in text else 0.1, 0.6)  # noqa: E731
    assert failed("multi_label", rule, ["x"], minimum_functionality=[just, none, among]) == [True, True, False]
    high = Minimum(name="high", texts=[["{a} runs", "{a} runs"]], words={"a": ["he", "she"]}, score=[4.5, 5])
    assert failed("score", lambda text: 0.95 if text[0] == "he runs" else 0.5, [("x", "y")],
                  minimum_functionality=[high]) == [False, True]  # fmt: skip
    lives = Minimum(
        name="lives", texts=["{who} lives in {where}, Rome"], words={"who": ["Ann"], "where": ["Paris"]},
        entities={"who": "person", "where": "place", "Rome": "place"},
    )  # fmt: skip
    names = {"Ann": "person", "Paris": "place", "Rome": "place"}
    assert failed("entities", lambda text: named(text, names), ["x"], minimum_functionality=[lives]) == [False]
    for fault in ({"Paris": "person"}, {"lives": "place"}):
        assert failed("entities", lambda text, fault=fault: sorted(named(text, names | fault)), ["x"],
                      minimum_functionality=[lives]) == [True]  # fmt: skip
    assert failed("entities", lambda text: [], ["x"], minimum_functionality=[lives]) == [True]


@pytest.mark.parametrize(
    ("task", "test", "told"),
    [
        ("score", {"label": "joy"}, "'plain' with data.task score expects score, got label"),
        ("multi_label", {}, "expects label or labels, got none of them"),
        ("single_label", {"labels": ["joy"]}, "expects label, got labels"),
        ("entities", {"score": [0, 1]}, "expects entities, got score"),
        ("multi_label", {"label": "joy", "labels": ["joy"]}, "got label and labels"),
    ],
)
def test_a_test_that_expects_what_the_task_does_not_answer_is_refused(
    task: Task, test: dict[str, Any], told: str
) -> None:
    config = BehaviourConfig(minimum_functionality=[Minimum(name="plain", texts=["a"], **test)])
    with pytest.raises(UserError, match=told):
        config.check_task(task, pairs=False)


def test_directions_and_pairs_that_do_not_fit_are_refused() -> None:
    up = Directional(name="up", append="!", moves="up")
    for task, told in (("entities", "watches one probability"), ("multi_label", "expects the label to watch")):
        with pytest.raises(UserError, match=told):
            BehaviourConfig(directional=[up]).check_task(task, pairs=False)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="expects no label, since the score is what moves"):
        BehaviourConfig(directional=[up.model_copy(update={"label": "joy"})]).check_task("score", pairs=True)
    plain = BehaviourConfig(minimum_functionality=[Minimum(name="plain", texts=["a"], score=[0, 1])])
    with pytest.raises(UserError, match=r"expects \[first text, second text\] each in texts"):
        plain.check_task("score", pairs=True)
    types = BehaviourConfig(minimum_functionality=[Minimum(name="plain", texts=["Ann"], entities={"Ann": "persn"})])
    with pytest.raises(UserError, match="'plain' expects the class 'persn', which the data does not have"):
        types.check_classes(["person"])
