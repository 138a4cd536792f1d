"""`retort correct-prior`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from bento.errors import UserError


def read_prior(path: Path) -> dict[str, float]:
    """Class -> share of a JSON file. Raises: UserError."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(label): float(share) for label, share in found.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UserError(
            f'{path}: expected a JSON object such as {{"refund": 0.7, "transfer": 0.3}}: {error}'
        ) from error


def correct_prior(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The config of the model to correct")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="a.b=value", help="Override one key; repeatable")
    ] = None,
    prior: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Class -> share; the newest look's estimate when left out")
    ] = None,
    why: Annotated[str, typer.Option("--why", help="The reason, for the ledger")] = "by hand",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout")] = False,
) -> None:
    """Answer a change of the class mix alone: the champion with its prior corrected, gated and promoted; no retrain."""
    from flows.cli import EXIT_CODES, _print_json, _start_logging, _without_prefect_noise, console
    from flows.config import load_config

    load_config(config, overrides)
    shares = read_prior(prior) if prior else None
    _start_logging()
    from flows.correct_prior import correct_prior as correct
    from flows.show import show_correction

    result = _without_prefect_noise(lambda: correct(str(config.resolve()), overrides, shares, why))
    _print_json(result) if as_json else show_correction(result, console)
    raise typer.Exit(EXIT_CODES[result["outcome"]])
