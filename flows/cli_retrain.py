"""`retort retrain`: by hand what the monitor's harm event starts."""

from pathlib import Path
from typing import Annotated

import typer


def retrain(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The config of a served model")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="a.b=value", help="Override one key; repeatable")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout")] = False,
    why: Annotated[str, typer.Option("--why", help="The reason, for the ledger")] = "a retrain started by hand",
    look: Annotated[int | None, typer.Option(help="Number of the look that found harm; repeats its retrain")] = None,
) -> None:
    """Build again with the labels and texts of the traffic, judged on the frozen test and on fresh traffic."""
    from flows.cli import EXIT_CODES, _print_json, _start_logging, _without_prefect_noise, console
    from flows.config import load_config

    load_config(config, overrides)
    _start_logging()
    from flows.retrain import retrain as start
    from flows.show import show_build

    result = _without_prefect_noise(lambda: start(str(config.resolve()), overrides, why, look))
    _print_json(result) if as_json else show_build(result, console)
    raise typer.Exit(EXIT_CODES[result["outcome"]])
