"""Results as tables for people."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tasks.data.retrain import retrain_words
from tasks.metrics import TITLES, metrics_of
from tasks.report.theme import compared

STYLES = {
    "pass": "green", "passed": "bold green", "promoted": "bold green", "cached": "green", "no_drift": "green",
    "ok": "green", "burning": "yellow", "spent": "bold red", "too_few": "yellow", "unknown": "yellow",
    "mix_only": "yellow", "inconclusive": "yellow", "awaiting_approval": "yellow", "experiment": "yellow",
    "suspect": "yellow", "runs": "cyan",
    "fail": "bold red", "blocked": "bold red", "failed": "bold red", "harm": "bold red",
}  # fmt: skip

MAX_PARTS = 12
EDGE_SIZES = ("size_bytes", "gzip_bytes")


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
    if result.get("retrain"):
        console.print(escape(retrain_words(result["retrain"])) + "\n", highlight=False)
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
    _show_rolled_back(result, console)
    version = f" version {result['version']}, Bento {result['bento']}" if result["version"] else ""
    suffix = " (unchanged: it already was the champion)" if result.get("unchanged") else ""
    console.print(f"{styled(result['outcome'])}: {result['name']}{version}{suffix}", highlight=False)
    console.print(f"report: {result['report']}", soft_wrap=True, highlight=False)
    if result["outcome"] == "promoted":
        console.print(f"serve it: retort serve {result['name']}", highlight=False)
    if result["outcome"] == "experiment":
        console.print(f"see how it does: retort experiment {result['name']}", highlight=False)
    if result["outcome"] == "awaiting_approval":
        console.print(f"approve it: retort promote {result['name']} {result['version']}", highlight=False)


def show_edge(result: Mapping[str, Any], console: Console) -> None:
    """Sizes of an exported folder by part, how it was checked, and how to open it."""
    table = _table(
        "Size in MB", "part", "files", "on disk", "sent with gzip", right=("files", "on disk", "sent with gzip")
    )
    for part in dict.fromkeys(file["part"] for file in result["files"]):
        files = [file for file in result["files"] if file["part"] == part]
        table.add_row(part, str(len(files)), *(f"{sum(file[key] for file in files) / 1e6:.2f}" for key in EDGE_SIZES))
    table.add_section()
    table.add_row("total", str(len(result["files"])), *(f"{result[key] / 1e6:.2f}" for key in EDGE_SIZES))
    console.print(table)
    checked = result["checked"]
    console.print(
        f"checked in Node.js against the service's predictor: {checked['num_same']} of {checked['num_texts']} texts get"
        f" the same answer, all the same tokens; probabilities differ by {checked['usual_difference']:.1g} at most in "
        f"nine texts of ten, by {checked['largest_difference']:.1g} in the worst",
        highlight=False,
    )
    folder = escape(str(result["folder"]))
    console.print(f"exported: {result['name']} version {result['version']} into {folder}", highlight=False)
    console.print(f"open it: python3 -m http.server -d {folder} 8000, then http://localhost:8000", highlight=False)


def show_gate(result: Mapping[str, Any], console: Console) -> None:
    """Scores, verdicts and outcome of `retort gate`, and the parts of slices that did not pass."""
    console.print(_scores_rows(f"On {result['num_rows']:,} rows of {result['data']}", result["scores"]))
    console.print(_verdict_table(result["verdicts"]))
    for role, threshold in (result["thresholds"] or {}).items():
        console.print(f"The {role} answers a label from a probability of {threshold:.2g} on.", highlight=False)
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


def _show_rolled_back(result: Mapping[str, Any], console: Console) -> None:
    if result.get("rolled_back"):
        again = f"`retort promote {result['name']} {result['version']}` promotes it all the same"
        console.print(f"{escape(result['rolled_back'])}; {again}", highlight=False)


def show_correction(result: Mapping[str, Any], console: Console) -> None:
    """Old and new mix, verdicts and outcome of `retort correct-prior`: the classes that move most."""
    rows = sorted(result["prior"], key=lambda row: -abs(row["new"] - row["old"]))[:MAX_PARTS]
    table = _table("Class mix", "class", "served", "corrected", "window", right=("served", "corrected", "window"))
    for row in rows:
        table.add_row(escape(row["label"]), *(f"{row[key]:.1%}" for key in ("old", "new", "window")))
    console.print(table)
    if result["verdicts"]:
        console.print(_verdict_table(result["verdicts"]))
    _show_rolled_back(result, console)
    words = (
        "the champion answers for this mix already" if result["unchanged"] else f"version {result['version'] or '-'}"
    )
    console.print(f"{styled(result['outcome'])}: {escape(result['name'])}, {words}", highlight=False)


def _scores_table(scores: Mapping[str, Any]) -> Table:
    chosen = {name: scores[name] for name in ("teacher", "candidate", "floor")}
    table = _scores_rows("On the test split", chosen)
    teacher, candidate = scores["teacher"], scores["candidate"]
    faster = compared(teacher["latency_ms_p50"] / candidate["latency_ms_p50"], "faster", "slower")
    smaller = compared(teacher["size_bytes"] / candidate["size_bytes"], "smaller", "larger")
    table.caption = f"The candidate against its teacher: time {faster}, size {smaller}.\n{table.caption}"
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
    show_performance(result["evidence"]["performance"], console)
    console.print(f"report: {result['report']}", soft_wrap=True, highlight=False)


def show_performance(found: Mapping[str, Any], console: Console) -> None:
    """How the service fares: a line on the budgets and a table of what was measured."""
    console.print(f"service {styled(found['state'])}: {escape(found['reason'])}", highlight=False)
    if not found["seconds"]:
        return
    replicas = f"{found['num_replicas']} replica{'s' * (found['num_replicas'] != 1)}"
    table = _table(f"{replicas}, the last {_duration(found['seconds'])}", "what", "value", right=["value"])
    for key, value in performance_figures(found):
        table.add_row(key, value)
    console.print(table)


def performance_figures(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values of what was measured, units included."""
    mb = None if found["memory_bytes"] is None else found["memory_bytes"] / 1e6
    rows = [
        ("predictions", f"{found['num_requests']:,}"),
        ("by status", ", ".join(f"{status}: {count:,}" for status, count in found["statuses"].items()) or "-"),
        ("a second", number(found["per_s"], "{:,.2f}")),
        *((f"latency {name}, ms", number(value, "{:,.3g}")) for name, value in found["latency_ms"].items()),
        ("queue p99, ms", number(found["queue_ms_p99"], "{:,.3g}")),
        ("cores used", number(found["cpu_cores"], "{:.3f}")),
        ("core-ms a request", number(found["core_ms_per_request"], "{:.3g}")),
        ("memory of the largest, MB", number(mb, "{:,.0f}")),
        ("answers from a cache", number(found["cache_hit_share"], "{:.1%}")),
        ("texts a run", number(found["texts_per_run"], "{:.2f}")),
        ("padding of the tokens", number(found["padding_share"], "{:.1%}")),
    ]
    gpu = found["gpu"] or {}
    return rows + [(name.replace("_", " "), f"{value:,.4g}") for name, value in gpu.items()]


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


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
        for arm, beside in sorted(model["arms"].items()):
            console.print(f"  {arm}: version {beside['version']}, {beside['bento']}, share {beside['share']:g}")
        table = _table("", "version", "aliases", "gate", "boot", "model")
        for row in model["versions"]:
            tags = row["tags"]
            table.add_row(
                row["version"], ", ".join(row["aliases"]), styled(tags.get("retort.gate", "-")),
                styled(tags.get("retort.boot", "-")), tags.get("retort.model_sha256", "")[:16],
            )  # fmt: skip
        console.print(table)
        console.print(_events_table(model["ledger"], model["looks"]))


def _events_table(ledger: Sequence[Mapping[str, Any]], looks: Sequence[Mapping[str, Any]]) -> Table:
    """What happened, the newest first."""
    events = [(row["at"], f"{row['action']} version {row['version']}", row["who"], row["why"]) for row in ledger]
    events += [(row["at"], f"look: {row['state']}, {row['action']}", "", row["reason"]) for row in looks]
    table = _table("", "when (UTC)", "what", "by", "why")
    for at, what, who, why in sorted(events, reverse=True):
        table.add_row(f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}", escape(what), escape(who), escape(why))
    return table


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
