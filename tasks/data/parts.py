"""The layout of a data artifact: three Parquet files, the label names, the target and the report."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bento.errors import DataError
from bento.task_types import Target
from tasks.data.rows import Row
from tasks.types import SPLITS, Split

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FRESH = "fresh"
"""The split of a retrain beside the three: recent traffic that no model was trained on."""
UNLABELLED_FILE = "unlabelled.jsonl"
OWN_COLUMNS = ("id", "text", "text_pair", "label", "origin", "source_line")


def write_parts(
    out: Path,
    rows: Sequence[Row],
    labels: Sequence[str],
    target: Target,
    report: dict[str, Any],
    *,
    texts: Sequence[Any] | None = None,
) -> None:
    """Write `train.parquet`, `validation.parquet`, `test.parquet`, `labels.json`, `target.json` and `report.json`.

    Rows are ordered by id: the same bytes whatever the order of the source, and shuffled, since ids are hashes. The
    data of a retrain has `fresh.parquet` and, as `texts`, text without labels too.
    """
    columns = _further_columns(rows)
    for split in SPLITS if texts is None else (*SPLITS, FRESH):
        members = sorted((row for row in rows if row.split == split), key=lambda row: row.id)
        _write_part(out / f"{split}.parquet", members, columns)
    _write_json(out / "labels.json", list(labels))
    _write_json(out / "target.json", target.model_dump())
    _write_json(out / "report.json", report)
    if texts is not None:
        lines = (json.dumps(text, ensure_ascii=False) + "\n" for text in texts)
        (out / UNLABELLED_FILE).write_text("".join(lines), encoding="utf-8")


def read_split(folder: Path, name: str) -> Split:
    """One split of a data artifact. Raises: DataError for a name that it has not."""
    import pyarrow.parquet as pq

    if name not in SPLITS and not (name == FRESH and has_fresh(folder)):
        raise DataError(f"expected one of the splits {', '.join(SPLITS)}, got {name!r}")
    table = pq.read_table(folder / f"{name}.parquet", columns=["id", "text", "text_pair", "label"])
    values = {column: table.column(column).to_pylist() for column in table.column_names}
    texts = [
        text if pair is None else (text, pair) for text, pair in zip(values["text"], values["text_pair"], strict=True)
    ]
    return Split(name=name, ids=tuple(values["id"]), texts=tuple(texts), labels=tuple(values["label"]))


def has_fresh(folder: Path) -> bool:
    """Whether this is the data of a retrain, which has a fresh holdout, perhaps of no rows."""
    return (folder / f"{FRESH}.parquet").is_file()


def read_unlabelled(folder: Path) -> list[Any]:
    """Recent texts without labels, pairs as tuples; none in the data of a first build."""
    path = folder / UNLABELLED_FILE
    if not path.is_file():
        return []
    found = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [text if isinstance(text, str) else tuple(text) for text in found]


def read_times(folder: Path) -> "NDArray[np.int64]":
    """times_N: how often each training row is seen in a pass, newly labelled ones as often as the retrain says."""
    import numpy as np
    import pyarrow.parquet as pq

    weight = read_report(folder).get("retrain", {}).get("weight", 1)
    origins = pq.read_table(folder / "train.parquet", columns=["origin"]).column("origin").to_pylist()
    return np.where(np.array(origins) == "feedback", weight, 1).astype(np.int64)


def read_column(folder: Path, name: str, column: str) -> list[Any]:
    """Values of a further column of the source in one split. Raises: DataError naming the columns that it has."""
    import pyarrow.parquet as pq

    path = folder / f"{name}.parquet"
    columns = [known for known in pq.read_schema(path).names if known not in OWN_COLUMNS]
    if column not in columns:
        listed = ", ".join(columns) or "none"
        raise DataError(f"expected a column {column!r} beside text and label in the data, its others are: {listed}")
    values: list[Any] = pq.read_table(path, columns=[column]).column(column).to_pylist()
    return values


def read_labels(folder: Path) -> tuple[str, ...]:
    """The class names, sorted: the order of the model's outputs."""
    return tuple(json.loads((folder / "labels.json").read_text(encoding="utf-8")))


def read_target(folder: Path) -> Target:
    """What kind of truth the rows have."""
    return Target.model_validate_json((folder / "target.json").read_bytes())


def read_report(folder: Path) -> dict[str, Any]:
    """What was read, found, dropped and made of the source."""
    report: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return report


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _further_columns(rows: Sequence[Row]) -> dict[str, tuple[str, type]]:
    """Column of the source -> its name in the artifact, `source_` put before ours, and its one simple type."""
    kinds: dict[str, set[type]] = {}
    for row in rows:
        for name, value in row.further.items():
            kinds.setdefault(name, set())
            if value is not None:
                kinds[name].add(type(value))
    return {
        name: (f"source_{name}" if name in OWN_COLUMNS else name, next(iter(found)) if len(found) == 1 else str)
        for name, found in sorted(kinds.items())
    }


def _write_part(path: Path, rows: Sequence[Row], further: dict[str, tuple[str, type]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrow = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
    own = {name: [getattr(row, name) for row in rows] for name in OWN_COLUMNS[:-1]}
    columns = {name: pa.array(values, pa.string()) for name, values in own.items()}
    columns["source_line"] = pa.array([row.line for row in rows], pa.int64())
    for name, (written, kind) in further.items():
        values = [row.further.get(name) for row in rows]
        columns[written] = pa.array([None if value is None else kind(value) for value in values], arrow[kind])
    pq.write_table(pa.table(columns), path, compression="zstd")
