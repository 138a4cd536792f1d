"""What a reviewer should know first: one line an area, each with a link to its evidence.

A line with a question mark asks for a look; the verdicts of the gates alone decide.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from tasks.metrics import TITLES, metrics_of
from tasks.report.errors import worse_words
from tasks.report.theme import MISSING, SIGNS, VERDICTS, change_of_measure, is_number, percent, significant
from tasks.stats.paired import PairedCounts, mcnemar_p

NOTABLE_LOSS = 0.05
"""Loss of F1 of a class, or of calibration error, that a reader should look at."""
CHANCE = 0.05
"""Below this p the candidate fails a behavioural test more often than its teacher (exact McNemar)."""


def findings_view(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    """Rows of `area`, `text`, `sign`, `tone` and `link`; an area that was not measured has none."""
    analysis = summary.get("analysis") or {}
    rows = [
        *_quality(summary, analysis),
        *_floor(summary),
        *_classes(summary.get("per_class") or ()),
        *_behaviour(summary.get("behaviour") or ()),
        *_calibration(analysis.get("calibration")),
        *_abstention(analysis.get("abstention")),
        *_mistakes(analysis),
        *_slices(analysis),
        *_labels(analysis),
    ]
    return [
        {"area": area, "text": text, "sign": SIGNS[word], "tone": VERDICTS[word], "link": link}
        for area, word, text, link in rows
    ]


Row = tuple[str, str, str, str]


def _word(notable: bool) -> str:
    return "inconclusive" if notable else "pass"


def _quality(summary: Mapping[str, Any], analysis: Mapping[str, Any]) -> Iterator[Row]:
    scores = summary.get("scores") or {}
    judged, _ = metrics_of(scores.get("candidate", {}))
    change = change_of_measure(judged, *(scores.get(name, {}).get(judged) for name in ("teacher", "candidate")))
    if change == MISSING:
        return
    verdicts = {verdict.get("gate"): verdict.get("outcome") for verdict in summary.get("verdicts") or ()}
    word = str(verdicts.get(f"{judged}_vs_teacher", "inconclusive"))
    flips = ""
    if "num_lost" in analysis:
        flips = f": {analysis['num_lost']:,} right answers lost, {analysis['num_gained']:,} gained"
    word, link = word if word in SIGNS else "inconclusive", "#flips" if flips else "#gate"
    yield TITLES[judged][0].upper() + TITLES[judged][1:], word, f"{change} against the teacher{flips}", link


def _floor(summary: Mapping[str, Any]) -> Iterator[Row]:
    """Whether a model of this kind is needed at all."""
    scores = summary.get("scores") or {}
    judged, _ = metrics_of(scores.get("candidate", {}))
    floor, candidate = (scores.get(name, {}).get(judged) for name in ("floor", "candidate"))
    change = change_of_measure(judged, floor, candidate)
    if change == MISSING or not summary.get("floor"):
        return
    text = f"{change} against {summary['floor']}"
    if candidate <= floor:
        text += ": train the teacher longer, or do without a transformer"
    yield "Floor", _word(candidate <= floor), text, "#result"


def _classes(per_class: Any) -> Iterator[Row]:
    rows = [row for row in per_class if is_number(row.get("f1_candidate")) and is_number(row.get("f1_teacher"))]
    if not rows:
        return
    weakest = min(rows, key=lambda row: row["f1_candidate"])
    lost = sum(row["f1_teacher"] - row["f1_candidate"] > NOTABLE_LOSS for row in rows)
    text = (
        f"{lost} of {len(rows)} lost more than {NOTABLE_LOSS * 100:.0f} points of F1; the weakest, {weakest['label']}, "
        f"has {percent(weakest['f1_candidate'])} (teacher {percent(weakest['f1_teacher'])})"
    )
    yield "Classes", _word(lost > 0), text, "#classes"


def _behaviour(tests: Any) -> Iterator[Row]:
    tried = [test for test in tests if test["num_cases"]]
    if not tried:
        return
    worst = max(tried, key=lambda test: test["candidate_failures"] / test["num_cases"])
    shares = [percent(worst[f"{model}_failures"] / worst["num_cases"]) for model in ("candidate", "teacher")]
    notable = [test["test"] for test in tried if _p_worse(test) < CHANCE]
    text = f"most failures: {worst['test']}, {shares[0]} of the cases (teacher {shares[1]})"
    if notable:
        text += f"; more often than its teacher, and not by chance: {', '.join(notable)}"
    yield "Behaviour", _word(bool(notable)), text, "#behaviour"


def _p_worse(test: Mapping[str, Any]) -> float:
    """p of "the teacher passes no more of the cases than the candidate"."""
    only_teacher = test["teacher_failures"] - (test["candidate_failures"] - test["only_candidate"])
    return mcnemar_p(PairedCounts(b=test["only_candidate"], c=only_teacher, n=test["num_cases"]))


def _calibration(found: Mapping[str, Any] | None) -> Iterator[Row]:
    if not found:
        return
    text = f"stated and true probability differ by {percent(found['calibration_error'])} on average"
    yield "Calibration", _word(found["calibration_error"] > NOTABLE_LOSS), text, "#calibration"


def _abstention(rule: Mapping[str, Any] | None) -> Iterator[Row]:
    if not (rule and rule["coverage"] and rule["risk"] and rule["risk_without"]):
        return
    text = (
        f"answers {percent(rule['coverage']['value'])}; of those {percent(rule['risk']['value'])} are wrong, "
        f"{percent(rule['risk_without']['value'])} if it answered all"
    )
    yield "Abstention", "pass", text, "#calibration"


def _mistakes(analysis: Mapping[str, Any]) -> Iterator[Row]:
    total = analysis.get("mistakes")
    if total is None:
        return
    kinds = [name.removeprefix("candidate_") for name in total if name.startswith("candidate_")]
    text = ", ".join(
        f"{total[f'candidate_{kind}']:,} {kind.replace('_', ' ')} (teacher {total[f'teacher_{kind}']:,})"
        for kind in kinds
    )
    worse = worse_words(total)
    if worse:
        text += f"; more often than its teacher, and not by chance: {worse}"
    yield "Mistakes", _word(bool(worse)), text, "#mistakes"


def _slices(analysis: Mapping[str, Any]) -> Iterator[Row]:
    slices = (analysis.get("tables") or {}).get("slices")
    if slices is None:
        return
    confirmed = [row for row in slices if row["confirmed"]]
    text = "no part of the input is confirmed to have more errors than the rest"
    if confirmed:
        worst = max(confirmed, key=lambda row: row["error_rate"])
        wrong = f"are more than {significant(analysis['bound'])} off" if "bound" in analysis else "wrong"
        text = (
            f"more errors than elsewhere in {len(confirmed)}; the worst, {worst['slice']}, "
            f"{percent(worst['error_rate'])} {wrong}"
        )
    yield "Slices", _word(bool(confirmed)), text, "#slices"


def _labels(analysis: Mapping[str, Any]) -> Iterator[Row]:
    doubtful = (analysis.get("num") or {}).get("label_errors")
    if doubtful is None:
        return
    text = f"{doubtful:,} of {analysis['num_label_rows']:,} validation and test labels look wrong"
    yield "Labels", _word(doubtful > 0), text, "#labels"
