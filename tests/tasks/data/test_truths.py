"""The truth of a row, by task."""

import pytest

from tasks.data.truths import class_names, read_entities, read_tagged, read_truth


@pytest.mark.parametrize(
    ("value", "task", "expected"),
    [
        (" joy ", "single_label", "joy"),
        (3.0, "single_label", "3"),
        (["joy"], "single_label", None),
        (["love", "joy", "love"], "multi_label", '["joy", "love"]'),
        ('["joy"]', "multi_label", '["joy"]'),
        ([], "multi_label", "[]"),
        ("joy", "multi_label", None),
        ([["joy"]], "multi_label", None),
        ([""], "multi_label", None),
        ("2.50", "score", "2.5"),
        (4, "score", "4.0"),
        ("inf", "score", None),
        ("high", "score", None),
        (True, "score", None),
        (None, "multi_label", ""),
        (float("nan"), "score", ""),
    ],
)
def test_a_truth_is_written_the_same_however_it_came(value, task, expected):
    assert read_truth(value, task) == expected


def test_names_are_one_several_or_none():
    assert class_names("joy", "single_label") == ("joy",)
    assert class_names('["joy", "love"]', "multi_label") == ("joy", "love")
    assert class_names("2.5", "score") == ()


def test_words_and_tags_become_a_text_and_its_spans() -> None:
    found = read_tagged(["Anna", "Bell", "of", "York", "!"], ["B-PER", "I-PER", "O", "B-LOC", "O"])
    assert found == ("Anna Bell of York !", '[[0, 9, "PER"], [13, 17, "LOC"]]')
    assert read_entities(found[1]) == [(0, 9, "PER"), (13, 17, "LOC")]
    assert class_names(found[1], "entities") == ("PER", "LOC")
    assert read_tagged('["York"]', '["O"]') == ("York", "[]")


@pytest.mark.parametrize(
    ("words", "tags"),
    [
        (["York"], ["B-LOC", "O"]),
        (["York"], ["LOC"]),
        (["New York"], ["B-LOC"]),
        (["York"], ["B-"]),
        ("York", "O"),
        (["York", ""], ["O", "O"]),
        (["York"], None),
    ],
)
def test_what_are_no_words_and_tags_is_none(words: object, tags: object) -> None:
    assert read_tagged(words, tags) is None
