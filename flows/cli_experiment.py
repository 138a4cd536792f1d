"""`retort experiment NAME`: what runs under a name, live; and how to start, look at and stop it by hand."""

import getpass
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from bento.errors import UserError
from flows.terminal import AsJson, Name, Why, console, print_json

REFRESH_S = 2.0


def experiment(
    name: Name,
    start: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Try this version against the champion; needs --config")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="The config whose release.experiment says how")] = None,
    look: Annotated[bool, typer.Option("--look", help="Take a look now, with what follows from it")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="End it without a verdict; the champion stays")] = False,
    once: Annotated[bool, typer.Option("--once", help="Print it once rather than live")] = False,
    as_json: AsJson = False,
    why: Why = "by hand",
) -> None:
    """The experiment of NAME, live: evidence, labels, guardrails and state. It ends with Ctrl-C or with the verdict."""
    from bento.settings import configure

    configure()
    if sum((start is not None, look, stop)) > 1:
        raise UserError("experiment: expected one of --start, --look and --stop, got more; run one after the other")
    from flows import experiment as experiments

    if start is not None:
        experiments.start_by_hand(_settings(name, config), name, start, who=getpass.getuser(), why=why)
    elif stop:
        experiments.stop(name, who=getpass.getuser(), why=why)
    taken = experiments.look(name) if look else None
    found = taken if taken and taken["evidence"] else experiments.read_now(name)
    _show(found, live=not (once or as_json or look or stop or start is not None), as_json=as_json)


def _settings(name: str, config: Path | None) -> Any:
    """The experiment's settings. Raises: UserError."""
    from flows.config import load_config

    if config is None:
        raise UserError("experiment: --start needs --config FILE, whose release.experiment says how to try it")
    chosen = load_config(config)
    if chosen.name != name or chosen.release.experiment is None:
        raise UserError(f"{config}: expected the config of {name} with a release.experiment, got that of {chosen.name}")
    return chosen.release.experiment


def _show(found: dict[str, Any], *, live: bool, as_json: bool) -> None:
    from rich.live import Live

    from flows.experiment import read_now
    from flows.show_experiment import render

    if as_json:
        print_json(found)
        return
    if not live:
        console.print(render(found))
        return
    with Live(render(found), console=console, auto_refresh=False) as shown:
        while found["phase"] != "ended":
            try:
                time.sleep(REFRESH_S)
            except KeyboardInterrupt:
                return
            found = read_now(found["name"])
            shown.update(render(found), refresh=True)
