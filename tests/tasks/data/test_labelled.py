import pytest

from bento.errors import DataError
from tasks.data.labelled import Columns, read_labelled

TABLE = "text,label,channel\nmy card is lost,lost,mail\nMy card is LOST,lost,chat\nwhere is it,where,\n"


def test_rows_columns_and_findings_of_a_file_or_of_a_folders_test_part(tmp_path):
    (tmp_path / "test.csv").write_text(TABLE)
    (tmp_path / "train.csv").write_text("text,label\nother,lost\n")
    for path in (tmp_path, tmp_path / "test.csv"):
        split, further, findings = read_labelled(path, Columns())
        assert split.texts == ("my card is lost", "where is it")
        assert split.labels == ("lost", "where")
        assert further == {"channel": ["mail", ""]}
        assert [finding.kind for finding in findings] == ["duplicate"]


def test_columns_may_have_other_names_and_texts_may_be_pairs(tmp_path):
    path = tmp_path / "rows.tsv"
    path.write_text("a\tb\tintent\none\ttwo\tx\n")
    split, _, _ = read_labelled(path, Columns(text="a", text_pair="b", label="intent"))
    assert (split.texts, split.labels) == ((("one", "two"),), ("x",))


def test_a_missing_column_and_a_folder_without_a_test_part_are_refused(tmp_path):
    (tmp_path / "rows.csv").write_text("sentence,label\nmy card,lost\n")
    with pytest.raises(DataError, match=r"no column 'text'; it has sentence, label. Set data.text"):
        read_labelled(tmp_path / "rows.csv", Columns())
    with pytest.raises(DataError, match=r"expected one file named test .* got rows.csv"):
        read_labelled(tmp_path, Columns())
    with pytest.raises(DataError, match="no such file"):
        read_labelled(tmp_path / "none.csv", Columns())
