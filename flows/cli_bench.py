"""`retort bench`: which benchmark, and which options go with it."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from bento.errors import UserError
from flows.terminal import AsJson, Overrides, run_flow, show, show_progress

OPTIONS = {
    "compress": ("training", "techniques"),
    "serve": ("only", "quick", "soak_minutes", "repeats"),
    "drift": ("only", "quick", "data"),
}
"""Of each benchmark that has some."""


def bench(
    what: Annotated[str, typer.Argument(metavar="compress|serve|drift|gate|attention|geometry|experiment")],
    config: Annotated[Path, typer.Option(help="The build to measure")] = Path("configs/quickstart.yaml"),
    overrides: Overrides = None,
    as_json: AsJson = False,
    training: Annotated[
        bool, typer.Option("--training", help="With compress: training speed against the Trainer of transformers")
    ] = False,
    techniques: Annotated[
        bool, typer.Option("--techniques", help="With compress: what single techniques give alone; they are trained")
    ] = False,
    only: Annotated[str | None, typer.Option(metavar="PART,...", help="With serve or drift: these parts alone")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="With serve or drift: minutes in place of hours")] = False,
    data: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="With drift: where the sets of text are; else ./data")
    ] = None,
    soak_minutes: Annotated[float, typer.Option(min=0, help="With serve: half load for so long, memory watched")] = 0,
    repeats: Annotated[int | None, typer.Option(min=1, help="With serve: of each measurement, in place of 5")] = None,
) -> None:
    """The benchmarks: each prints ratios against a baseline of the same run."""
    from flows.bench import BENCHMARKS, PARTS_OF_COMPRESS
    from flows.config import load_config
    from flows.show import show_bench

    if what not in BENCHMARKS:
        raise UserError(f"bench: expected one of {', '.join(BENCHMARKS)}, got {what!r}")
    options = {
        "training": training, "techniques": techniques, "only": only, "quick": quick, "data": data,
        "soak_minutes": soak_minutes, "repeats": repeats,
    }  # fmt: skip
    given = chosen_options(what, options)
    chosen = load_config(config, overrides)
    if what != "gate":
        chosen.require_classes(f"retort bench {what}")
    show_progress()
    part = next((PARTS_OF_COMPRESS[name] for name in given if name in PARTS_OF_COMPRESS), None)
    benchmark = part or partial(BENCHMARKS[what], **given)
    show(run_flow(lambda: benchmark(chosen)), show_bench, as_json=as_json)


def chosen_options(what: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given. Raises: UserError where they belong to another benchmark, or exclude each other."""
    given = {name: value for name, value in options.items() if value}
    for name in given:
        if name not in OPTIONS.get(what, ()):
            owners = " or ".join(owner for owner, names in OPTIONS.items() if name in names)
            raise UserError(f"bench: expected --{name.replace('_', '-')} with {owners}, got it with {what}")
    if {"training", "techniques"} <= given.keys():
        raise UserError("bench: expected --training or --techniques, got both; run one after the other")
    return given
