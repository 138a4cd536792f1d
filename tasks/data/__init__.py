"""The labelled text: read, validated, split for ever by row id, and written as Parquet."""

from tasks.data.parts import (
    FRESH,
    has_fresh,
    read_column,
    read_labels,
    read_report,
    read_split,
    read_target,
    read_times,
    read_unlabelled,
)
from tasks.data.prepare import prepare
from tasks.data.rows import row_id
from tasks.data.source import DataConfig, fingerprint

__all__ = [
    "FRESH",
    "DataConfig",
    "fingerprint",
    "has_fresh",
    "prepare",
    "read_column",
    "read_labels",
    "read_report",
    "read_split",
    "read_target",
    "read_times",
    "read_unlabelled",
    "row_id",
]
