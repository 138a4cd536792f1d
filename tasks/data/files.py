"""CSV, TSV, JSON Lines and Parquet -> records with their line numbers.

The standard library parses CSV and JSON here, because an error has to name the line and pandas' parsers do not tell
it; it also keeps values such as `NA` and `null` as the text that they are.
"""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bento.errors import DataError
from tasks.data.rows import NUM_EXAMPLES, listed

MAX_FILE_BYTES = 2 * 2**30
DELIMITERS = (",", ";", "\t")
SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")

Record = tuple[int, dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Table:
    """One file's records, each with its line, and the columns in their order."""

    file: str
    columns: tuple[str, ...]
    records: list[Record]
    notes: tuple[str, ...] = ()
    """What was unusual about the file and how it was read."""


def read_table(path: Path, wanted: Sequence[str]) -> Table:
    """Read one file; `wanted` columns help to tell its delimiter. Raises: DataError naming file and lines."""
    check_file(path)
    if path.suffix.lower() == ".parquet":
        table = _read_parquet(path)
    else:
        _check_utf8(path)
        table = _read_json_lines(path) if path.suffix.lower() == ".jsonl" else _read_delimited(path, wanted)
    if not table.records:
        raise DataError(f"{path} has no rows below its header" if table.columns else f"{path} is empty")
    return table


def check_file(path: Path) -> None:
    """Existing, of a known kind, neither empty nor too big. Raises: DataError."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path}: expected a file named *{', *'.join(SUFFIXES)}; got *{path.suffix or path.name}")
    size_bytes = path.stat().st_size
    if size_bytes == 0:
        raise DataError(f"{path} is empty")
    if size_bytes > MAX_FILE_BYTES:
        raise DataError(f"{path} has {size_bytes:,} bytes; at most {MAX_FILE_BYTES:,} are read. Take a sample of it")


def _check_utf8(path: Path) -> None:
    faults: list[str] = []
    num_faults, offset = 0, 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                num_faults += 1
                if len(faults) < NUM_EXAMPLES:
                    faults.append(
                        f"line {number}, byte {offset + error.start}: {line[error.start : error.start + 4]!r}"
                    )
            offset += len(line)
    if faults:
        raise DataError(
            f"{path} is not UTF-8 in {num_faults:,} of its lines ({'; '.join(faults)}); "
            "convert it, for instance with `iconv -f latin1 -t utf-8` or `iconv -f utf-16 -t utf-8`"
        )


def _read_delimited(path: Path, wanted: Sequence[str]) -> Table:
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = file.readline()
    if not first.strip():
        raise DataError(f"{path}:1: expected a header line with the column names, got an empty line")
    delimiter = "\t" if path.suffix.lower() == ".tsv" else _delimiter(first, wanted)
    try:
        return _parse_delimited(path, delimiter, csv.QUOTE_MINIMAL)
    except DataError:
        if delimiter != "\t":
            raise
    # Many TSV files (those of GLUE, for one) do not quote at all: a quotation mark is then a plain character.
    table = _parse_delimited(path, delimiter, csv.QUOTE_NONE)
    note = f"{path.name}: quotation marks were read as plain characters, since they do not pair up as CSV quotes"
    return Table(file=table.file, columns=table.columns, records=table.records, notes=(note,))


def _delimiter(header: str, wanted: Sequence[str]) -> str:
    """The first delimiter under which the header has all wanted columns; a comma if none does."""
    for delimiter in DELIMITERS:
        if set(wanted) <= {name.strip() for name in next(csv.reader([header], delimiter=delimiter))}:
            return delimiter
    return ","


def _parse_delimited(path: Path, delimiter: str, quoting: Any) -> Table:
    records: list[Record] = []
    ragged: list[str] = []
    csv.field_size_limit(MAX_FILE_BYTES)  # what is too long for a text is told with the limit of texts
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = _delimited_lines(path, csv.reader(file, delimiter=delimiter, quoting=quoting, strict=True))
        columns = tuple(name.strip() for name in next(lines)[1])
        _check_header(path, columns)
        for line, values in lines:
            if len(values) == len(columns):
                records.append((line, dict(zip(columns, values, strict=True))))
            else:
                ragged.append(f"line {line} has {len(values)}")
    if ragged:
        raise DataError(
            f"{path}: {len(ragged):,} rows do not have the {len(columns)} fields of the header "
            f"({'; '.join(ragged[:NUM_EXAMPLES])}); put texts with {delimiter!r} or line breaks in double quotes"
        )
    return Table(file=path.name, columns=columns, records=records)


def _delimited_lines(path: Path, reader: Any) -> Iterator[tuple[int, list[str]]]:
    """The line on which each record starts, and its values; blank lines are skipped."""
    while True:
        start = reader.line_num + 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(
                f"{path}:{start}: malformed row: {error}; a double quote inside a quoted text is written twice, "
                "and each quoted text must be closed"
            ) from error
        if values:
            yield start, values


def _check_header(path: Path, columns: Sequence[str]) -> None:
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise DataError(f"{path}:1: columns named twice: {listed(twice)}; give each column its own name")


def _read_json_lines(path: Path) -> Table:
    records: list[Record] = []
    faults: list[str] = []
    columns: dict[str, None] = {}
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                values = json.loads(line)
            except (ValueError, RecursionError) as error:
                faults.append(f"line {number}: {error}")
                continue
            if isinstance(values, dict):
                records.append((number, values))
                columns |= dict.fromkeys(values)
            else:
                faults.append(f"line {number}: expected an object {{...}}, got {type(values).__name__}")
    if faults:
        raise DataError(
            f"{path}: {len(faults):,} lines are not JSON objects ({'; '.join(faults[:NUM_EXAMPLES])}); "
            "JSON Lines has one object a line"
        )
    return Table(file=path.name, columns=tuple(columns), records=records)


def _read_parquet(path: Path) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: expected a readable Parquet file, got: {error}") from error
    records = list(enumerate(table.to_pylist(), start=1))
    return Table(file=path.name, columns=tuple(table.column_names), records=records)
