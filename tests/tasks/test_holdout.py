from dataclasses import replace

import pytest
from sqlalchemy.exc import IntegrityError

from tasks.holdout import holdout_sha256, note_use
from tasks.types import Split

ROWS = Split(name="test", ids=("a", "b"), texts=("one", "two"), labels=("x", "y"))


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("RETORT_HOME", str(tmp_path))


def test_each_model_is_counted_once():
    assert [note_use(ROWS, model_sha256=model, name="m") for model in ("1", "2", "1", "3")] == [1, 2, 2, 3]


def test_a_row_that_the_database_refuses_is_not_taken_for_one_that_is_there():
    with pytest.raises(IntegrityError):
        note_use(ROWS, model_sha256=None, name="m")  # type: ignore[arg-type]


def test_other_rows_and_other_labels_are_another_holdout():
    note_use(ROWS, model_sha256="1", name="m")
    assert note_use(replace(ROWS, labels=("x", "x")), model_sha256="1", name="m") == 1
    assert note_use(replace(ROWS, ids=("a", "c")), model_sha256="2", name="m") == 1


def test_the_order_of_the_rows_does_not_matter():
    turned = Split(name="test", ids=("b", "a"), texts=("two", "one"), labels=("y", "x"))
    assert holdout_sha256(turned) == holdout_sha256(ROWS)
