"""The report's section on behavioural tests."""

import re
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

from markupsafe import Markup

from tasks.report.theme import MISSING, percent

KINDS = {
    "invariance": "the answer must stay",
    "directional": "a probability must not move the other way",
    "minimum_functionality": "the answer must be right",
}
KINDS_OF_SCORE = KINDS | {
    "invariance": "the score must stay, within the tolerance",
    "directional": "the score must not move the other way",
}
MOST_CHARACTERS = 240
CONTEXT = 90
"""Characters that are shown on either side of a change."""


def behaviour_view(summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """Rows of the tests and some failures as pairs; None where no test was run."""
    tests = summary.get("behaviour")
    if not tests:
        return None
    kinds = KINDS_OF_SCORE if summary.get("task") == "score" else KINDS
    return {
        "tests": [
            {
                "test": test["test"],
                "kind": kinds[test["kind"]],
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
                **_pair(row["text"], row["altered"]),
                "candidate": _answers(row, "candidate"),
                "teacher": _answers(row, "teacher"),
            }
            for row in summary.get("behaviour_failures") or ()
        ],
    }


def _pair(text: str, altered: str) -> dict[str, str]:
    """Both versions, the words that differ marked, with so much around them as shows where they stand."""
    if not altered:
        return {"text": cut(text), "altered": ""}
    words = [re.findall(r"\s+|\S+", each) for each in (text, altered)]
    first = _num_alike(*words)
    last = _num_alike(*(each[first:][::-1] for each in words))
    before, after = _marked(words[0], first, last), _marked(words[1], first, last)
    return {"text": before, "altered": after}


def _num_alike(one: Sequence[str], other: Sequence[str]) -> int:
    """With how many of the same words both begin."""
    return sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(one, other, strict=False)))


def _marked(words: Sequence[str], first: int, last: int) -> Markup:
    end = len(words) - last
    before, changed, after = ("".join(part) for part in (words[:first], words[first:end], words[end:]))
    before = before if len(before) <= CONTEXT else "…" + before[1 - CONTEXT :]
    after = after if len(after) <= CONTEXT else after[: CONTEXT - 1] + "…"
    return Markup("{}<mark>{}</mark>{}").format(before, cut(changed), after)


def cut(text: str) -> str:
    """The text, or its beginning where it is long; the CSV has the whole."""
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"


def _share(failures: int, num_cases: int) -> str:
    return f"{failures:,} ({percent(failures / num_cases)})" if num_cases else MISSING


def _answers(row: Mapping[str, Any], model: str) -> str:
    before, after = row[f"{model}_before"], row[f"{model}_after"]
    answers = after if not row["altered"] else f"{before} → {after}"
    return f"{'✗' if row[f'{model}_failed'] else '✓'} {answers}"
