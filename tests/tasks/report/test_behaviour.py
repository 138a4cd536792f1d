"""The section on behavioural tests: shares of cases, and failures as pairs."""

from pathlib import Path

from tasks.report.behaviour import MOST_CHARACTERS, behaviour_view, cut
from tasks.report.build import write_build_report
from tests.tasks.report.sample import build_summary


def test_failures_are_pairs_with_both_models_answers() -> None:
    view = behaviour_view(build_summary())
    assert view is not None
    (failure,) = view["failures"]
    assert (failure["candidate"], failure["teacher"]) == ("✗ lost → stolen", "✓ lost → lost")
    plain = build_summary()
    plain["behaviour_failures"][0]["altered"] = ""
    view = behaviour_view(plain)
    assert view is not None
    assert view["failures"][0]["candidate"] == "✗ stolen", "a plain text has one answer"


def test_shares_are_of_the_cases_and_a_test_without_cases_has_none(tmp_path: Path) -> None:
    text = write_build_report(build_summary(), tmp_path).read_text(encoding="utf-8")
    assert "14 (7.0 %)" in text
    view = behaviour_view(build_summary())
    assert view is not None
    assert view["tests"][1]["candidate"] == "–"
    assert behaviour_view({}) is None


def test_a_long_text_is_cut() -> None:
    assert cut("a" * 1000) == "a" * (MOST_CHARACTERS - 1) + "…"
    assert cut("short") == "short"


def test_the_words_that_a_change_touched_are_marked_and_stay_in_sight() -> None:
    summary, long = build_summary(), " ".join(f"w{at}" for at in range(100))
    summary["behaviour_failures"][0] |= {"text": f"{long} my <b>crad</b> {long}", "altered": f"{long} my card {long}"}
    view = behaviour_view(summary)
    assert view is not None
    (failure,) = view["failures"]
    assert "my <mark>&lt;b&gt;crad&lt;/b&gt;</mark> w0 w1" in failure["text"], "what comes from the data is escaped"
    assert failure["text"].startswith("…")
    assert failure["text"].endswith("…")
    assert "my <mark>card</mark> w0" in failure["altered"]
    summary["behaviour_failures"][0] |= {"text": "no end", "altered": "no end."}
    view = behaviour_view(summary)
    assert view is not None
    assert view["failures"][0]["altered"] == "no <mark>end.</mark>"


def test_of_a_score_it_is_the_score_that_stays() -> None:
    view = behaviour_view(build_summary() | {"task": "score"})
    assert view is not None
    assert view["tests"][0]["kind"] == "the score must stay, within the tolerance"
