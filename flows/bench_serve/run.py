"""`retort bench serve`: its parts in order, the table, the JSON and the plots."""

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from bento.errors import RetortError, UserError
from bento.settings import home
from flows.bench import row
from flows.bench_serve.batching import batching_rows
from flows.bench_serve.bench import QUICK, Bench, Effort
from flows.bench_serve.cached import cached_rows
from flows.bench_serve.changes import change_rows
from flows.bench_serve.closed import closed_rows
from flows.bench_serve.cost import cost_rows
from flows.bench_serve.open_loop import open_rows
from flows.bench_serve.overload import overload_rows
from flows.bench_serve.soak import soak_rows
from flows.bench_serve.start import start_rows
from flows.config import Config
from tasks.data import read_split

log = logging.getLogger("retort.bench")

PARTS: dict[str, Callable[[Bench], list[dict[str, Any]]]] = {
    "start": start_rows,
    "closed": closed_rows,
    "cost": cost_rows,
    "open": open_rows,
    "batching": batching_rows,
    "cache": cached_rows,
    "overload": overload_rows,
    "changes": change_rows,
    "soak": soak_rows,
}


def bench_serve(
    chosen: Config, *, only: str = "", quick: bool = False, soak_minutes: float = 0, repeats: int | None = None
) -> dict[str, Any]:
    """The champion's model under load, served by this code, beside its peers.

    `only` names parts, separated by commas; `repeats` of each measurement are in place of the effort's. Raises:
    UserError for an unknown part or without a champion.
    """
    parts = chosen_parts(only)
    bench = make_bench(chosen, effort_of(quick, soak_minutes, repeats))
    load = os.getloadavg()[0]
    rows = [row("load of the machine before this run", load, "processes", target="<= 0.5", met=load <= 0.5)]
    found = {"title": f"Serving of {chosen.name}", "rows": rows, "details": bench.details}
    for name in parts:
        log.info("%s", name)
        rows += part_rows(name, bench)
        save(found, home() / "bench")
    return found


def effort_of(quick: bool, soak_minutes: float, repeats: int | None) -> Effort:
    """How much is measured."""
    effort = replace(QUICK if quick else Effort(), soak_minutes=soak_minutes)
    return effort if repeats is None else replace(effort, repeats=repeats, open_repeats=repeats)


def part_rows(name: str, bench: Bench) -> list[dict[str, Any]]:
    """The rows of one part; that it failed, where it did, since the others may have taken hours."""
    try:
        return PARTS[name](bench)
    except RetortError as error:
        log.error("%s: %s", name, error)
        return [row(f"{name}: failed", None, "", str(error), target="measured", met=False)]


def save(found: dict[str, Any], folder: Path) -> None:
    """`serve.json` and, of what was measured, `serve.png`."""
    from tasks.report.serving import draw_serving

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "serve.json").write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))
    if found["details"]:
        draw_serving(found["details"], folder / "serve.png")
    log.info("saved in %s", folder)


def chosen_parts(only: str) -> list[str]:
    """The parts to measure, in their order; all of them where `only` is empty."""
    asked = [name.strip() for name in only.split(",") if name.strip()] or list(PARTS)
    unknown = [name for name in asked if name not in PARTS]
    if unknown:
        raise UserError(f"bench serve: expected --only of {', '.join(PARTS)}, got {', '.join(unknown)}")
    return [name for name in PARTS if name in asked]


def make_bench(chosen: Config, effort: Effort) -> Bench:
    """The champion's model folder and the texts that it was evaluated on, its training texts behind them."""
    from tasks.monitor.traffic import watch
    from tasks.release.ledger import require_champion

    champion = require_champion(chosen.name)
    data = watch(chosen.name, champion.model_path, champion.model_sha256).data
    texts = [text for name in ("test", "validation", "train") for text in read_split(data.path, name).texts]
    return Bench(champion.model_path, [text for text in texts if isinstance(text, str)], effort)
