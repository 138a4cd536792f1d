"""The commands about replicas: how many a load takes, and what an autoscaler makes of a day."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from bento.errors import UserError
from flows.terminal import AsJson, Name, show

ConfigFile = Annotated[Path | None, typer.Option("--config", help="For serve.objectives and serve.core_hour_price")]
FromLog = Annotated[bool, typer.Option("--from-log", help="The last day of the request log")]
Measure = Annotated[bool, typer.Option("--measure", help="Measure the replica again: about ten seconds of load")]
MIN_PER_S, MAX_PER_S = 0.001, 1e6
"""Rates beyond these, infinity among them, are no service's."""
MAX_STARTUP_S = 86_400


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(capacity)
    app.command()(autoscale)


def capacity(
    name: Name,
    rate: Annotated[float | None, typer.Option(min=MIN_PER_S, max=MAX_PER_S, help="Requests a second")] = None,
    from_log: FromLog = False,
    config: ConfigFile = None,
    check: Annotated[
        bool, typer.Option("--check", help="Compare the estimate with the service at three rates")
    ] = False,
    measure: Measure = False,
    as_json: AsJson = False,
) -> None:
    """Replicas x threads x workers for a rate, within the latency objective, and what they cost."""
    from flows import capacity as flow
    from flows.show_capacity import show_capacity
    from tasks.capacity.advice import advise
    from tasks.capacity.traffic import logged
    from tasks.release.ledger import require_champion

    serve = _prepare(config)
    if (rate is None) == (not from_log):
        raise UserError("capacity: expected --rate R or --from-log, one of the two")
    champion = require_champion(name)
    found = flow.measurement(champion, flow.texts_of(champion), serve.objectives, again=measure, check=check)
    day = logged(name) if from_log else None
    per_s, arrival_scv = (day.busiest_per_s, day.dispersion) if day else (rate or 0.0, 1.0)
    layouts = advise(
        found.replica, per_s, serve.objectives, core_hour_price=serve.core_hour_price, arrival_scv=arrival_scv
    )
    result = {
        "name": name, "per_s": per_s, "arrival_scv": arrival_scv, "source": day.source if day else "--rate",
        "objectives": serve.objectives.model_dump(), "core_hour_price": serve.core_hour_price,
        "measurement": found.model_dump(), "layouts": [asdict(layout) for layout in layouts],
    }  # fmt: skip
    show(result, show_capacity, as_json=as_json)


def autoscale(
    name: Name,
    day: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="Columns at and requests")] = None,
    from_log: FromLog = False,
    synthetic: Annotated[bool, typer.Option("--synthetic", help="A made-up day; the default")] = False,
    policy: Annotated[list[Path] | None, typer.Option(help="A policy's YAML; repeatable. Default: the shipped")] = None,
    busiest: Annotated[
        float | None,
        typer.Option(min=MIN_PER_S, max=MAX_PER_S, help="Requests/s of the synthetic busiest minute"),
    ] = None,
    startup_s: Annotated[
        float, typer.Option(min=0, max=MAX_STARTUP_S, help="From a scaling decision to a ready pod")
    ] = 30.0,
    config: ConfigFile = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    report: Annotated[Path | None, typer.Option(metavar="OUT.html", help="Write a page with the plot")] = None,
    measure: Measure = False,
    as_json: AsJson = False,
) -> None:
    """A day of traffic under the shipped autoscaling policy and under fixed capacity: replicas, misses, cost."""
    from flows import capacity as flow
    from flows.autoscale import compare, make_day, shipped
    from flows.show_capacity import show_autoscale
    from tasks.outputs import require_output
    from tasks.release.ledger import require_champion

    if report is not None:
        require_output(report)
    serve = _prepare(config)
    if sum((day is not None, from_log, synthetic)) > 1:
        raise UserError("autoscale: expected one of --day, --from-log and --synthetic, got several")
    champion = require_champion(name)
    found = flow.measurement(champion, flow.texts_of(champion), serve.objectives, again=measure, check=False)
    policies = shipped(policy)
    rng = np.random.default_rng(seed)
    chosen = make_day(name, day, from_log=from_log, busiest=busiest, replica=found.replica, serve=serve,
                      policies=policies, rng=rng)  # fmt: skip
    result = compare(chosen, policies, found, serve, startup_s=startup_s) | {"name": name}
    if report is not None:
        from tasks.report.autoscale import write_autoscale_report

        result["report"] = str(write_autoscale_report(result, report))
    show(result, show_autoscale, as_json=as_json)


def _prepare(config: Path | None) -> Any:
    """The `serve:` section, of a config or the default one."""
    from bento.settings import configure
    from flows.config import ServeConfig, load_config

    configure()
    return load_config(config).serve if config else ServeConfig()
