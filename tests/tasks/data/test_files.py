import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bento.errors import DataError
from tasks.data import files
from tasks.data.files import read_table

WANTED = ("text", "label")


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_quotes_commas_and_line_breaks_in_a_text_survive_and_lines_are_counted(tmp_path):
    path = write(tmp_path / "a.csv", 'text,label\n"one, ""two""\nthree",x\nNA,null\n')
    assert read_table(path, WANTED).records == [
        (2, {"text": 'one, "two"\nthree', "label": "x"}),
        (4, {"text": "NA", "label": "null"}),
    ]


def test_a_cell_is_as_long_as_it_is(tmp_path):
    """The limit of texts is another's to tell, and to tell of all that break it."""
    found = read_table(write(tmp_path / "a.csv", f"text,label\n{'a ' * 100_000},x\n"), WANTED)
    assert len(found.records[0][1]["text"]) == 200_000


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_delimiter_of_a_csv_is_told_by_its_header(tmp_path, delimiter):
    path = write(tmp_path / "a.csv", f"text{delimiter}label\r\nhello{delimiter}x\r\n")
    assert read_table(path, WANTED).records == [(2, {"text": "hello", "label": "x"})]


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    path = write(tmp_path / "a.csv", b"\xef\xbb\xbftext,label\nhello,x\n")
    assert read_table(path, WANTED).columns == WANTED


def test_an_unquoted_tsv_with_quotation_marks_is_read_and_noted(tmp_path):
    path = write(tmp_path / "a.tsv", 'text\tlabel\n"quoted" start\tx\n"open\ty\n')
    table = read_table(path, WANTED)
    assert [values["text"] for _, values in table.records] == ['"quoted" start', '"open']
    assert "plain characters" in table.notes[0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"text,label\nfine,x\ncaf\xe9,x\n", r"not UTF-8 in 1 of its lines \(line 3, byte 21: b'\\xe9"),
        ("a.csv", b"", "is empty"),
        ("a.csv", b"\n", "expected a header line"),
        ("a.csv", b"text,label\n", "no rows"),
        ("a.jsonl", b"\n\n", "is empty"),
        ("a.csv", b"text,label\na,x\nb\nc,x,y\n", r"2 rows do not have the 2 fields .*line 3 has 1; line 4 has 3"),
        ("a.csv", b'text,label\na,x\n"never closed,x\nb,x\n', r"a\.csv:3: malformed row"),
        ("a.csv", b"text,text\na,x\n", "named twice: text"),
        (
            "a.jsonl",
            b'{"text": "a"}\n{"text": \n[1]\n',
            r"2 lines are not JSON objects \(line 2: .*line 3: expected an object",
        ),
        ("a.parquet", b"PAR1 but not really", "readable Parquet"),
        ("a.xlsx", b"x", r"expected a file named \*\.csv"),
    ],
)
def test_a_broken_file_is_named_with_the_place_of_its_fault(tmp_path, name, content, message):
    path = write(tmp_path / name, content)
    with pytest.raises(DataError, match=message):
        read_table(path, WANTED)


def test_a_file_above_the_size_limit_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 10)
    with pytest.raises(DataError, match="at most 10 are read"):
        read_table(write(tmp_path / "a.csv", "text,label\na,x\n"), WANTED)


def test_json_lines_and_parquet_give_the_same_records(tmp_path):
    rows = [{"text": "a", "label": 1}, {"text": "b", "label": 2}]
    lines = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert read_table(lines, WANTED).records == read_table(tmp_path / "a.parquet", WANTED).records
