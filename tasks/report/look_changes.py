"""Of a look's page: the words, properties, classes and texts that differ from the reference."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.report.theme import change_of_share, is_number, percent, significant

MOST_WORDS = 12
MOST_CLASSES = 15
MOST_CHARACTERS = 400
PROPERTIES = {
    "length": "length, in characters",
    "unknown_tokens": "tokens unknown to the encoder",
    "tokens_per_word": "tokens a word",
    "non_ascii_letters": "letters beyond ASCII",
    "function_words": "commonest words of English",
    "url": "texts with a URL",
}
PLAIN = ("tokens_per_word",)
"""Properties that are no shares."""


def change_views(changes: Mapping[str, Any] | None, drift: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the template shows; None where nothing was compared."""
    classes = _class_views(drift)
    if not classes and not (changes and changes["properties"]):
        return None
    changes = changes or {"words": (), "properties": (), "unlike": (), "alike": ()}
    more, fewer = ([word for word in changes["words"] if (word["z"] > 0) == wanted] for wanted in (True, False))
    return {
        "more": _word_views(more),
        "fewer": _word_views(fewer),
        "num_more_words": max(0, len(more) - MOST_WORDS) + max(0, len(fewer) - MOST_WORDS),
        "properties": [_property(each, drift.get("distances") or {}) for each in changes["properties"]],
        "classes": classes[:MOST_CLASSES],
        "more_classes": classes[MOST_CLASSES:],
        "agreement": _agreement(drift),
        "examples": [
            {"title": "Least like the reference", "open": True, "rows": _example_views(changes["unlike"])},
            {"title": "Most like the reference", "open": False, "rows": _example_views(changes["alike"])},
        ]
        if changes["unlike"]
        else [],
    }


def _word_views(words: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The first words, with bars that share one scale."""
    shown = words[:MOST_WORDS]
    largest = max((max(word["window"], word["reference"]) for word in shown), default=1.0)
    return [
        {
            "word": word["word"],
            "window": percent(word["window"]),
            "reference": percent(word["reference"]),
            "z": f"{word['z']:+.1f}".replace("-", "−"),
            "window_width": round(100 * word["window"] / largest, 1),
            "reference_width": round(100 * word["reference"] / largest, 1),
        }
        for word in shown
    ]


def _property(found: Mapping[str, Any], distances: Mapping[str, float]) -> dict[str, str]:
    name = found["name"]
    return {
        "name": PROPERTIES.get(name, name.replace("_", " ")),
        "window": _in_unit(name, found["window"]),
        "reference": _in_unit(name, found["reference"]),
        "distance": f"{distances[name]:.2f}" if is_number(distances.get(name)) else "",
    }


def _in_unit(name: str, value: float) -> str:
    if name == "length":  # logarithms were compared, so that this is the geometric mean
        return significant(math.expm1(value))
    return significant(value) if name in PLAIN else percent(value)


def _class_views(drift: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Classes by falling change of their share."""
    reference, window = drift.get("prior_reference") or {}, drift.get("prior_window") or {}
    low, high = drift.get("prior_low") or {}, drift.get("prior_high") or {}
    largest = max([*reference.values(), *window.values()], default=0.0) or 1.0
    return [
        {
            "label": label,
            "reference": percent(reference[label]),
            "window": percent(window[label]),
            "interval": f"{percent(low[label])} to {percent(high[label])}" if label in low and label in high else "",
            "outside": label in low and not low[label] <= reference[label] <= high[label],
            "change": change_of_share(reference[label], window[label]),
            "reference_width": round(100 * reference[label] / largest, 1),
            "window_width": round(100 * window[label] / largest, 1),
        }
        for label in sorted(window, key=lambda label: -abs(window[label] - reference[label]))
    ]


def _agreement(drift: Mapping[str, Any]) -> str:
    """Whether a second estimate of the mix says the same."""
    if drift.get("prior_refusal"):
        return f"There is no second estimate of it: {drift['prior_refusal']}."
    if drift.get("prior_agrees") is None:
        return ""
    words = "agrees" if drift["prior_agrees"] else "differs by more than chance, so distrust both"
    return f"The second estimate, from predicted classes and confusions, {words}."


def _example_views(examples: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    return [
        {
            "text": _cut(example["text"]),
            "label": example["label"],
            "probability": percent(example["probability"], 0),
            "nearest": _cut(example["nearest"]),
            "nearest_label": example["nearest_label"],
        }
        for example in examples
    ]


def _cut(text: Any) -> str:
    joined = text if isinstance(text, str) else " ⁄ ".join(text)
    return joined if len(joined) <= MOST_CHARACTERS else joined[: MOST_CHARACTERS - 1] + "…"
