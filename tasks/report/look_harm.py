"""Of a look's page: what the audited labels say, what is guessed without them, and whether a retrain pays."""

from collections.abc import Iterator, Mapping
from typing import Any

from tasks.report.charts import inline
from tasks.report.theme import MISSING, percent, points
from tasks.report.timeline import process_figure

GUESSES = {"atc": "ATC (Garg 2022)", "doc": "DoC (Guillory 2021)", "mean_confidence": "mean confidence"}


def harm_views(harm: Mapping[str, Any], balance: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the template shows."""
    return {
        "accuracy": list(_accuracy_rows(harm)),
        "answer": _answer(harm),
        "process": inline(process_figure(harm), "h") if harm["e_level"] and harm["e_path"] else "",
        "notes": list(_notes(harm)),
        "triage": [_guess(guess) for guess in harm["triage"]],
        "balance": balance and _balance(balance),
    }


def _accuracy_rows(harm: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    for name, found in (
        ("audited labels alone", harm["accuracy"]),
        ("with the confidences of unlabelled texts", harm["estimate"]),
    ):
        if found:
            yield {
                "name": name,
                "value": percent(found["value"]),
                "interval": f"{percent(found['low'])} to {percent(found['high'])}",
                "n": f"{harm['num_labels']:,}",
            }
    yield {
        "name": "at the gate",
        "value": percent(harm["baseline_accuracy"]),
        "interval": "",
        "n": f"{harm['baseline_rows']:,}",
    }
    yield {"name": "least that is no harm", "value": percent(1 - harm["limit"]), "interval": "", "n": ""}


def _answer(harm: Mapping[str, Any]) -> dict[str, str]:
    if not harm["enough"]:
        return {"tone": "unsure", "text": "? too few labels to judge", "p": "", "e": "", "after_drift": ""}
    tone, text = ("bad", "✗ harm") if harm["harmful"] else ("good", "✓ no harm seen")
    level = f" of {harm['e_level']:,.0f}" if harm["e_level"] else ""
    return {
        "tone": tone,
        "text": text,
        "p": f"exact test of the newest labels: p {harm['p_value']:.2g}, alarm at {harm['alpha']:.2g}",
        "e": f"evidence over time (e-CUSUM): {harm['e_value']:,.1f}{level}",
        "after_drift": _after_drift(harm),
    }


def _after_drift(harm: Mapping[str, Any]) -> str:
    if harm.get("rise_level") is None:
        return ""
    return (
        f"since drift was found: {harm['errors_after_drift']:,} of {harm['num_after_drift']:,} wrong, "
        f"z {harm['rise']:.1f}, alarm at {harm['rise_level']:.1f}"
    )


def _notes(harm: Mapping[str, Any]) -> Iterator[str]:
    if harm["new_labels"]:
        yield f"Labels that the champion cannot answer: {', '.join(harm['new_labels'])}. A retrain can learn them."
    if harm["num_waiting"]:
        yield f"{harm['num_waiting']:,} labels wait: too many of the rows drawn before theirs have none yet."
    if harm["num_volunteered"]:
        yield f"{harm['num_volunteered']:,} labels of rows that were not drawn are no random sample and do not count."


def _guess(guess: Mapping[str, Any]) -> dict[str, str]:
    known = guess["error"] is not None
    return {
        "name": GUESSES.get(guess["method"], guess["method"]),
        "now": percent(guess["now"]),
        "on_audited": percent(guess["on_audited"]),
        "error": points(guess["error"]) if known else MISSING,
        "n": f"{guess['num_audited']:,}",
    }


def _balance(balance: Mapping[str, Any]) -> dict[str, str]:
    pays = balance["saved"] > balance["cost"]
    return {
        "tone": "good" if pays else "unsure",
        "text": "✓ a retrain pays" if pays else "? a retrain costs more than it saves",
        "saved": f"{balance['saved']:,.2f}",
        "cost": f"{balance['cost']:,.2f}",
        "now": percent(balance["error_now"]),
        "after": percent(balance["error_after"]),
    }
