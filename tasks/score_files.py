"""Rows of CSV, TSV, JSON Lines and Parquet files, read one by one and written in pieces, `.gz` behind all but Parquet.

A row is a dictionary of its columns. What cannot be a row comes as a `Bad` one in its place, so that the numbers hold.
"""

import csv
import gzip
import io
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import orjson

from bento.errors import DataError

SEPARATORS = {".csv": ",", ".tsv": "\t"}
MAX_CELL_CHARACTERS = 10_000_000
"""More in a cell is a quote that was never closed; a text that is too long is told of its row alone."""
FORMATS = (*SEPARATORS, ".jsonl", ".parquet")
READ_ROWS = 4_096
"""Rows that a Parquet file is read in at once."""

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Bad:
    """What stood in a row's place, and what was expected there."""

    reason: str
    content: Any


def file_format(path: Path) -> str:
    """Such as `.csv`, whether or not it is compressed. Raises: DataError."""
    found = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if found not in FORMATS or path.name.endswith(".parquet.gz"):
        raise DataError(
            f"{path}: expected a name ending in .csv, .tsv, .jsonl or .parquet, or in .gz behind one of the first three"
        )
    return found


def read_rows(path: Path) -> Iterator[Row | Bad]:
    """The rows in order, one at a time. Raises: DataError when the file as a whole cannot be read."""
    form = file_format(path)
    try:
        if form == ".parquet":
            yield from _parquet_rows(path)
        else:
            with _open(path) as file:
                yield from _csv_rows(file, SEPARATORS[form]) if form in SEPARATORS else _json_rows(file)
    except DataError:
        raise
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: could not be read: expected UTF-8, {error}; save it as UTF-8") from error
    except (ValueError, OSError, EOFError, csv.Error) as error:
        raise DataError(f"{path}: could not be read: {error}") from error


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _csv_rows(file: TextIO, separator: str) -> Iterator[Row | Bad]:
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    reader = csv.reader(file, delimiter=separator, strict=True)
    columns = next(reader, None)
    if columns is None:
        return
    _check_names(file.name, columns)
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(
                f"{file.name}: could not be read: line {reader.line_num}: {error}; is a quote open?"
            ) from error
        if len(fields) == len(columns):
            yield dict(zip(columns, fields, strict=True))
        elif fields:
            yield Bad(reason=f"expected {len(columns)} columns, got {len(fields)}", content=fields)


def _check_names(path: str, columns: Sequence[str]) -> None:
    """Raises: DataError for columns that a row, by its names, could not tell apart."""
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise DataError(f"{path}: expected a name of its own for each column, got {', '.join(map(repr, twice))} twice")


def _json_rows(file: TextIO) -> Iterator[Row | Bad]:
    for line in file:
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            yield Bad(reason=f"expected JSON, got something else: {error}", content=line.rstrip("\n"))
            continue
        yield row if isinstance(row, dict) else Bad(reason="expected a JSON object", content=row)


def _parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        _check_names(str(path), file.schema_arrow.names)
        for batch in file.iter_batches(READ_ROWS):
            yield from batch.to_pylist()


def parquet_schema(path: Path) -> Any:
    """The columns' types of a Parquet file, without what other libraries noted about its rows."""
    import pyarrow.parquet as pq

    return pq.read_schema(path).remove_metadata()


def write_piece(rows: Sequence[Row], path: Path, form: str, *, header: bool = False, schema: Any = None) -> None:
    """Rows, which but for JSON Lines have the same columns, as a piece of an output.

    `header` is for a CSV file's first piece, `schema` for the types of a Parquet file. Raises: DataError.
    """
    if form == ".parquet":
        _write_parquet(rows, path, schema)
    elif form == ".jsonl":
        path.write_bytes(b"".join(orjson.dumps(row, default=str) + b"\n" for row in rows))
    else:
        path.write_text(_csv_text(rows, SEPARATORS[form], header), encoding="utf-8", newline="")


def _csv_text(rows: Sequence[Row], separator: str, header: bool) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=separator, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows({name: _plain(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _plain(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict) else value


def _write_parquet(rows: Sequence[Row], path: Path, schema: Any) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"expected one type a column, as Parquet files have: {error}; name an output that ends in .jsonl"
        ) from error


def join(pieces: Sequence[Path], out: Path, form: str, *, compressed: bool) -> None:
    """The pieces as one file: text one behind the other, of Parquet a row group each."""
    if form == ".parquet":
        _join_parquet(pieces, out)
        return
    with out.open("wb") as raw:
        # Neither name nor time goes into the file, so that the same pieces give the same bytes.
        file: Any = gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) if compressed else raw
        for piece in pieces:
            with piece.open("rb") as source:
                shutil.copyfileobj(source, file)
        file.close()


def _join_parquet(pieces: Sequence[Path], out: Path) -> None:
    import pyarrow.parquet as pq

    with pq.ParquetWriter(out, parquet_schema(pieces[0])) as writer:
        for piece in pieces:
            writer.write_table(pq.read_table(piece))


def with_answers(schema: Any, answers: Mapping[str, Sequence[Any]]) -> Any:
    """A Parquet file's schema with the columns of the answers, in their places."""
    import pyarrow as pa

    for name, values in answers.items():
        field = pa.field(name, pa.array(values).type)
        at = schema.get_field_index(name)
        schema = schema.append(field) if at < 0 else schema.set(at, field)
    return schema
