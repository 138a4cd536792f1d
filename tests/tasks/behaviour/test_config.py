"""Cases from the config, and what is refused."""

import pytest
from pydantic import ValidationError

from bento.errors import UserError
from tasks.behaviour.config import BehaviourConfig, Directional, Minimum


def test_slots_are_filled_with_every_combination() -> None:
    test = Minimum(
        name="lost",
        texts=["I lost {whose} {what}", "gone"],
        words={"whose": ["my", "her"], "what": ["card"]},
        label="x",
    )
    assert list(test.cases()) == ["I lost my card", "I lost her card", "gone"]


def test_only_whole_words_are_replaced_and_a_text_without_them_is_no_case() -> None:
    test = Directional(name="n", replace={"good": "bad"}, label="positive", moves="down")
    assert test.alter("a good day, goodness") == "a bad day, goodness"
    assert test.alter("a day") == "a day"
    both = Directional(name="n", replace={"good": "bad"}, append="Awful.", label="positive", moves="down")
    assert (both.alter("good"), both.alter("fine")) == ("bad Awful.", "fine")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"directional": [{"name": "n", "label": "x", "moves": "up"}]}, "changes nothing; give replace or append"),
        ({"minimum_functionality": [{"name": "n", "texts": ["a {b}"], "label": "x"}]}, "expects words for b"),
        ({"minimum_functionality": [{"name": "typos", "texts": ["a"], "label": "x"}]}, "got twice: typos"),
        ({"invariance": ["spelling"]}, "Input should be 'typos'"),
    ],
)
def test_what_cannot_be_run_is_refused_with_its_reason(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        BehaviourConfig.model_validate(fields)


def test_a_class_that_the_data_does_not_have_is_named() -> None:
    config = BehaviourConfig(minimum_functionality=[Minimum(name="n", texts=["a"], label="lost")])
    with pytest.raises(UserError, match=r"'n' expects the class 'lost'.*it has blue, red"):
        config.check_classes(("blue", "red"))
