"""The labelled text: read, validated, split for ever by row id, and written as Parquet."""

from tasks.data.parts import read_column, read_labels, read_report, read_split, read_target
from tasks.data.prepare import prepare
from tasks.data.rows import row_id
from tasks.data.source import DataConfig, fingerprint

__all__ = [
    "DataConfig",
    "fingerprint",
    "prepare",
    "read_column",
    "read_labels",
    "read_report",
    "read_split",
    "read_target",
    "row_id",
]
