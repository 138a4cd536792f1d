"""What the commands share: options, exit codes, and where results and progress go."""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bento.errors import UserError

EXIT_CODES = {
    "promoted": 0,
    "experiment": 0,
    "passed": 0,
    "awaiting_approval": 0,
    "failed": 1,
    "blocked": 3,
    "inconclusive": 4,
}
"""By outcome."""


def _printable(name: str) -> str:
    """Raises: UserError for bytes that are no text, which no database takes."""
    if not name.isprintable():
        raise UserError(f"expected a model's name, got {name!r}; `retort status` lists names")
    return name


ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file such as configs/quickstart.yaml")]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="a.b=value", help="Override one key; repeatable")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The model's registered name", callback=_printable)]
Why = Annotated[str, typer.Option("--why", help="The reason, for the ledger")]

console = Console()
errors = Console(stderr=True)


def print_json(value: Any) -> None:
    """One document on stdout, as it is: never wrapped or coloured; "?" for bytes of a path that are no text."""
    import orjson

    try:
        document = orjson.dumps(value, default=str, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS)
    except orjson.JSONEncodeError:  # which an argument or a path that is not UTF-8 ends in
        document = json.dumps(value, default=str, indent=2, ensure_ascii=False).encode(errors="replace")
    print(document.decode())  # noqa: T201


def show(result: Any, table: Callable[[Any, Console], None], *, as_json: bool) -> None:
    """As one JSON document, or as the tables that `table` prints."""
    print_json(result) if as_json else table(result, console)


def run_flow(call: Callable[[], Any]) -> Any:
    """What a flow returns; what it prints goes to stderr, so that stdout is kept for the result."""
    from contextlib import redirect_stdout

    with redirect_stdout(sys.stderr):
        return call()


def start_logging() -> None:
    """Progress of our own loggers to stderr, and the homes of Prefect and MLflow set before they are imported."""
    from bento.settings import configure, home, make_folder

    configure()
    make_folder(home())
    logging.getLogger("retort").setLevel(logging.INFO)


def show_progress() -> None:
    """What our own loggers say and others warn of, on stderr, for commands that train without Prefect."""
    from rich.logging import RichHandler

    logging.getLogger("retort").setLevel(logging.INFO)
    root = logging.getLogger()  # without a handler of its own a library's first warning would add one of another form
    if not root.handlers:
        root.addHandler(RichHandler(console=errors, show_path=False, show_level=False))


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, moved by calls with the rows done and all of them."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
