"""The truth of a row, by task."""

import pytest

from tasks.data.truths import class_names, read_truth


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
