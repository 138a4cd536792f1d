"""One labelled file, or the test part of a folder, as rows to judge models on, without making splits of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import field_validator, model_validator

from bento.errors import DataError
from bento.task_types import Task
from tasks.data.files import SUFFIXES, read_table
from tasks.data.rows import Finding, Findings, listed
from tasks.data.source import NAMES, DataConfig, check_columns
from tasks.data.validate import drop_repeated, rows_of
from tasks.types import Section, Split


class Columns(Section):
    """What the columns of a labelled file are called, and what they hold."""

    text: str = "text"
    """Column of the text."""
    label: str = "label"
    """Column of the truth, as the task has it."""
    text_pair: str | None = None
    """Column of the second text, for sentence pairs."""
    task: Task | None = None
    """What a text has; null takes what the model says that it answers, or single_label where it says nothing."""
    scale: tuple[float, float] | None = None
    """Of scores: both ends of their scale; null takes those of a Retort model, or else those of the rows."""

    @field_validator("scale", mode="before")
    @classmethod
    def _as_tuple(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        """Raises: ValueError."""
        check_columns(self.text, self.label, self.text_pair, self.task)
        if self.scale is not None and not self.scale[0] < self.scale[1]:
            raise ValueError(f"data.scale: expected the lower end and then the upper one, got {list(self.scale)}")
        return self


def read_labelled(
    path: Path, columns: Columns, task: Task = "single_label"
) -> tuple[Split, dict[str, list[object]], list[Finding]]:
    """The rows, their other columns, and what was found wrong with them; repeated texts count once.

    Raises: DataError with all faults at once.
    """
    file = _test_file(path) if path.is_dir() else path
    check_columns(columns.text, columns.label, columns.text_pair, task)
    config = DataConfig(
        source=str(file), text=columns.text, label=columns.label, text_pair=columns.text_pair, task=task
    )
    findings = Findings()
    rows = rows_of({"test": [read_table(file, config.columns)]}, config, findings)
    findings.raise_errors(str(file))
    rows = drop_repeated(rows, findings)
    findings.raise_errors(str(file))
    names = dict.fromkeys(name for row in rows for name in row.further)
    split = Split(
        name="test",
        ids=tuple(row.id for row in rows),
        texts=tuple(row.text if row.text_pair is None else (row.text, row.text_pair) for row in rows),
        labels=tuple(row.label for row in rows),
    )
    return split, {name: [row.further.get(name) for row in rows] for name in names}, findings.found


def _test_file(folder: Path) -> Path:
    """The one file of a folder that is its test part. Raises: DataError."""
    present: Sequence[Path] = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    found = [path for path in present if path.stem.lower() in NAMES["test"]]
    if len(found) != 1:
        raise DataError(
            f"{folder}: expected one file named test with one of the endings {', '.join(SUFFIXES)}, got "
            f"{listed(path.name for path in present) or 'no such files'}; name the labelled file itself"
        )
    return found[0]
