"""Tables for people: CSV files that any spreadsheet opens."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write `rows` as UTF-8 CSV with a header, also where there are none. Floats are rounded to six places."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_cell(row[column]) for column in columns] for row in rows)


def shown(text: Any) -> str:
    """A text as a cell shows it; a pair has its halves divided by a bar."""
    return text if isinstance(text, str) else " | ".join(text)


def _cell(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else value
