"""An experiment in the terminal."""

from collections.abc import Mapping
from datetime import UTC, datetime
from math import exp
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

STYLES = {
    "watch": "bold green", "promoted": "bold green", "vetoed": "bold red", "rolled_back": "bold red", "pass": "green",
    "fail": "bold red",
}  # fmt: skip
WIDTH = 30
MOST_SLICES = 5


def render(found: Mapping[str, Any]) -> RenderableType:
    """State in words, both processes against their threshold, labels, guardrails, classes and the split."""
    style = STYLES.get(found["state"], "bold yellow")
    started = datetime.fromtimestamp(found["started_at"], UTC).strftime("%Y-%m-%d %H:%M")
    title = f"[bold]{escape(found['name'])}[/]: version {found['challenger']} against version {found['champion']}"
    parts: list[RenderableType] = [
        Text.from_markup(f"{title}, experiment {found['experiment']} since {started} UTC"),
        Text.from_markup(f"[{style}]{found['state'].replace('_', ' ')}[/]: {escape(found['reason'])}"),
    ]
    if found["evidence"]:
        parts += _evidence(found["evidence"], found["config"], found["phase"])
    return Group(*parts)


def _evidence(evidence: Mapping[str, Any], config: Mapping[str, Any], phase: str) -> list[RenderableType]:
    parts: list[RenderableType] = [_processes(evidence, config, phase)]
    if evidence["guardrails"]:
        parts.append(_guardrails(evidence["guardrails"]))
    if evidence["slices"]:
        parts.append(_slices(evidence["slices"]))
    if evidence["ratio"]:
        parts.append(Text(_ratio(evidence["ratio"])))
    for key, unit, scale in (("accuracy", "points", 100), ("latency_ms", "ms", 1)):
        if evidence[key]:
            value, low, high = (scale * evidence[key][each] for each in ("value", "low", "high"))
            name = key.removesuffix("_ms")
            parts.append(Text(f"A/B {name}, challenger less champion: {value:+.2f} {unit} ({low:+.2f} to {high:+.2f})"))
    return parts


def _processes(evidence: Mapping[str, Any], config: Mapping[str, Any], phase: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for column in ("evidence", "", "e-value", "decides at"):
        table.add_column(column, justify="right" if column in ("e-value", "decides at") else "left", no_wrap=True)
    for key, name, colour in (("better", "not worse", "green"), ("worse", "worse", "red")):
        largest = evidence[key]["largest"]
        table.add_row(name, _bar(largest / evidence["threshold"], colour), _e(largest), _e(evidence["threshold"]))
    budget = config["watch_labels" if phase == "watch" else "max_labels"]
    needed = f"about {evidence['needed_labels']:,} needed" if evidence["needed_labels"] else ""
    table.add_row("labels", _bar(evidence["num_labels"] / budget, "cyan"), f"{evidence['num_labels']:,}", f"{budget:,}")
    table.caption = (
        f"{evidence['num_pairs']:,} texts, {evidence['num_disagreements']:,} answered differently, "
        f"{evidence['num_waiting']:,} of them wait for a label; {needed}"
    ).rstrip("; ")
    table.caption_justify = "left"
    return table


def _bar(share: float, colour: str) -> Text:
    filled = round(WIDTH * min(1.0, max(0.0, share)))
    return Text("█" * filled, style=colour) + Text("░" * (WIDTH - filled), style="dim")


def _e(log_e: float) -> str:
    return "> 400,000" if log_e > 12.9 else f"{exp(log_e):,.3g}"


def _guardrails(rails: list[Mapping[str, Any]]) -> Table:
    table = Table("guardrail", "verdict", "observed", "of", "limit", box=box.SIMPLE_HEAD, pad_edge=False)
    for rail in rails:
        style = STYLES.get(rail["outcome"], "yellow")
        verdict = "not enough yet" if rail["outcome"] == "inconclusive" else rail["outcome"]
        observed = f"{rail['num_bad'] / rail['n']:.2%}" if rail["n"] else "-"
        name = rail["name"].replace("_", " ")
        table.add_row(name, f"[{style}]{verdict}[/]", observed, f"{rail['n']:,}", f"{rail['limit']:.2%}")
    return table


def _slices(slices: list[Mapping[str, Any]]) -> Table:
    table = Table("older model says", "difference", "texts", "labels", "", box=box.SIMPLE_HEAD, pad_edge=False)
    for one in slices[:MOST_SLICES]:
        verdict = "[bold red]worse[/]" if one["worse"] else ""
        difference = f"{100 * one['difference']:+.1f} points"
        table.add_row(escape(one["label"]), difference, f"{one['num_pairs']:,}", f"{one['num_labels']:,}", verdict)
    return table


def _ratio(ratio: Mapping[str, Any]) -> str:
    total = ratio["num_new"] + ratio["num_old"]
    got = f"{ratio['num_new'] / total:.2%}" if total else "none"
    verdict = "too few units to judge" if ratio["p_value"] is None else f"p {ratio['p_value']:.2g}"
    return f"challenger's share of {total:,} units: {got}, planned {ratio['share']:.2%} ({verdict})"
