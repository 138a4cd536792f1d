from collections import Counter, defaultdict

import pytest

from tasks.data import DataConfig, row_id
from tasks.data.rows import Findings, Row
from tasks.data.split import MIN_LABEL_ROWS, assign_splits, cap_rows, split_of, unit_hash


def row(text, label="a", split="train"):
    return Row(id=row_id(text), text=text, text_pair=None, label=label, names=(label,), split=split, file="f", line=1)


def assign(rows, **config):
    return {row.id: row.split for row in assign_splits(rows, DataConfig(source="synthetic", **config), Findings())}


def test_the_id_ignores_capitals_spaces_and_unicode_forms_but_not_words_or_pairs():
    assert row_id(" Hello\u00a0 WORLD\n") == row_id("hello world")
    assert row_id("ﬁne") == row_id("fine")
    assert row_id("hello") != row_id("hello world")
    assert row_id("a", "b") != row_id("a b")
    assert row_id("a", "b") != row_id("b", "a")


def test_shares_are_met_and_about_stratified():
    rows = [row(f"text {at}", label=f"label {at % 4}") for at in range(4000)]
    chosen = assign(rows)
    by_label = defaultdict(Counter)
    for member in rows:
        by_label[member.label][chosen[member.id]] += 1
    for counts in by_label.values():
        assert counts["test"] == pytest.approx(200, abs=40)
        assert counts["validation"] == pytest.approx(100, abs=30)


def test_no_row_moves_when_rows_are_added():
    rows = [row(f"text {at}", label=f"label {at % 4}") for at in range(2000)]
    before, after = assign(rows[:600]), assign(rows)
    assert all(after[name] == split for name, split in before.items())


def test_rows_that_the_source_assigns_stay_where_they_are():
    rows = [row(f"text {at}", split=("train", "test")[at % 2]) for at in range(400)]
    chosen = assign(rows)
    assert all(chosen[member.id] == "test" for member in rows if member.split == "test")
    assert {chosen[member.id] for member in rows if member.split == "train"} == {"train", "validation"}


@pytest.mark.parametrize("num_rows", range(1, 13))
def test_every_label_trains_and_validates_where_it_has_enough_rows(num_rows):
    for trial in range(60):
        splits = Counter(assign([row(f"trial {trial} text {at}") for at in range(num_rows)]).values())
        assert splits["train"] >= 1
        assert (splits["validation"] >= 1) == (num_rows >= MIN_LABEL_ROWS)


def test_adding_rows_never_takes_a_row_out_of_the_test():
    for trial in range(60):
        rows = [row(f"trial {trial} text {at}") for at in range(20)]
        tested = set()
        for number in range(1, 21):
            now = {name for name, split in assign(rows[:number]).items() if split == "test"}
            assert tested <= now
            tested = now


def test_changing_one_share_does_not_move_rows_of_the_other_split():
    units = [unit_hash(row_id(str(at))) for at in range(500)]
    few = [split_of(unit, test=0.2, validation=0.05) for unit in units]
    more = [split_of(unit, test=0.2, validation=0.2) for unit in units]
    assert [split == "test" for split in few] == [split == "test" for split in more]


def test_the_cap_keeps_every_label_and_the_mix_and_only_grows():
    rows = [row(f"text {at}", label="rare" if at < 3 else f"label {at % 2}") for at in range(500)]
    small, large = cap_rows(rows, 40), cap_rows(rows, 80)
    counts = Counter(member.label for member in small)
    assert len(small) == 40
    assert counts["rare"] == 1
    assert abs(counts["label 0"] - counts["label 1"]) <= 2
    assert {member.id for member in small} <= {member.id for member in large}
