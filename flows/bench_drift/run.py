"""`retort bench drift`: its parts in order, the table, the JSON and the page."""

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from bento.errors import UserError
from bento.settings import home
from flows.bench import row
from flows.bench_drift.calm import calm_rows
from flows.bench_drift.corpus import SETS, read_corpora
from flows.bench_drift.lab import QUICK, Effort, Lab
from flows.bench_drift.planted import planted_rows
from flows.bench_drift.prices import PRICES, parts_of_cost
from flows.bench_drift.speed import look_rows
from flows.bench_drift.verdicts import benign_rows, harm_rows, loop_rows, wasted_rows
from flows.config import Config
from tasks.monitor.traffic import make_encoder

log = logging.getLogger("retort.bench")

PARTS: dict[str, Callable[[Lab], list[dict[str, Any]]]] = {
    "look": look_rows,
    "planted": planted_rows,
    "calm": calm_rows,
    "harm": harm_rows,
    "benign": benign_rows,
    "wasted": wasted_rows,
    "loop": loop_rows,
}
STUDENT = (
    "the model under watch is a linear head on the frozen encoder's embeddings, not a distilled student, and retrains "
    "in closed form"
)


def bench_drift(chosen: Config, *, data: Path = Path("data"), only: str = "", quick: bool = False) -> dict[str, Any]:
    """The monitor's own functions and simpler policies on streams cut from the sets in `data`.

    `only` names parts, separated by commas. Raises: UserError for an unknown part or without sets.
    """
    parts = chosen_parts(only)
    begin, load = time.perf_counter(), os.getloadavg()[0]
    encoder = make_encoder(chosen.monitor).artifact
    lab = Lab(
        folder=data, encoder=encoder, effort=QUICK if quick else Effort(), monitor=chosen.monitor,
        corpora=read_corpora(data, encoder),
    )  # fmt: skip
    embedded_s = time.perf_counter() - begin
    rows = [row("load of the machine before this run", load, "processes", target="<= 0.5", met=load <= 0.5)]
    rows += [row(f"{name}: not measured", None, "", f"{data} has no folder of it") for name in SETS
             if name not in lab.corpora]  # fmt: skip
    found = {"title": title(chosen, lab), "rows": rows, "details": lab.details}
    for name in parts:
        log.info("%s", name)
        rows += PARTS[name](lab)
        save(found, home() / "bench")
    seconds = time.perf_counter() - begin
    limit_s = 300 if quick else 3_600
    about = f"{embedded_s:.0f} s of it to embed, or find, the sets"
    rows.append(row("this run, on two cores", seconds / 60, "min", about,
                    target=f"<= {limit_s // 60}", met=seconds <= limit_s))  # fmt: skip
    save(found, home() / "bench")
    return found


def title(chosen: Config, lab: Lab) -> str:
    """What was watched, how, on how much."""
    config = lab.setup.monitor
    return (
        f"The loop on {len(lab.corpora)} sets, monitored as {chosen.name} is but for windows of {config.window} "
        f"against {config.reference} rows and {config.looks} looks: {STUDENT}"
    )


def save(found: dict[str, Any], folder: Path) -> None:
    """`drift.json` and `drift.html`."""
    from tasks.report.policies import write_policies_report

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "drift.json").write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))
    records = found["details"].get("shifts", [])
    costs = [one | {"costs": parts_of_cost(one, PRICES[0])} for one in records]
    write_policies_report({"title": found["title"], "rows": found["rows"], "records": costs}, folder / "drift.html")
    log.info("saved in %s", folder)


def chosen_parts(only: str) -> list[str]:
    """The parts to measure, in their order; all of them where `only` is empty."""
    asked = [name.strip() for name in only.split(",") if name.strip()] or list(PARTS)
    unknown = [name for name in asked if name not in PARTS]
    if unknown:
        raise UserError(f"bench drift: expected --only of {', '.join(PARTS)}, got {', '.join(unknown)}")
    return [name for name in PARTS if name in asked]
