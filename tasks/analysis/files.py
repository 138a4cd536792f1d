"""The files of an error analysis: every table whole as CSV, and `analysis.json` with what the report shows of them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.analysis import calibrated
from tasks.tables import Rows, write_table

ANALYSIS_FILE = "analysis.json"
NUM_SHOWN = 12

Tables = dict[str, tuple[tuple[str, ...], Rows]]
"""Name -> columns and rows."""


def write_analysis(out: Path, tables: Tables, found: Mapping[str, Any]) -> None:
    """Write the tables, and `found` with the beginning of each."""
    for name, (columns, rows) in tables.items():
        write_table(out / f"{name}.csv", columns, rows)
    beginnings = {
        "num": {name: len(rows) for name, (_, rows) in tables.items()},
        "tables": {name: _shown(name, rows) for name, (_, rows) in tables.items()},
    }
    text = json.dumps({**found, **beginnings}, indent=1, ensure_ascii=False)
    (out / ANALYSIS_FILE).write_text(text, encoding="utf-8")


def read_analysis(folder: Path) -> dict[str, Any]:
    """What the report shows."""
    found: dict[str, Any] = json.loads((folder / ANALYSIS_FILE).read_text(encoding="utf-8"))
    return found


def _shown(name: str, rows: Rows) -> Rows:
    """What of a table the report shows: its beginning, all slices, or a thinned curve."""
    if name == "slices":
        return rows
    if name == "coverage":
        return calibrated.thinned(rows)
    if name == "flips":
        return [row for flip in ("lost", "gained") for row in [r for r in rows if r["flip"] == flip][:NUM_SHOWN]]
    return rows[:NUM_SHOWN]
