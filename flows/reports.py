"""Which report a person means: that of a build, of a look at the traffic, or of an experiment."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from bento import settings
from bento.errors import UserError

Kind = Literal["build", "look", "experiment"]

FOLDERS: Mapping[Kind, str] = {
    "look": r"-look-(\d+|repeated)",
    "experiment": r"-experiment-\d+",
    "build": r"-[0-9a-f]{0,16}",
}
"""How a folder's name goes on after the model's."""
MOST_LISTED = 20


def find_report(target: str, kind: Kind | None = None) -> Path:
    """The newest report of the model `target` and of this kind, or the one whose folder is or begins with `target`.

    Without a kind it is that of the newest build, or where there is none of the newest look or experiment.
    Raises: UserError listing those there are.
    """
    root = settings.home() / "reports"
    found = sorted(root.glob("*/report.html"), key=lambda path: path.stat().st_mtime, reverse=True)
    for wanted in [kind] if kind else get_args(Kind):
        for path in found:
            if re.fullmatch(re.escape(target) + FOLDERS[wanted], path.parent.name):
                return path
    for path in found:
        if kind is None and target and path.parent.name.startswith(target):
            return path
    known = ", ".join(path.parent.name for path in found[:MOST_LISTED]) or "none"
    what = f"a model's name with a report of kind {kind}" if kind else "a model's name or one of the reports"
    raise UserError(f"report: expected {what} in {root}, got {target!r}; there are: {known}")
