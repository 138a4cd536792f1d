"""Results as tables for people."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tasks.metrics import TITLES, metrics_of

STYLES = {
    "pass": "green", "passed": "bold green", "promoted": "bold green", "cached": "green", "no_drift": "green",
    "mix_only": "yellow", "inconclusive": "yellow", "awaiting_approval": "yellow", "suspect": "yellow", "runs": "cyan",
    "fail": "bold red", "blocked": "bold red", "failed": "bold red", "harm": "bold red",
}  # fmt: skip

MAX_PARTS = 12


def styled(word: str) -> str:
    """`word` in the colour of its meaning."""
    style = STYLES.get(word)
    return f"[{style}]{word}[/]" if style else escape(word)


def number(value: Any, pattern: str = "{:.4g}") -> str:
    """A number, or a dash where nothing was measured."""
    return "-" if value is None else pattern.format(value)


def _table(title: str, *columns: str, right: Sequence[str] = (), wrap: Sequence[str] | None = None) -> Table:
    """A table that fits a terminal of 80 columns: `right` names those of numbers, `wrap` those that may wrap, which is
    the last one unless said."""
    table = Table(
        title=title or None, title_justify="left", caption_justify="left", box=box.SIMPLE_HEAD,
        collapse_padding=True, pad_edge=False,
    )  # fmt: skip
    for column in columns:
        table.add_column(
            column, justify="right" if column in right else "left", no_wrap=column not in (wrap or columns[-1:])
        )
    return table


def show_build(result: Mapping[str, Any], console: Console) -> None:
    """Scores, gate and outcome of a build."""
    if result.get("search"):
        console.print(escape(result["search"]["words"]) + "\n")
    console.print(_scores_table(result["scores"]))
    if result["behaviour"]:
        console.print(_behaviour_table(result["behaviour"]))
    if result["calibration"]:
        console.print(_calibration_line(result["calibration"], result["abstention"]), highlight=False)
    console.print(_verdict_table(result["verdicts"]))
    seconds = sum(stage["seconds"] for stage in result["stages"])
    cached = sum(stage["cached"] for stage in result["stages"])
    console.print(f"{len(result['stages'])} stages in {seconds:.0f} s, {cached} of them from the store")
    if result.get("boot") and not result["boot"]["passed"]:
        console.print(f"boot check failed: {escape(str(result['boot']['checks']))}")
    version = f" version {result['version']}, Bento {result['bento']}" if result["version"] else ""
    suffix = " (unchanged: it already was the champion)" if result.get("unchanged") else ""
    console.print(f"{styled(result['outcome'])}: {result['name']}{version}{suffix}", highlight=False)
    console.print(f"report: {result['report']}", soft_wrap=True, highlight=False)
    if result["outcome"] == "promoted":
        console.print(f"serve it: retort serve {result['name']}", highlight=False)
    if result["outcome"] == "awaiting_approval":
        console.print(f"approve it: retort promote {result['name']} {result['version']}", highlight=False)


def show_gate(result: Mapping[str, Any], console: Console) -> None:
    """Scores, verdicts and outcome of `retort gate`, and the parts of slices that did not pass."""
    console.print(_scores_rows(f"On {result['num_rows']:,} rows of {result['data']}", result["scores"]))
    console.print(_verdict_table(result["verdicts"]))
    short = sorted(
        (row for row in result["slices"] if row["outcome"] != "pass"),
        key=lambda row: ("inconclusive", "fail").index(row["outcome"]),
    )
    if short:
        console.print(_verdict_table(short[::-1][:MAX_PARTS], title=f"Parts that did not pass: {len(short)}"))
    if len(short) > MAX_PARTS:
        console.print(f"{len(short) - MAX_PARTS} more parts: --json has all", highlight=False)
    against = f" against {result['against']}" if result["against"] else ""
    console.print(f"{styled(result['outcome'])}: {escape(result['model'] + against)}", soft_wrap=True, highlight=False)


def _scores_table(scores: Mapping[str, Any]) -> Table:
    chosen = {name: scores[name] for name in ("teacher", "candidate", "floor")}
    table = _scores_rows("On the test split", chosen)
    teacher, candidate = scores["teacher"], scores["candidate"]
    faster = teacher["latency_ms_p50"] / candidate["latency_ms_p50"]
    smaller = teacher["size_bytes"] / candidate["size_bytes"]
    table.caption = (
        f"The candidate is {faster:.1f} times faster and {smaller:.1f} times smaller than its teacher.\n{table.caption}"
    )
    return table


def _scores_rows(title: str, scores: Mapping[str, Any]) -> Table:
    first, second = metrics_of(next(iter(scores.values())))
    figures = (TITLES[first], "95 % interval", TITLES[second], "MB", "p50 ms", "p95 ms", "per s")
    table = _table(title, "model", *figures, right=figures)
    for name, row in scores.items():
        low, high = row[f"{first}_interval"]
        table.add_row(
            name, f"{row[first]:.4f}", f"{low:.3f}-{high:.3f}", f"{row[second]:.4f}",
            f"{row['size_bytes'] / 1e6:.1f}", number(row["latency_ms_p50"], "{:.2f}"),
            number(row["latency_ms_p95"], "{:.2f}"), number(row["throughput_per_s"], "{:,.0f}"),
        )  # fmt: skip
    table.caption = "p50, p95: one sentence at a time. per s: sentences a second in batches of 32."
    return table


def _behaviour_table(tests: Sequence[Mapping[str, Any]]) -> Table:
    figures = ("cases", "candidate fails", "teacher fails", "candidate alone")
    table = _table("Behavioural tests", "test", *figures, right=figures)
    for row in tests:
        table.add_row(
            escape(row["test"]), f"{row['num_cases']:,}", f"{row['candidate_failures']:,}",
            f"{row['teacher_failures']:,}", f"{row['only_candidate']:,}",
        )  # fmt: skip
    return table


def _calibration_line(calibration: Mapping[str, float], rule: Mapping[str, Any] | None) -> str:
    line = (
        f"Calibration: temperature {calibration['temperature']:.2f}, expected calibration error "
        f"{calibration['calibration_error_before']:.2%} -> {calibration['calibration_error']:.2%}."
    )
    if not rule:
        return line
    risk = f"{rule['risk']['value']:.1%}" if rule["risk"] else "none"
    line += (
        f"\nAbstention below {rule['threshold']:.3f}: {rule['coverage']['value']:.1%} answered, {risk} of those wrong "
        f"({rule['risk_without']['value']:.1%} without)"
    )
    found = rule["abstained_out_of_scope"]
    return f"{line}; {found['value']:.1%} of the input out of scope noticed." if found else f"{line}."


def _verdict_table(verdicts: Sequence[Mapping[str, Any]], title: str = "Gate") -> Table:
    table = _table(title, "gate", "outcome", "why")
    for row in verdicts:
        table.add_row(escape(row["gate"]), styled(row["outcome"]), escape(row["reason"]))
    return table


def show_plan(found: Mapping[str, Any], console: Console) -> None:
    """Steps, gates and alias moves of a plan."""
    table = _table(f"Plan of {found['name']}", "step", "state", "artifact")
    for row in found["steps"]:
        table.add_row(row["step"], styled(row["state"]), row["sha256"][:16])
    console.print(table)
    for row in found["gates"]:
        console.print(f"gate {row['gate']}: {row['limit']}", highlight=False)
    for line in found["aliases"]:
        console.print(line, highlight=False)


def show_look(result: Mapping[str, Any], console: Console) -> None:
    """One monitoring pass in words and its evidence."""
    console.print(f"{styled(result['state'])}: {result['name']}, action {result['action']}", highlight=False)
    console.print(escape(result["reason"]))
    table = _table("Evidence", "what", "value", right=["value"])
    for key, value in result["highlights"].items():
        table.add_row(key, number(value) if isinstance(value, float) else escape(str(value)))
    console.print(table)
    console.print(f"report: {result['report']}", soft_wrap=True, highlight=False)


def show_status(found: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Champions, versions, the ledger's last entries and looks."""
    if not found:
        console.print("no models yet: `retort run configs/quickstart.yaml` makes one")
    for model in found:
        champion = model["champion"]
        console.print(
            f"[bold]{model['name']}[/] champion: "
            + (f"version {champion['version']}, {champion['bento']}" if champion else "none")
        )
        table = _table("", "version", "aliases", "gate", "boot", "model")
        for row in model["versions"]:
            tags = row["tags"]
            table.add_row(
                row["version"], ", ".join(row["aliases"]), styled(tags.get("retort.gate", "-")),
                styled(tags.get("retort.boot", "-")), tags.get("retort.model_sha256", "")[:16],
            )  # fmt: skip
        console.print(table)
        for row in model["ledger"]:
            at = datetime.fromtimestamp(row["at"], UTC).strftime("%Y-%m-%d %H:%M:%S")
            console.print(
                f"  {at}  {row['action']:<8} version {row['version']} by {row['who']}: {row['why']}", markup=False
            )
        for row in model["looks"]:
            at = datetime.fromtimestamp(row["at"], UTC).strftime("%Y-%m-%d %H:%M:%S")
            console.print(f"  {at}  look: {row['state']}, {row['action']}: {row['reason']}", markup=False)


def show_bench(found: Mapping[str, Any], console: Console) -> None:
    """Figures with their baseline, ratio and target."""
    table = _table(
        found["title"], "metric", "value", "ratio", "target", "met", right=["value", "ratio"], wrap=["metric", "target"]
    )
    for row in found["rows"]:
        met = {True: "[green]yes[/]", False: "[bold red]no[/]", None: "-"}[row["met"]]
        against = f"\n[dim]{escape(row['against'])}[/]" if row["against"] else ""
        value = f"{number(row['value'])} {row['unit']}".strip()
        table.add_row(row["metric"] + against, value, number(row["ratio"]), row["target"], met)
    console.print(table)
