"""Capacity and autoscaling as tables for people."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from flows.show import _table as make_table
from flows.show import number
from tasks.capacity.traffic import sparkline

CHART_WIDTH = 68


def show_capacity(result: Mapping[str, Any], console: Console) -> None:
    """What was measured, how good the estimate is, and the layouts."""
    found, objectives = result["measurement"], result["objectives"]
    replica = found["replica"]
    console.print(
        f"One replica on {found['machine']}: {replica['full_core_ms']:.3f} core-ms a request when busy "
        f"({replica['python_ms']:.3f} of it under Python's lock), {replica['light_core_ms']:.3f} "
        f"when alone; ready in {found['ready_s']:.1f} s.",
        highlight=False,
    )
    if found["checks"]:
        console.print(_check_table(found))
    if found["load"] > found["num_cores"]:
        console.print(
            f"[yellow]{found['load']:.0f} processes wanted the {found['num_cores']} cores of this machine when it was "
            "measured: waits are theirs too. Measure again (--measure) when it is idle.[/]",
            highlight=False,
        )
    share, limit = objectives["latency_share"], objectives["latency_ms"]
    title = f"{result['per_s']:,.1f} requests/s ({result['source']}), {share:.4g} within {limit:g} ms"
    figures = ("pods", "+1", "cores", "runs", "max/s", "good/s", "busy", "p50 ms", "pX ms", "per 1M", "+1 per 1M")
    table = make_table(title, *figures, right=figures)
    for row in result["layouts"]:
        table.add_row(
            number(row["replicas"]), number(row["replicas_with_a_spare"]), str(row["cores"]),
            f"{row['workers']}x{row['threads']}", f"{row['max_per_s']:,.0f}", f"{row['good_per_s']:,.0f}",
            number(row["utilisation"], "{:.0%}"), number(row["latency_p50_ms"], "{:.1f}"),
            number(row["latency_promised_ms"], "{:.1f}"), number(row["cost_per_million"], "{:.4f}"),
            number(row["cost_per_million_with_a_spare"], "{:.4f}"),
        )  # fmt: skip
    table.caption = (
        f"+1: one may be lost. runs: at a time x threads. good/s: of one pod, within the objective. busy: of its "
        f"capacity.\npX: at the promised share. per 1M: money for a million requests, {result['core_hour_price']:g} a "
        "core-hour."
    )
    console.print(table)
    best = result["layouts"][0]
    if best["replicas"] is None:
        console.print(f"no layout keeps {share:.4g} within {limit:g} ms: a lone request is too slow already")
        return
    console.print(
        f"Take {best['replicas_with_a_spare']} replicas of {best['cores']} core{'s' * (best['cores'] > 1)} "
        f"(RETORT_THREADS={best['threads']} RETORT_WORKERS={best['workers']}), one of them spare: "
        f"{best['replicas_with_a_spare'] * best['cores']} cores, {best['utilisation_with_a_spare']:.0%} busy.",
        highlight=False,
    )


def _check_table(found: Mapping[str, Any]) -> Any:
    figures = ("requests/s", "busy", "p50 ms", "p99 ms", "late")
    table = make_table("Estimate / the service itself, open loop, Poisson arrivals", *figures, right=figures)
    for row in found["checks"]:
        pairs = (("utilisation", ".0%"), ("p50_ms", ".1f"), ("p99_ms", ".1f"), ("slow_share", ".2%"))
        cells = (f"{row[key]:{form}} / {row[f'measured_{key}']:{form}}" for key, form in pairs)
        table.add_row(f"{row['per_s']:,.0f}", *cells)
    return table


def show_autoscale(result: Mapping[str, Any], console: Console) -> None:
    """The traffic, replicas over time, and a row for each policy."""
    console.print(
        f"{result['day']}: {result['num_requests']:,.0f} requests, mean {result['mean_per_s']:,.1f}/s, busiest minute "
        f"{result['busiest_per_s']:,.1f}/s; a pod takes {result['pod_max_per_s']:,.0f}/s, "
        f"{result['pod_good_per_s']:,.0f}/s within the objective, and is ready in {result['startup_s']:g} s.",
        highlight=False,
    )
    console.print(f"{'requests/s':<12}{sparkline(result['per_s_by_minute'], CHART_WIDTH)}", highlight=False)
    most = max(row["most_replicas"] for row in result["policies"])
    for row in result["policies"]:
        line = sparkline(row["replicas_by_minute"], CHART_WIDTH, top=most)
        console.print(f"{row['policy']:<12}{line}", highlight=False)
    figures = ("pods", "most", "changes", "core-h", "per 1M", "late", "refused", "bad min")
    table = make_table("", "policy", *figures, right=figures)
    for row in result["policies"]:
        tone = "green" if row["met"] else "bold red"
        table.add_row(
            row["policy"], f"{row['mean_replicas']:.2f}", str(row["most_replicas"]), str(row["num_changes"]),
            f"{row['core_hours']:,.1f}", f"{row['cost_per_million']:.4f}", f"[{tone}]{row['slow_share']:.3%}[/]",
            f"{row['refused']:,.0f}", str(row["bad_minutes"]),
        )  # fmt: skip
    table.caption = (
        f"pods: on average. late: share above {result['latency_ms']:g} ms, refused among them; "
        f"{1 - result['latency_share']:.3g} are allowed.\nbad min: minutes with more than that. per 1M: money for a "
        f"million requests, {result['core_hour_price']:g} a core-hour.\nAn autoscaler that knew each minute before it "
        f"began: {result['foreseen_core_hours']:,.1f} core-hours."
    )
    console.print(table)
    if "report" in result:
        console.print(f"report: {result['report']}", soft_wrap=True, highlight=False)
