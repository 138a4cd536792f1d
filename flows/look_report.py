"""What a look leaves for people: its page, its figures for the terminal, and its run in MLflow."""

import bisect
import glob
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bento import settings
from bento.errors import TrackingError, UserError
from flows.config import Config
from flows.experiment import read_now
from tasks.monitor import looks
from tasks.monitor.changes import Changes, explore
from tasks.monitor.examined import Examined
from tasks.monitor.measures import measures
from tasks.monitor.traffic import reference_texts
from tasks.release import ledger, look_runs
from tasks.report.monitor import REPORT_FILE, write_monitor_report
from tasks.report.timeline import timeline_figure
from tasks.stats.budget import spent

log = logging.getLogger("retort.monitor")

MOST_DRAWN = 90
"""Looks of the timeline."""
MOVES = ("promote", "rollback")
"""Entries of the ledger that put another champion into service."""
ASKED = ("retrain", "correct_prior")
"""Actions of looks that are marks of the timeline."""
MOST_LATE = 20
"""Looks that a tracking server which was away gets afterwards."""
NUM_WORDS = 5
KEPT_PAGES = 500
"""Pages of looks at one model that stay on the disk, three weeks of hourly ones; MLflow has the others."""


@dataclass(frozen=True, kw_only=True)
class Story:
    """The looks at a model so far, and what happened between them."""

    looks: list[dict[str, Any]]
    """The oldest first, each with `number` at its champion, `spent` (chance of a false alarm so far) and `budget`."""
    marks: list[dict[str, Any]]
    """`at` in seconds since the epoch, `kind` and `text`."""
    num_looks: int
    """At the present champion, those too old to be drawn among them."""


def read_story(config: Config) -> Story:
    """The newest looks with their share of the false-alarm budget, which every champion begins anew."""
    moves = [entry for entry in reversed(ledger.history(config.name)) if entry["action"] in MOVES]
    starts = [float(entry["at"]) for entry in moves]
    times, budget = looks.look_times(config.name), config.monitor.false_alarm_budget
    drawn = looks.read_looks(config.name, limit=MOST_DRAWN)[::-1]
    numbers = [_number(at, times, starts) for at in times]
    for look, number in zip(drawn, numbers[len(numbers) - len(drawn) :], strict=True):
        look |= {"number": number, "spent": spent(budget, config.monitor.looks, number), "budget": budget}
    since = drawn[0]["at"] if drawn else 0.0
    marks = [
        {"at": float(entry["at"]), "kind": entry["action"], "text": f"v{entry['version']}"}
        for entry in moves
        if entry["at"] >= since
    ]
    marks += [{"at": look["at"], "kind": look["action"], "text": ""} for look in drawn if look["action"] in ASKED]
    num_looks = len(times) - bisect.bisect_right(times, starts[-1]) if starts else len(times)
    return Story(looks=drawn, marks=marks, num_looks=num_looks)


def _number(at: float, times: list[float], starts: list[float]) -> int:
    """Which look at its champion the one at this time is."""
    before = bisect.bisect_right(starts, at)
    first = bisect.bisect_right(times, starts[before - 1]) if before else 0
    return bisect.bisect_right(times, at) - first


def tell(config: Config, found: Examined, result: Mapping[str, Any]) -> dict[str, Any]:
    """Write the page of a look. Returns its path as `report`, and the `highlights` for a terminal."""
    changes = explore(found.reference, found.window, reference_texts(found.watched, found.reference))
    story = read_story(config)
    experiment = _experiment(config.name)
    page = {key: result[key] for key in ("name", "champion", "state", "action", "reason", "evidence")} | {
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "budget": {
            "false_alarm_budget": config.monitor.false_alarm_budget,
            "looks": config.monitor.looks,
            "num_looks": story.num_looks,
            "spent": spent(config.monitor.false_alarm_budget, config.monitor.looks, story.num_looks),
        },
        "min_labels": config.monitor.min_labels,
        "changes": asdict(changes),
        "experiment": experiment,
        "looks": story.looks,
        "marks": story.marks,
    }
    report = write_monitor_report(page, _folder(config.name, result["look"] or "repeated"))
    _prune(config.name)
    return {"report": str(report), "highlights": highlights(result["evidence"], changes)}


def _folder(name: str, look: int | str) -> Path:
    return settings.home() / "reports" / f"{name}-look-{look}"


def _prune(name: str) -> None:
    """Remove the oldest pages."""
    start = f"{name}-look-"
    pages = [path for path in (settings.home() / "reports").glob(f"{glob.escape(start)}*")
             if path.name.removeprefix(start).isdecimal()]  # fmt: skip
    for path in sorted(pages, key=lambda path: int(path.name.removeprefix(start)))[:-KEPT_PAGES]:
        try:
            shutil.rmtree(path)
        except OSError as error:
            log.warning("an old page of %s stays: %s", name, error)


def _experiment(name: str) -> dict[str, Any] | None:
    """The newest experiment as it stands; None where there was none."""
    try:
        return read_now(name)
    except UserError:
        return None


def highlights(evidence: Mapping[str, Any], changes: Changes) -> dict[str, Any]:
    """The figures that a person looks at first."""
    drift, harm = evidence["drift"], evidence["harm"]
    found = {"window rows": drift["num_rows"], "alpha of this look": drift["alpha"]}
    found |= {f"p of {name}": test["p_holm"] for name, test in drift["tests"].items()}
    for what, words in (
        ("more frequent words", [change.word for change in changes.words if change.z > 0]),
        ("rarer words", [change.word for change in changes.words if change.z < 0]),
    ):
        found |= {what: ", ".join(words[:NUM_WORDS])} if words else {}
    accuracy = harm["accuracy"]
    found |= {"audited labels": harm["num_labels"], "accuracy at the gate": harm["baseline_accuracy"]}
    if accuracy:
        found |= {
            "audited accuracy": accuracy["value"],
            "its 95 % interval": f"{accuracy['low']:.3f}-{accuracy['high']:.3f}",
        }
    found |= {"p of harm": harm["p_value"]}
    if harm["rise_level"] is not None:
        found |= {"labels since drift was found": harm["num_after_drift"], "wrong of those": harm["errors_after_drift"]}
        found |= {"z of a rise, and its level": f"{harm['rise']:.2f}, {harm['rise_level']:.2f}"}
    return found


def track(config: Config, result: Mapping[str, Any]) -> dict[str, Any]:
    """Log a look as a run of the experiment `NAME-monitor`, and looks before it whose run is missing. Returns its id as
    `mlflow_run_id`, or why there is none as `untracked`: a tracking server that is away holds up no monitoring."""
    if result["look"] is None:
        return {"mlflow_run_id": None, "untracked": "this window was judged, and logged, before"}
    story = read_story(config)
    *earlier, newest = story.looks
    figures = {"timeline.png": timeline_figure(story.looks, story.marks)}
    try:
        run_id = _log_look(config.name, newest, Path(result["report"]), figures)
    except TrackingError as error:
        log.warning("look %d of %s is not in MLflow: %s", result["look"], config.name, error)
        return {"mlflow_run_id": None, "untracked": str(error)}
    _log_missed(config.name, earlier[-MOST_LATE:])
    return {"mlflow_run_id": run_id, "untracked": None}


def _log_missed(name: str, looks_before: Sequence[Mapping[str, Any]]) -> None:
    """Log those of them that are not in MLflow; what fails now is tried again with the next look."""
    try:
        logged = look_runs.logged_looks(name)
        for look in looks_before:
            if look["id"] not in logged and "champion" in look["evidence"]:
                _log_look(name, look, _folder(name, look["id"]) / REPORT_FILE, {})
    except TrackingError as error:
        log.warning("earlier looks of %s are still missing in MLflow: %s", name, error)


def _log_look(name: str, look: Mapping[str, Any], report: Path, figures: Mapping[str, Any]) -> str:
    return look_runs.log_look(
        name,
        look=look["id"],
        at=look["at"],
        champion=look["evidence"]["champion"],
        step=look["number"],
        metrics=measures(look["evidence"], spent=look["spent"], num_looks=look["number"]),
        tags={key: look[key] for key in ("state", "action", "reason")},
        report=report,
        figures=figures,
    )
