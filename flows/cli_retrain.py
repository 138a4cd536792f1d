"""`retort retrain`: by hand what the monitor's harm event starts."""

from pathlib import Path
from typing import Annotated

import typer

from flows.terminal import EXIT_CODES, AsJson, Overrides, Why, run_flow, show, start_logging


def retrain(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The config of a served model")],
    overrides: Overrides = None,
    as_json: AsJson = False,
    why: Why = "a retrain started by hand",
    look: Annotated[int | None, typer.Option(help="Number of the look that found harm; repeats its retrain")] = None,
) -> None:
    """Build again with the labels and texts of the traffic, judged on the frozen test and on fresh traffic."""
    from flows.config import load_config

    load_config(config, overrides)
    start_logging()
    from flows.retrain import retrain as start
    from flows.show import show_build

    result = run_flow(lambda: start(str(config.resolve()), overrides, why, look))
    show(result, show_build, as_json=as_json)
    raise typer.Exit(EXIT_CODES[result["outcome"]])
