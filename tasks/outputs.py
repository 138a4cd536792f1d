"""A file that a command writes where its user says."""

import os
import tempfile
from pathlib import Path

from bento.errors import DataError

MAX_NAME_BYTES = 200
"""File systems take 255; the hidden file beside it that becomes it in the end has a longer name."""


def require_output(path: Path) -> None:
    """Make the folder of the file that will be put at `path`, before any work. Raises: DataError where none can be."""
    if len(os.fsencode(path.name)) > MAX_NAME_BYTES:
        raise DataError(f"{path}: expected a file name of at most {MAX_NAME_BYTES} bytes, got a longer one; shorten it")
    if path.is_dir():
        raise DataError(f"{path}: expected the name of a file to write, got a folder; name a file in it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise DataError(f"{path}: expected a place to write to, got: {error.strerror}; name another file") from error
