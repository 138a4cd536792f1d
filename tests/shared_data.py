"""Real sets, where they lie beside the project or in RETORT_TEST_DATA; tests that need one skip without it."""

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("RETORT_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data")


def data_folder(name: str) -> Path:
    """The folder of a set, or a skipped test."""
    if not (DATA / name).is_dir():
        pytest.skip(f"{DATA / name} is not there; set RETORT_TEST_DATA")
    return DATA / name
