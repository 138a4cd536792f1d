"""Template -> one self-contained HTML file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tasks.report.theme import DARK, LIGHT, css_variables


def write_page(template: str, view: Mapping[str, Any], path: Path) -> Path:
    """Render `template` with everything escaped and put it at `path` in one move; a reader never sees half a page."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # labels and texts come from anybody's data
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template(template).render(light=css_variables(LIGHT), dark=css_variables(DARK), **view)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}-{uuid4().hex[:8]}.tmp")
    temporary.write_text(html, encoding="utf-8", errors="replace")
    temporary.replace(path)
    return path
