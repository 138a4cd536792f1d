import json
import random

import pyarrow.parquet as pq
import pytest

from bento.errors import DataError
from bento.manifest import folder_sha256
from tasks.data import DataConfig, prepare, read_labels, read_report, read_split, read_target, row_id
from tests.shared_data import data_folder

SETS = ("banking77", "clinc150", "snips", "sms_spam", "sst2", "sentiment_sentences", "angular_cli_commits")


def write_lines(path, rows):
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def source_rows(num_rows=300):
    return [{"id": at, "text": f"message {at}", "label": f"label {at % 3}", "score": at / 2} for at in range(num_rows)]


@pytest.fixture
def made(tmp_path):
    """Prepare rows, by default 300 of them; gives the output folder."""
    count = iter(range(100))

    def run(rows=None, extra=None, **config):
        number = next(count)
        out = tmp_path / f"out{number}"
        out.mkdir()
        path = write_lines(tmp_path / "all.jsonl", source_rows() if rows is None else rows)
        fresh = write_lines(tmp_path / "extra.jsonl", extra) if extra is not None else None
        prepare(DataConfig(source=str(path), **config), out, extra=fresh)
        return out

    return run


def splits(folder):
    return {row: name for name in ("train", "validation", "test") for row in read_split(folder, name).ids}


def test_splits_labels_and_report_are_written(made):
    out = made()
    report = read_report(out)
    assert read_labels(out) == ("label 0", "label 1", "label 2")
    assert sum(part["num_rows"] for part in report["splits"].values()) == 300
    assert report["splits"]["validation"]["made_from_train"] is True
    assert report["splits"]["test"]["labels"]["label 0"] == read_split(out, "test").labels.count("label 0")


def test_the_bytes_do_not_depend_on_the_run_nor_on_the_order_of_the_source(made):
    rows = source_rows()
    first = made(rows)
    shuffled = random.Random(1).sample(rows, len(rows))
    assert folder_sha256(first) == folder_sha256(made(rows))
    assert read_split(first, "train") == read_split(made(shuffled), "train")


def test_other_columns_are_kept_and_those_with_our_names_are_renamed(made):
    table = pq.read_table(made() / "train.parquet")
    row = table.to_pylist()[0]
    assert table.column_names == ["id", "text", "text_pair", "label", "origin", "source_line", "source_id", "score"]
    assert row["id"] == row_id(row["text"])
    assert row["text"] == f"message {row['source_id']}"
    assert row["source_line"] == row["source_id"] + 1
    assert row["score"] == row["source_id"] / 2


def test_a_nested_column_is_left_out_and_noted(made):
    out = made([row | {"slots": [1, 2]} for row in source_rows()])
    assert "slots" not in pq.read_table(out / "test.parquet").column_names
    assert read_report(out)["findings"][0]["kind"] == "nested_column"


def test_text_pairs_are_read_as_pairs(made):
    out = made([row | {"second": f"answer {row['id']}"} for row in source_rows()], text_pair="second")
    split = read_split(out, "train")
    assert split.texts[0][1].replace("answer", "message") == split.texts[0][0]
    assert split.ids[0] == row_id(*split.texts[0])


def test_the_cap_holds_for_every_split(made):
    out = made(max_rows=12)
    assert {len(read_split(out, name)) for name in ("train", "validation", "test")} == {12}


def test_a_cap_below_the_number_of_labels_is_refused(made):
    with pytest.raises(DataError, match="max_rows 2 leaves 1 labels"):
        made(max_rows=2)


def test_feedback_rows_go_to_training_and_a_recent_part_of_the_test_and_move_nothing(made):
    before = splits(made())
    extra = [{"text": f"fresh {at}", "label": "label 1"} for at in range(300)]
    out = made(extra=extra)
    after = splits(out)
    assert all(after[row] == split for row, split in before.items())
    parts = read_report(out)["splits"]
    assert parts["train"]["num_feedback_rows"] + parts["test"]["num_feedback_rows"] == 300
    assert parts["test"]["num_feedback_rows"] == pytest.approx(90, abs=30)
    origins = pq.read_table(out / "test.parquet", columns=["origin"]).column("origin").to_pylist()
    assert origins.count("feedback") == parts["test"]["num_feedback_rows"]


def test_more_feedback_later_leaves_the_earlier_feedback_where_it_was(made):
    extra = [{"text": f"fresh {at}", "label": "label 1"} for at in range(100)]
    before, after = splits(made(extra=extra[:50])), splits(made(extra=extra))
    assert all(after[row] == split for row, split in before.items())


def test_a_newer_label_wins_and_the_row_stays_in_its_split(made):
    base = made()
    extra = []
    for name in ("train", "validation", "test"):
        split = read_split(base, name)
        extra.append(
            {"text": split.texts[0].upper(), "label": "label 0" if split.labels[0] != "label 0" else "label 1"}
        )
    out = made(extra=extra)
    assert splits(out) == splits(base)
    for entry, name in zip(extra, ("train", "validation", "test"), strict=True):
        split = read_split(out, name)
        assert split.labels[split.ids.index(row_id(entry["text"]))] == entry["label"]
    assert read_report(out)["dropped"]["relabelled"] == 3


def test_the_last_of_several_feedback_labels_wins_and_agreement_changes_nothing(made):
    extra = [{"text": "fresh", "label": "label 1"}, {"text": "Fresh", "label": "label 2"}]
    out = made(extra=[*extra, {"text": "message 0", "label": "label 0"}])
    found = {row: label for n in ("train", "test") for row, label in zip(*_ids_labels(out, n), strict=True)}
    assert found[row_id("fresh")] == "label 2"
    assert read_report(out)["dropped"] == {"repeated_feedback": 2}


def _ids_labels(folder, name):
    split = read_split(folder, name)
    return split.ids, split.labels


def test_feedback_that_the_cap_left_out_still_joins_the_split_of_its_text(made):
    full = splits(made())
    extra = [{"text": f"message {at}", "label": "label 0"} for at in range(300)]
    assert all(full[row] == split for row, split in splits(made(extra=extra, max_rows=12)).items())


def test_feedback_with_an_unknown_label_is_dropped_and_if_nothing_is_left_refused(made):
    unknown = {"text": "fresh", "label": "typo"}
    out = made(extra=[unknown, {"text": "also fresh", "label": "label 1"}])
    assert read_report(out)["dropped"] == {"unknown_feedback_label": 1}
    assert read_labels(out) == ("label 0", "label 1", "label 2")
    with pytest.raises(DataError, match="no row has a text and a label of the source"):
        made(extra=[unknown])


def test_feedback_without_a_label_column_is_refused(made):
    with pytest.raises(DataError, match=r"(?s)newly labelled rows.*no column 'label'; it has text, labl"):
        made(extra=[{"text": "fresh", "labl": "label 1"}])


@pytest.mark.parametrize("name", SETS)
def test_real_sets_pass(name, tmp_path):
    prepare(DataConfig(source=str(data_folder(name)), max_rows=2000), tmp_path)
    assert len(read_split(tmp_path, "train")) > 1000
    assert set(read_split(tmp_path, "test").labels) <= set(read_labels(tmp_path))


def test_a_real_multi_label_set_is_read_as_such_and_else_refused_with_the_remedy(tmp_path):
    for label in ("label", "labels"):
        with pytest.raises(DataError, match="task to multi_label"):
            prepare(DataConfig(source=str(data_folder("goemotions")), label=label), tmp_path)
    config = DataConfig(source=str(data_folder("goemotions")), label="labels", task="multi_label", max_rows=400)
    prepare(config, tmp_path)
    assert (len(read_labels(tmp_path)), read_target(tmp_path).task) == (28, "multi_label")
    several = [label for label in read_split(tmp_path, "train").labels if "," in label]
    assert 20 < len(several) < 200
    assert sum(read_report(tmp_path)["splits"]["train"]["labels"].values()) > 400


def test_real_scores_of_pairs_are_read_with_their_range(tmp_path):
    config = DataConfig(source=str(data_folder("stsb")), text="text_a", text_pair="text_b", label="score", task="score")
    prepare(config, tmp_path)
    target = read_target(tmp_path)
    assert (target.task, target.low, target.high, read_labels(tmp_path)) == ("score", 0.0, 5.0, ("score",))
    assert len(read_split(tmp_path, "test")) > 1_000


def test_newly_labelled_rows_are_refused_where_a_text_has_more_than_one_class(tmp_path):
    rows = [{"text": f"text {at}", "labels": ["a", "b"][: at % 3]} for at in range(60)]
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = DataConfig(source=str(source), label="labels", task="multi_label")
    prepare(config, tmp_path)
    assert read_labels(tmp_path) == ("a", "b")
    with pytest.raises(DataError, match="one class each"):
        prepare(config, tmp_path, extra=source)


def tagged_rows(num_rows=60):
    return [
        {"tokens": ["call", f"Anna{at}", "in", "New", "York"], "tags": ["O", "B-PER", "O", "B-LOC", "I-LOC"]}
        for at in range(num_rows)
    ]


def test_words_and_tags_are_read_as_text_and_spans(made):
    out = made(tagged_rows(), text="tokens", label="tags", task="entities")
    test = read_split(out, "test")
    assert read_labels(out) == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    assert read_target(out).task == "entities"
    assert test.texts[0].endswith(" in New York")
    assert json.loads(test.labels[0])[1][2] == "LOC"
    assert read_report(out)["num_labels"] == 2
    assert read_report(out)["splits"]["test"]["labels"] == {"LOC": len(test), "PER": len(test)}


def test_tags_that_do_not_go_with_their_words_are_refused_with_what_was_got(made):
    rows = tagged_rows()
    rows[7] = {"tokens": ["New", "York"], "tags": ["B-LOC"]}
    with pytest.raises(DataError, match=r"2 list values .*1 list values .* in 1 rows.*list of words") as caught:
        made(rows, text="tokens", label="tags", task="entities")
    assert "all.jsonl:8" in str(caught.value)


def test_words_in_a_text_column_lead_to_the_task_that_reads_them(made):
    with pytest.raises(DataError, match=r"holds list values .* set data.task to entities"):
        made([{"tokens": ["hi"], "label": f"{at % 2}"} for at in range(60)], text="tokens")


def test_broken_unicode_in_a_word_is_found(made):
    rows = [*tagged_rows(), {"tokens": ["\ud800"], "tags": ["O"]}]
    with pytest.raises(DataError, match="surrogate"):
        made(rows, text="tokens", label="tags", task="entities")
