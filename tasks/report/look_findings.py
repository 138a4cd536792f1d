"""Of a look's page: one line an area, each with a link to its evidence."""

from collections.abc import Iterator, Mapping
from typing import Any

from tasks.report.experiment import EXPERIMENT_STATES
from tasks.report.look_service import TONES
from tasks.report.theme import percent, sentence

SIGNS = {"good": "✓", "bad": "✗", "unsure": "?"}
MOST_NAMED = 4

Row = tuple[str, str, str, str]
"""Area, tone, text and section."""


def findings(page: Mapping[str, Any]) -> list[dict[str, str]]:
    """Rows of `area`, `tone`, `sign`, `text` and `link`; an area without evidence has none."""
    evidence = page.get("evidence") or {}
    rows = [
        *_input(evidence.get("drift")),
        *_words(page.get("changes")),
        *_mix(evidence.get("drift")),
        *_accuracy(evidence.get("harm"), page.get("min_labels")),
        *_new_classes(evidence.get("harm")),
        *_service(evidence.get("performance")),
        *_budget(page.get("budget")),
        *_experiment(page.get("experiment")),
    ]
    return [
        {"area": area, "tone": tone, "sign": SIGNS[tone], "text": text, "link": f"#{section}"}
        for area, tone, text, section in rows
    ]


def _input(drift: Mapping[str, Any] | None) -> Iterator[Row]:
    if not drift:
        return
    if not drift["enough"]:
        yield "Input", "unsure", f"{drift['num_rows']:,} texts are too few to judge it.", "evidence"
        return
    changed = [name.replace("_", " ") for name, test in drift["tests"].items() if test["p_holm"] <= drift["alpha"]]
    if changed:
        yield "Input", "unsure", f"Changed: {', '.join(changed)}.", "tests"
    else:
        yield "Input", "good", f"No change seen in {drift['num_rows']:,} texts.", "tests"


def _words(changes: Mapping[str, Any] | None) -> Iterator[Row]:
    if not changes or not changes["words"]:
        return
    sides = (("more", True), ("fewer", False))
    named = {
        side: [word["word"] for word in changes["words"] if (word["z"] > 0) == wanted][:MOST_NAMED]
        for side, wanted in sides
    }
    text = "; ".join(f"{side} “{'”, “'.join(words)}”" for side, words in named.items() if words)
    yield "Words", "unsure", sentence(text), "changes"


def _mix(drift: Mapping[str, Any] | None) -> Iterator[Row]:
    window, reference = (drift or {}).get("prior_window") or {}, (drift or {}).get("prior_reference") or {}
    if not window:
        return
    label = max(window, key=lambda each: abs(window[each] - reference[each]))
    low, high = ((drift or {}).get(key, {}).get(label) for key in ("prior_low", "prior_high"))
    moved = low is not None and high is not None and not low <= reference[label] <= high
    text = f"Largest move: {label}, {percent(reference[label])} to {percent(window[label])}"
    yield "Classes", "unsure" if moved else "good", f"{text}{'' if moved else ', within chance'}.", "changes"


def _accuracy(harm: Mapping[str, Any] | None, min_labels: int | None) -> Iterator[Row]:
    if not harm:
        return
    if not harm["enough"]:
        needed = f", {min_labels:,} are needed" if min_labels else ""
        yield "Accuracy", "unsure", f"Not known: {harm['num_labels']:,} audited labels{needed}.", "harm"
        return
    found = harm["estimate"] or harm["accuracy"]
    text = f"{percent(found['value'])} ({percent(found['low'])} to {percent(found['high'])})"
    gate = f"{percent(harm['baseline_accuracy'])} at the gate"
    yield "Accuracy", "bad" if harm["harmful"] else "good", f"{text}, {gate}.", "harm"


def _new_classes(harm: Mapping[str, Any] | None) -> Iterator[Row]:
    if harm and harm["new_labels"]:
        named = ", ".join(harm["new_labels"][:MOST_NAMED])
        yield "New classes", "unsure", f"{len(harm['new_labels']):,} that the champion cannot answer: {named}.", "harm"


def _service(found: Mapping[str, Any] | None) -> Iterator[Row]:
    if found:
        yield "Service", TONES[found["state"]], sentence(found["reason"]), "service"


def _budget(budget: Mapping[str, Any] | None) -> Iterator[Row]:
    if not budget:
        return
    over = budget["num_looks"] > budget["looks"]
    used = f"{budget['num_looks']:,} of {budget['looks']:,} looks"
    text = f"{used}; chance of a false alarm so far {percent(budget['spent'], 2)} at most."
    yield "Budget", "unsure" if over else "good", text, "timeline"


def _experiment(found: Mapping[str, Any] | None) -> Iterator[Row]:
    if found:
        tone, word, _ = EXPERIMENT_STATES[found["state"]]
        pair = f"version {found['challenger']} against {found['champion']}"
        yield "Experiment", tone, f"{word}: {pair}.", "experiment"
