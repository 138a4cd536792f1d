import json

import pytest

from bento.errors import DataError
from tasks.data import DataConfig, prepare, read_labels, read_report, read_split


def rows_of(num_rows, prefix):
    return [{"text": f"{prefix} number {at}", "label": "even" if at % 2 == 0 else "odd"} for at in range(num_rows)]


@pytest.fixture
def check(tmp_path):
    """Prepare planted parts; gives the output folder."""

    def run(train=None, test=None, validation=None, **config):
        source, out = tmp_path / "source", tmp_path / "out"
        source.mkdir(exist_ok=True)
        out.mkdir(exist_ok=True)
        parts = {"train": rows_of(100, "train") + (train or []), "test": rows_of(40, "test") + (test or [])}
        parts["validation"] = rows_of(40, "validation") + (validation or [])
        for name, rows in parts.items():
            (source / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
        prepare(DataConfig(source=str(source), **config), out)
        return out

    return run


def finding(out, kind):
    return next(found for found in read_report(out)["findings"] if found["kind"] == kind)


def test_clean_data_gives_no_finding(check):
    assert read_report(check())["findings"] == []


def test_a_missing_column_lists_the_columns_that_exist_for_every_file_in_one_error(check):
    with pytest.raises(DataError) as caught:
        check(text="sentence", label="labels")
    assert str(caught.value).count("has no column 'sentence'; it has text, label. Set data.text") == 3
    assert "perhaps label" in str(caught.value)


def test_a_few_empty_texts_and_missing_labels_are_dropped_and_reported(check):
    out = check(train=[{"text": "  ", "label": "odd"}, {"text": "no label here", "label": None}, {"label": "odd"}])
    assert finding(out, "empty_text")["count"] == 2
    assert finding(out, "empty_text")["examples"][0].startswith("train.jsonl:101: '  '")
    assert finding(out, "missing_label")["examples"] == ["train.jsonl:102: 'no label here' (no label)"]
    assert read_report(out)["dropped"] == {"empty_text": 2, "missing_label": 1}
    assert len(read_split(out, "train")) == 100


def test_many_empty_texts_and_missing_labels_are_errors_told_together(check):
    empty = [{"text": "", "label": "odd"}] * 10
    bare = [{"text": f"bare {at}", "label": ""} for at in range(10)]
    with pytest.raises(DataError, match=r"(?s)10 rows of 120 .*empty text.*train\.jsonl:101.*10 rows .*no label"):
        check(train=empty + bare)


def test_a_repeated_row_is_kept_once(check):
    out = check(train=[{"text": "TRAIN  number 0", "label": "even"}])
    assert finding(out, "duplicate")["examples"] == ["train.jsonl:101: 'TRAIN  number 0' (even)"]
    assert len(read_split(out, "train")) == 100


def test_a_text_with_two_labels_is_dropped_with_both_rows(check):
    out = check(train=[{"text": "train number 0", "label": "odd"}])
    assert finding(out, "conflicting_label")["count"] == 2
    assert "train number 0" not in read_split(out, "train").texts


def test_many_texts_with_two_labels_are_an_error(check):
    flipped = [{"text": f"train number {at}", "label": "other"} for at in range(10)]
    with pytest.raises(DataError, match=r"20 rows of 110 .*different label, more than the 5%"):
        check(train=flipped)


def test_a_training_text_that_is_also_tested_is_dropped_from_training(check):
    out = check(
        train=[{"text": "Test number 3", "label": "even"}], validation=[{"text": "test number 5", "label": "odd"}]
    )
    assert "test number 3" in read_split(out, "test").texts
    assert "Test number 3" not in read_split(out, "train").texts
    assert "test number 5" not in read_split(out, "validation").texts
    assert read_report(out)["dropped"] == {"leakage": 2}


def test_a_test_that_is_the_training_split_again_is_refused(check):
    with pytest.raises(DataError, match="largely the same rows"):
        check(train=rows_of(200, "test"), test=rows_of(200, "test"))


def test_no_text_is_in_two_splits(check):
    out = check(train=rows_of(10, "test"), validation=rows_of(5, "train"))
    ids = [set(read_split(out, name).ids) for name in ("train", "validation", "test")]
    assert sum(map(len, ids)) == len(set().union(*ids))


def test_a_label_only_in_the_test_is_an_error_unless_it_is_dropped_knowingly(check):
    unseen = [{"text": "never learnt", "label": "third"}]
    with pytest.raises(DataError, match=r"training never has: third \(1\).*unseen_labels=drop"):
        check(test=unseen)
    out = check(test=unseen, unseen_labels="drop")
    assert read_labels(out) == ("even", "odd")
    assert read_report(out)["dropped"] == {"unseen_label": 1}


def test_a_single_label_is_an_error(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "".join(f"text {at},same\n" for at in range(50)))
    with pytest.raises(DataError, match="only the label 'same'"):
        prepare(DataConfig(source=str(path)), tmp_path)


def test_lists_of_labels_are_refused_as_multi_label(check):
    with pytest.raises(DataError, match=r"Set data\.task to multi_label, or keep one label a row"):
        check(train=[{"text": "both", "label": ["even", "odd"]}])


def test_scores_are_refused_as_class_names(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "".join(f"text {at},{at / 10 + 0.05}\n" for at in range(50)))
    with pytest.raises(DataError, match="task to score"):
        prepare(DataConfig(source=str(path)), tmp_path)


def test_a_giant_text_is_refused(check):
    with pytest.raises(DataError, match=r"1 texts of test\.jsonl have more than 100,000 characters"):
        check(test=[{"text": "x" * 100_001, "label": "odd"}])


def test_half_a_surrogate_pair_is_refused_with_its_line(check):
    with pytest.raises(DataError, match=r"(?s)surrogate.*train\.jsonl:101"):
        check(train=[{"text": "broken \ud83d", "label": "odd"}])


def test_whole_numbers_become_label_names(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps({"text": f"text {at}", "label": at % 2}) for at in range(80)))
    prepare(DataConfig(source=str(path)), tmp_path)
    assert read_labels(tmp_path) == ("0", "1")


def test_labels_that_differ_only_in_capitals_are_noted(check):
    out = check(train=[{"text": f"extra {at}", "label": "Odd"} for at in range(5)])
    assert finding(out, "similar_labels")["examples"] == ["'Odd' and 'odd'"]
