"""Template -> one self-contained file."""

import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any
from uuid import uuid4

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from tasks.report.theme import DARK, LIGHT, css_variables


def write_page(template: str, view: Mapping[str, Any], path: Path) -> Path:
    """Render `template` and put it at `path` in one move; a reader never sees half a page.

    In HTML everything is escaped; Markdown does so with the filter `cell`.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(["html"]),  # labels and texts come from anybody's data
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = markdown_cell
    text = environment.get_template(template).render(light=css_variables(LIGHT), dark=css_variables(DARK), **view)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}-{uuid4().hex[:8]}.tmp")
    temporary.write_text(text, encoding="utf-8", errors="replace")
    temporary.replace(path)
    return path


def markdown_cell(text: Any) -> str:
    """Anybody's text as it is, on one line of Markdown: no tags, links or emphasis, no new cells."""
    return re.sub(r"[\\|`*\[\]]", r"\\\g<0>", escape(" ".join(str(text).split()), quote=False))
