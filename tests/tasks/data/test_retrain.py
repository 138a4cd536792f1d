"""What a retrain adds to the source: which text may train, judge or neither, and classes that did not exist."""

import json
from pathlib import Path
from typing import Any

import pytest

from bento.errors import DataError
from tasks.data import (
    FRESH,
    DataConfig,
    has_fresh,
    prepare,
    read_labels,
    read_report,
    read_split,
    read_times,
    read_unlabelled,
    row_id,
)
from tasks.data.retrain import ASSEMBLED, LABELLED, TEXTS, TrafficConfig
from tasks.data.split import unit_hash

SPLITS = ("train", "validation", "test", FRESH)
SOURCE = [{"text": f"message {at}", "label": f"label {at % 3}"} for at in range(300)]


def labelled(text: str, label: str = "label 1", *, drawn: bool = True) -> dict[str, Any]:
    return {"text": text, "label": label, "drawn": drawn}


@pytest.fixture
def made(tmp_path: Path) -> Any:
    """Prepare the source, with traffic where some is given; gives the output folder."""
    source = _write(tmp_path / "all.jsonl", SOURCE)
    numbers = iter(range(100))

    def run(rows: list[Any] | None = None, texts: list[Any] | None = None, **retrain: Any) -> Path:
        out = tmp_path / f"out{next(numbers)}"
        out.mkdir()
        more = None
        if rows is not None:
            more = out.with_suffix(".traffic")
            more.mkdir()
            _write(more / LABELLED, rows)
            _write(more / TEXTS, texts or [])
            (more / ASSEMBLED).write_text(json.dumps({"num_labels": len(rows)}), encoding="utf-8")
        prepare(DataConfig(source=str(source)), out, more=more, retrain=TrafficConfig(**retrain))
        return out

    return run


def _write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def split_of_text(folder: Path) -> dict[str, str]:
    names = [name for name in SPLITS if name != FRESH or has_fresh(folder)]
    return {row: name for name in names for row in read_split(folder, name).ids}


def test_the_id_of_a_drawn_text_sends_it_to_training_validation_or_the_fresh_holdout_for_ever(made: Any) -> None:
    rows = [labelled(f"fresh {at}") for at in range(200)]
    first, later = split_of_text(made(rows[:100])), split_of_text(made(rows))
    assert all(later[row] == split for row, split in first.items())
    assert {row: split for row, split in later.items() if split == FRESH}.keys() == {
        row_id(row["text"]) for row in rows if unit_hash(row_id(row["text"])) < 0.3
    }
    assert split_of_text(made()).items() <= later.items(), "no row of the source moves"


def test_labels_that_were_not_drawn_at_random_never_judge_and_their_held_out_texts_never_train(made: Any) -> None:
    rows = [labelled(f"fresh {at}", drawn=False) for at in range(100)]
    out = made(rows)
    held = {row_id(row["text"]) for row in rows if unit_hash(row_id(row["text"])) < 0.3}
    assert (len(read_split(out, FRESH)), held & split_of_text(out).keys()) == (0, set())
    assert read_report(out)["retrain"]["unused"] == {"held_out_but_not_drawn_at_random": len(held)}


def test_the_frozen_test_keeps_its_rows_and_labels_and_none_of_its_texts_trains(made: Any) -> None:
    test = read_split(made(), "test")
    out = made(
        [labelled(text.upper(), "label 2") for text in test.texts] + [labelled(f"fresh {at}") for at in range(50)],
        holdout=0.1,
    )
    assert read_split(out, "test") == test
    assert not set(test.ids) & set(read_split(out, "train").ids)
    judged = set(test.ids) & set(read_split(out, FRESH).ids)
    assert {row for row in test.ids if unit_hash(row) < 0.1} == judged, "their new labels judge beside the old ones"
    assert read_report(out)["retrain"]["unused"] == {"in_the_frozen_test": len(test) - len(judged)}


def test_a_newer_label_replaces_that_of_a_training_text_which_then_counts_as_new(made: Any) -> None:
    train = read_split(made(), "train")
    out = made([labelled(train.texts[0], "label 0" if train.labels[0] != "label 0" else "label 1", drawn=False)])
    after = read_split(out, "train")
    assert after.ids == train.ids
    assert after.labels[0] != train.labels[0]
    assert read_times(out).tolist() == [3] + [1] * (len(train) - 1)
    assert read_report(out)["retrain"]["num_source"] == 300 - 1


def test_a_first_build_sees_every_row_once_and_has_no_fresh_holdout(made: Any) -> None:
    out = made()
    assert (set(read_times(out).tolist()), has_fresh(out), read_unlabelled(out)) == ({1}, False, [])
    with pytest.raises(DataError, match="expected one of the splits"):
        read_split(out, FRESH)


def test_a_new_class_with_enough_rows_is_learnt_and_one_with_too_few_is_left_out_by_name(made: Any) -> None:
    many = [labelled(f"many {at}", "label 9") for at in range(60)]
    few = [labelled(f"few {at}", "label 8") for at in range(10)]
    out = made(many + few)
    retrain = read_report(out)["retrain"]
    num_train = sum(label == "label 9" for label in read_split(out, "train").labels)
    assert read_labels(out) == ("label 0", "label 1", "label 2", "label 9")
    assert retrain["new_classes"] == {"label 9": num_train}
    assert list(retrain["left_out_classes"]) == ["label 8"]
    assert "label 8" not in {label for name in SPLITS for label in read_split(out, name).labels}
    assert "label 9" in read_split(out, FRESH).labels
    told = {finding["kind"]: finding["message"] for finding in read_report(out)["findings"]}
    assert "label 9" in told["new_class"]
    assert "fewer than 20 training rows and are left out: label 8" in told["rare_new_class"]


def test_texts_without_labels_are_in_no_split_and_not_among_those_held_out_for_ever(made: Any) -> None:
    base = made()
    known = [read_split(base, name).texts[0] for name in ("train", "validation", "test")]
    unknown = [f"unlabelled {at}" for at in range(100)]
    rows = [labelled(f"fresh {at}") for at in range(20)]
    out = made(rows, [*known, rows[0]["text"], *unknown])
    assert set(read_unlabelled(out)) == {text for text in unknown if unit_hash(row_id(text)) >= 0.3}
    assert read_report(out)["retrain"]["num_texts"] == len(read_unlabelled(out))


def test_traffic_of_which_nothing_may_train_is_refused_with_the_reasons(made: Any) -> None:
    test = read_split(made(), "test").texts
    with pytest.raises(DataError, match=r"of the labelled texts none may train .*in_the_frozen_test"):
        made([labelled(text, drawn=False) for text in test])


def test_pairs_among_single_texts_are_left_out_and_counted(made: Any) -> None:
    out = made([labelled(f"fresh {at}") for at in range(20)] + [labelled("a", drawn=False) | {"text_pair": "b"}])
    assert read_report(out)["retrain"]["unused"] == {"other_form": 1}
