"""The page of a look: verdict first, all evidence, and nothing that a text can break."""

from pathlib import Path
from typing import Any

import pytest

from tasks.report.monitor import SECTIONS, budget_words, write_monitor_report
from tests.browser import chromium
from tests.tasks.report.sample import HOSTILE, monitor_page
from tests.tasks.report.test_build import Reader

MOST_BYTES = 5_000_000


def write(page: dict[str, Any], folder: Path) -> str:
    return write_monitor_report(page, folder).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write(monitor_page(), tmp_path_factory.mktemp("page"))


def test_the_verdict_comes_first_and_every_section_is_there(html: str) -> None:
    page = Reader(html)
    assert page.open == []
    assert page.text.index("Harm") < page.text.index("Decision: retrain.") < page.text.index("looks of the budget")
    for section in SECTIONS:
        assert f'id="{section}"' in html
    assert len(html.encode()) < MOST_BYTES


@pytest.mark.parametrize(
    "words",
    [
        "82.0 % (79.0 % to 84.0 %), 92.0 % at the gate",
        "Look 7 of the 90 that share the budget",
        "0.82 % at most, 10.0 % after all of them",
        "More “chargeback”; fewer “transfer”.",
        "Largest move: refund, 10.0 % to 23.0 %.",
        "19.0 % to 27.0 %",
        "The second estimate, from predicted classes and confusions, agrees.",
        "Labels that the champion cannot answer: chargeback.",
        "7 labels wait",
        "+10.00 pt",
        "✓ a retrain pays",
        "✗ broken",
        "3.10 ms, 22.0 ms, 64.0 ms",
        "Version 3 against 2.",
        "40 of 500",
        "one side ⁄ the other",
        "✗ changed",
        "✓ no change seen",
    ],
)
def test_what_a_reviewer_asks_is_answered(html: str, words: str) -> None:
    assert words in " ".join(Reader(html).text.split())


def test_texts_and_labels_are_escaped(html: str) -> None:
    page = Reader(html)
    assert HOSTILE in page.text
    assert "script" not in page.tags
    assert "<b>card" not in html


@pytest.mark.parametrize("key", sorted(set(monitor_page()) - {"name", "state"}))
def test_a_missing_key_only_drops_its_section(tmp_path: Path, key: str) -> None:
    page = monitor_page()
    page |= {"looks": page["looks"][-1:]} if key == "marks" else {"looks": []}
    del page[key]
    assert "Made by Retort" in write(page, tmp_path)


def test_a_look_at_too_few_rows_says_what_is_not_known(tmp_path: Path) -> None:
    page = monitor_page() | {"state": "no_drift", "experiment": None, "looks": [], "marks": []}
    page["changes"] = {"words": [], "properties": [], "unlike": [], "alike": []}
    nothing: dict[str, Any] = {"tests": {}, "distances": {}, "prior_reference": {}, "prior_window": {}}
    drift = page["evidence"]["drift"] | nothing | {"num_rows": 3, "enough": False}
    harm = page["evidence"]["harm"] | {
        "num_labels": 0, "enough": False, "accuracy": None, "estimate": None, "e_level": None, "e_path": [],
        "triage": [], "new_labels": [],
    }  # fmt: skip
    service = page["evidence"]["performance"] | {
        "state": "unknown",
        "seconds": 0.0,
        "budgets": {},
        "reason": "not known",
    }
    page["evidence"] |= {"drift": drift, "harm": harm, "balance": None, "performance": service}
    html = write(page, tmp_path)
    for words in ("3 texts are too few to judge it.", "Not known: 0 audited labels, 50 are needed.", "? not known"):
        assert words in html
    assert 'id="changes"' not in html
    assert 'id="timeline"' not in html


def test_without_words_that_differ_the_page_says_so(tmp_path: Path) -> None:
    page = monitor_page()
    page["changes"]["words"] = []
    assert "No word stands out" in write(page, tmp_path)


def test_more_looks_than_the_budget_covers_are_said() -> None:
    words = budget_words({"false_alarm_budget": 0.1, "looks": 90, "num_looks": 105, "spent": 0.1156})
    assert words.startswith("105 looks at this champion are more than the 90 that share the budget of 10.0 %")
    assert "11.56 % at most by now" in words


def test_it_opens_in_a_browser_without_a_problem_and_fits_a_phone(tmp_path: Path, html: str) -> None:
    file = tmp_path / "report.html"
    file.write_text(html, encoding="utf-8")
    with chromium() as page:
        page.screen(390, 800, phone=True)
        page.open(file.as_uri())
        assert page.value("document.documentElement.scrollWidth") == 390
        assert page.value("performance.getEntriesByType('resource').length") == 0
        assert page.problems == []
