"""What Prefect's UI shows of a monitoring pass: the verdict with its picture, the tests, the looks, the report."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

from flows.look_report import Story
from tasks.report.page import markdown_cell
from tasks.report.theme import STATES
from tasks.report.timeline import data_url, timeline_figure

NUM_ROWS = 20
"""Looks of the table."""


def publish_look(result: Mapping[str, Any], story: Story) -> None:
    """Artifacts of this run. Prefect's image artifact prints the address of its picture in full,
    which here is the picture itself, so the picture is in the Markdown."""
    key = str(result["name"]).replace("_", "-")
    name = result["name"]
    picture = data_url(timeline_figure(story.looks, story.marks))
    create_markdown_artifact(markdown(result, picture), key=f"{key}-look", description=f"Verdict on {name}")
    create_table_artifact(evidence_rows(result), key=f"{key}-tests", description=f"Evidence of this look at {name}")
    create_table_artifact(
        look_rows(story.looks[: -NUM_ROWS - 1 : -1]),
        key=f"{key}-looks",
        description=f"The last looks at {name}, newest first",
    )
    create_link_artifact(
        Path(result["report"]).as_uri(), key=f"{key}-look-report", link_text="Report of this look",
        description=f"Report on {name}, a file on the machine that ran this",
    )  # fmt: skip


def markdown(result: Mapping[str, Any], picture: str) -> str:
    """The verdict in words, with the picture of the looks so far."""
    _, word, _ = STATES[result["state"]]
    return "\n\n".join(
        (
            f"# {result['name']}: {word.lower()}",
            f"Champion: version {result['champion']}. Action: **{result['action'].replace('_', ' ')}**.",
            f"{markdown_cell(result['reason'])}.",
            f"![Drift and audited accuracy over the looks]({picture})",
            f"Report: `{result['report']}`",
            f"Not in MLflow: {markdown_cell(result['untracked'])}"
            if result["untracked"]
            else f"MLflow run: {result['mlflow_run_id']}",
        )
    )


def evidence_rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row a test, harm's last."""
    drift, harm = result["evidence"]["drift"], result["evidence"]["harm"]
    rows = [
        {"test": name.replace("_", " "), "p": _figure(test["p_holm"]), "level": _figure(drift["alpha"])}
        | {"answer": "changed" if test["p_holm"] <= drift["alpha"] else "no change seen"}
        for name, test in drift["tests"].items()
    ]
    answer = "harm" if harm["harmful"] else "no harm seen" if harm["enough"] else "too few labels"
    return [*rows, {"test": "harm", "p": _figure(harm["p_value"]), "level": _figure(harm["alpha"]), "answer": answer}]


def look_rows(looks: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """One row a look."""
    return [
        {
            "at": datetime.fromtimestamp(look["at"], UTC).isoformat(sep=" ", timespec="minutes"),
            "state": look["state"],
            "action": look["action"],
            "reason": look["reason"],
        }
        for look in looks
    ]


def _figure(value: float) -> str:
    return f"{value:.2g}"
