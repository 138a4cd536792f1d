"""Does it hurt? Audited answers against the accuracy that the gate saw.

Two tests share the budget of all looks. The exact one of the newest labels is the sharper for a model that was worse
from the start and for small rises; the e-CUSUM finds a rise that begins after many good labels, which those would hide
from the first. A third one is looked at only once drift was found, of the labels of rows drawn after that alarm: it
need not search for the beginning, so that a third of the labels is enough. Without drift it is not reached, and with
drift that does no harm it errs with its own budget (a gatekeeper: Westfall and Krishen 2001, JSPI 99:25).
Shapes: n labels in the order in which they became due, N unlabelled rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento.errors import UserError
from tasks.monitor.config import MonitorConfig
from tasks.monitor.triage import Guess, HeldOut
from tasks.stats.budget import alpha_per_look
from tasks.stats.cusum import alarm_level, e_cusum, thinned
from tasks.stats.proportion import excess_error_p, ppi_accuracy, upper_share, weighted_share
from tasks.stats.rise import BaseRate, places, rise, rise_level
from tasks.types import Interval

MISS_SHARE = 0.5
"""Of the harm budget: that the test split flattered the model, which can happen once, however many looks there are.

So much because the split's uncertainty weighs more than the level of a look: with 1,000 rows, a loss of 12 points is
found within 750 labels in 93 of 100 streams, with a tenth in 85."""
MAX_HORIZON = 10_000
"""Labels that the e-CUSUM looks back on, at most."""


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """The champion's errors on the test split."""

    num_errors: int
    num_rows: int
    held_out: HeldOut | None = None
    """The same answers in detail, for triage."""

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return 1 - self.num_errors / self.num_rows


def baseline_of(held_out: HeldOut) -> Baseline:
    """The baseline that the test split gives."""
    num_errors = int((~held_out.correct_N).sum())
    return Baseline(num_errors=num_errors, num_rows=len(held_out.correct_N), held_out=held_out)


@dataclass(frozen=True, kw_only=True)
class HarmEvidence:
    """What the audited labels say."""

    num_labels: int
    """The newest, `window` at most; accuracy and the exact test are of these."""
    num_errors: int
    accuracy: Interval | None
    """95 % interval, exact where all rows were drawn with the same chance; null without labels."""
    estimate: Interval | None
    """Accuracy sharpened by the confidences of all rows; null where those were not given or labels are few."""
    baseline_accuracy: float
    baseline_rows: int
    tolerance: float
    p_value: float
    """Of "the error rate is at most `limit`"."""
    alpha: float
    """Level of the exact test at one look."""
    enough: bool
    """Whether there were the labels that a verdict needs."""
    harmful: bool
    new_labels: tuple[str, ...]
    """Audited labels that the champion cannot answer; each counts as an error."""
    limit: float = 1.0
    """Largest error rate that is no harm: the baseline's, as high as it may truly be, and the tolerance."""
    alarms: tuple[str, ...] = ()
    """Which tests found harm: exact, e_cusum, after_drift."""
    e_value: float = 0.0
    """Highest evidence of the e-CUSUM within the newest `min_labels` labels."""
    e_level: float | None = None
    """Evidence at which it alarms; null with too few labels."""
    e_path: tuple[tuple[int, float], ...] = ()
    """(label, evidence), thinned for a drawing; labels are counted from the oldest that the e-CUSUM looks back on."""
    num_since: int = 0
    """Labels since the evidence was last nothing: about when what may be harm began."""
    num_waiting: int = 0
    """Labelled audit rows that do not count yet, since too many of those drawn before have no label."""
    num_volunteered: int = 0
    """Labels of rows that were not drawn: no random sample, so they do not count."""
    triage: tuple[Guess, ...] = ()
    """Label-free guesses of accuracy with their error; no decision reads them."""
    num_after_drift: int = 0
    """Labels of rows drawn after drift was first found, as many as the test of them looks at."""
    errors_after_drift: int = 0
    """Wrong answers among them."""
    rise: float = 0.0
    """Highest signed root likelihood ratio of those labels within the newest `min_labels` of them."""
    rise_level: float | None = None
    """The rise at which they alarm; null without drift or with too few of them."""
    settled: bool = False
    """Whether that test has looked at all the labels that it may, and found no harm."""


def harm_budget(config: MonitorConfig) -> float:
    """Chance that harm is found in all looks where there is none, half of the budget; and as much again once the input
    has moved."""
    return config.false_alarm_budget / 2


def harm_alpha(config: MonitorConfig) -> float:
    """Level of one look's exact test: its half of what the baseline's uncertainty leaves, over all looks."""
    return alpha_per_look(_test_budget(config), config.looks)


def _test_budget(config: MonitorConfig) -> float:
    return harm_budget(config) * (1 - MISS_SHARE) / 2


def label_horizon(config: MonitorConfig) -> int:
    """Labels that the e-CUSUM's share of the budget covers: the fewest that a verdict needs, at every look."""
    return min(config.looks * config.min_labels, MAX_HORIZON)


def error_limit(baseline: Baseline, config: MonitorConfig) -> float:
    """Largest error rate that is no harm; above it the baseline itself would have to be a stroke of luck.

    Source of the construction: Berger and Boos 1994, JASA 89:1012.
    """
    highest = upper_share(baseline.num_errors, baseline.num_rows, harm_budget(config) * MISS_SHARE)
    return min(0.999, highest + config.tolerance)


def audit(
    true_labels: Sequence[str],
    predicted_labels: Sequence[str],
    *,
    known_labels: Sequence[str],
    baseline: Baseline,
    config: MonitorConfig,
    confidence_n: NDArray[np.floating] | None = None,
    confidence_N: NDArray[np.floating] | None = None,
    weights_n: NDArray[np.floating] | None = None,
    num_after_drift: int = 0,
    num_waiting: int = 0,
    num_volunteered: int = 0,
    triage: tuple[Guess, ...] = (),
) -> HarmEvidence:
    """Test whether audited answers are wrong more often than the baseline by more than the tolerance.

    A pure function of the stored labels, given in the order in which they became due: whoever comes late, twice or in
    another order changes nothing but the row that the label belongs to. The labelled rows have to be a random sample of
    the traffic, each row drawn with a chance that only what came before decides: `weights_n` has its inverse, and
    weighs both intervals. The tests need no weights, since under H0 each row, whenever it came, is wrong with a chance
    of at most the limit. The last `num_after_drift` rows were drawn after drift was found. `confidence_n` and
    `confidence_N` (rows of the same time, drawn or not) are the champion's largest probabilities. All of `_n` are of
    the newest labelled rows, as many as the window takes. Raises: UserError.
    """
    _check(true_labels, predicted_labels, baseline, num_after_drift)
    correct = np.array([true == said for true, said in zip(true_labels, predicted_labels, strict=True)], dtype=bool)
    newest, limit = correct[-config.window :], error_limit(baseline, config)
    n, enough = len(newest), len(newest) >= config.min_labels
    exact = _exact(newest, limit, config)
    over_time = _over_time(correct, limit, config, enough=enough)
    after_drift = _after_drift(correct[len(correct) - num_after_drift :], baseline, config)
    found = {
        "exact": enough and exact["p_value"] <= exact["alpha"],
        "e_cusum": over_time["e_level"] is not None and over_time["e_value"] >= over_time["e_level"],
        "after_drift": after_drift["rise_level"] is not None and after_drift["rise"] >= after_drift["rise_level"],
    }
    alarms = tuple(name for name, alarm in found.items() if alarm)
    estimate = None
    if enough and confidence_n is not None and confidence_N is not None and len(confidence_N) > 0:
        estimate = ppi_accuracy(newest, confidence_n, confidence_N, weights_n=weights_n)
    return HarmEvidence(
        num_labels=n,
        accuracy=weighted_share(newest, np.ones(n) if weights_n is None else weights_n) if n else None,
        estimate=estimate,
        baseline_accuracy=baseline.accuracy,
        baseline_rows=baseline.num_rows,
        tolerance=config.tolerance,
        limit=limit,
        enough=enough,
        harmful=bool(alarms),
        alarms=alarms,
        settled=not alarms and after_drift["num_after_drift"] >= config.window,
        new_labels=tuple(sorted(set(true_labels) - set(known_labels))),
        num_waiting=num_waiting,
        num_volunteered=num_volunteered,
        triage=triage,
        **exact,
        **over_time,
        **after_drift,
    )


def _exact(newest_n: NDArray[np.bool_], limit: float, config: MonitorConfig) -> dict[str, Any]:
    """The exact test's fields of the evidence."""
    n, num_errors = len(newest_n), int((~newest_n).sum())
    p_value = excess_error_p(num_errors, n, limit=limit)
    return {"num_errors": num_errors, "p_value": p_value, "alpha": harm_alpha(config)}


def _over_time(correct_n: NDArray[np.bool_], limit: float, config: MonitorConfig, *, enough: bool) -> dict[str, Any]:
    """The e-CUSUM's."""
    horizon = label_horizon(config)
    path = e_cusum(~correct_n[-horizon:], limit)
    return {
        "e_value": float(path[-config.min_labels :].max()) if len(path) else 0.0,
        "e_level": alarm_level(limit, horizon, _test_budget(config)) if enough else None,
        "e_path": thinned(path),
        "num_since": len(path) - int(np.flatnonzero(np.append(1.0, path) <= 1).max()),
    }


def _after_drift(correct_n: NDArray[np.bool_], baseline: Baseline, config: MonitorConfig) -> dict[str, Any]:
    """Those of the labels after drift was found; the first `window` are looked at, as the budget is for so many."""
    wrong_n = ~correct_n[: config.window]
    found = {"num_after_drift": len(wrong_n), "errors_after_drift": int(wrong_n.sum()), "rise": 0.0, "rise_level": None}
    at_N = places(len(wrong_n), first=config.min_labels)
    if not len(at_N):
        return found
    base = BaseRate(num_errors=baseline.num_errors, num_rows=baseline.num_rows, margin=config.tolerance)
    rises_N = rise(np.cumsum(wrong_n)[at_N - 1], at_N, base)
    level = rise_level(
        base, first=config.min_labels, num_labels=max(config.window, config.min_labels),
        false_alarm=harm_budget(config),
    )  # fmt: skip
    return found | {"rise": float(rises_N[at_N > at_N[-1] - config.min_labels].max()), "rise_level": level}


def _check(
    true_labels: Sequence[str], predicted_labels: Sequence[str], baseline: Baseline, num_after_drift: int
) -> None:
    if not 0 <= num_after_drift <= len(true_labels):
        raise UserError(
            f"harm: expected from 0 to {len(true_labels)} of the labels to come after the drift, got {num_after_drift}"
        )
    if (
        len(true_labels) != len(predicted_labels)
        or not 0 <= baseline.num_errors <= baseline.num_rows
        or not baseline.num_rows
    ):
        raise UserError(
            f"harm: expected a prediction for each of {len(true_labels)} labels and a baseline with rows, got "
            f"{len(predicted_labels)} predictions and {baseline.num_errors} errors in {baseline.num_rows} rows; score "
            "the test split again"
        )
