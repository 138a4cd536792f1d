"""The report's section on behavioural tests."""

from collections.abc import Mapping
from typing import Any

from tasks.report.theme import MISSING, percent

KINDS = {
    "invariance": "the answer must stay",
    "directional": "a probability must not move the other way",
    "minimum_functionality": "the answer must be right",
}
MOST_CHARACTERS = 240


def behaviour_view(summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """Rows of the tests and some failures as pairs; None where no test was run."""
    tests = summary.get("behaviour")
    if not tests:
        return None
    return {
        "tests": [
            {
                "test": test["test"],
                "kind": KINDS[test["kind"]],
                "num_cases": f"{test['num_cases']:,}",
                "candidate": _share(test["candidate_failures"], test["num_cases"]),
                "teacher": _share(test["teacher_failures"], test["num_cases"]),
                "only_candidate": f"{test['only_candidate']:,}",
            }
            for test in tests
        ],
        "failures": [
            {
                "test": row["test"],
                "expected": row["expected"],
                "text": cut(row["text"]),
                "altered": cut(row["altered"]),
                "candidate": _answers(row, "candidate"),
                "teacher": _answers(row, "teacher"),
            }
            for row in summary.get("behaviour_failures") or ()
        ],
    }


def cut(text: str) -> str:
    """The text, or its beginning where it is long; the CSV has the whole."""
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"


def _share(failures: int, num_cases: int) -> str:
    return f"{failures:,} ({percent(failures / num_cases)})" if num_cases else MISSING


def _answers(row: Mapping[str, Any], model: str) -> str:
    before, after = row[f"{model}_before"], row[f"{model}_after"]
    answers = after if not row["altered"] else f"{before} → {after}"
    return f"{'✗' if row[f'{model}_failed'] else '✓'} {answers}"
