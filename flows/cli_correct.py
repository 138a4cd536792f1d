"""`retort correct-prior`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from bento.errors import UserError
from flows.terminal import EXIT_CODES, AsJson, Overrides, Why, run_flow, show, start_logging


def read_prior(path: Path) -> dict[str, float]:
    """Class -> share of a JSON file. Raises: UserError."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(label): float(share) for label, share in found.items()}
    except (OSError, ValueError, AttributeError, TypeError, OverflowError) as error:
        raise UserError(
            f'{path}: expected a JSON object such as {{"refund": 0.7, "transfer": 0.3}}: {error}'
        ) from error


def correct_prior(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The config of the model to correct")],
    overrides: Overrides = None,
    prior: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Class -> share; the newest look's estimate when left out")
    ] = None,
    why: Why = "by hand",
    as_json: AsJson = False,
) -> None:
    """Answer a change of the class mix alone: the champion with its prior corrected, gated and promoted; no retrain."""
    from flows.config import load_config

    load_config(config, overrides)
    shares = read_prior(prior) if prior else None
    start_logging()
    from flows.correct_prior import correct_prior as correct
    from flows.show import show_correction

    result = run_flow(lambda: correct(str(config.resolve()), overrides, shares, why))
    show(result, show_correction, as_json=as_json)
    raise typer.Exit(EXIT_CODES[result["outcome"]])
