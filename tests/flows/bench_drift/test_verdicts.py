"""What the rows say of planted records: misses, delays, needless and wasted retrains, and who is cheapest."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.bench_drift import verdicts
from flows.bench_drift.lab import QUICK, Lab
from flows.bench_drift.prices import Prices, parts_of_cost
from flows.bench_drift.replay import Run
from flows.bench_drift.shifts import MATCHED, ORACLE, fall, play_stream
from flows.bench_drift.verdicts import benign_rows, cost_rows, harm_rows, loop_rows, wasted_rows, wasted_share
from tasks.monitor.config import MonitorConfig
from tasks.types import Artifact

LAB = Lab(
    folder=Path(), encoder=Artifact(kind="encoder", path=Path(), sha256="", parents=(), made_by="encoder"),
    effort=QUICK, monitor=MonitorConfig(), corpora={},
)  # fmt: skip
PRICES = Prices(label=0.1, retrain=10)


def record(policy: str, stream: str = "one, abrupt", *, errors: int = 10, lost: float = 0.2, **fields: Any) -> Any:
    """A stream of 2,000 requests whose change at 1,000 costs `lost`; a retrain at look 14 unless said otherwise."""
    found: dict[str, Any] = {
        "stream": stream, "corpus": "one", "seed": 0, "policy": policy, "step": 100, "change": 1_000, "fall": lost,
        "states": ["no_drift"] * 20, "retrains": [14], "gains": [0.1], "errors": [errors] * 20,
        "labels_T": list(range(0, 420, 20)), "alarm_requests": 200, "retrain_requests": 400, "retrain_labels": 60,
        "labels_after": 180,
    }  # fmt: skip
    return found | fields


MISSED = {"retrains": [], "gains": [], "retrain_requests": None, "retrain_labels": None}


def planted(monkeypatch: pytest.MonkeyPatch, records: list[Any]) -> None:
    monkeypatch.setattr(verdicts, "replay_all", lambda lab: records)


def found(rows: list[dict[str, Any]], metric: str) -> dict[str, Any]:
    (row,) = [row for row in rows if row["metric"] == metric]
    return row


def test_a_miss_is_counted_and_a_quick_catch_meets_its_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, [record("Retort"), record("never", **MISSED)])
    rows = harm_rows(LAB)
    assert found(rows, "harmful shifts: missed")["met"] is True
    assert "never 100 %" in found(rows, "harmful shifts: missed")["against"]
    assert found(rows, "harmful shifts: audit labels to the retrain, median")["value"] == 60
    planted(monkeypatch, [record("Retort"), record("Retort", **MISSED), record("Retort", **MISSED)])
    rows = harm_rows(LAB)
    missed = found(rows, "harmful shifts: missed")
    assert (round(missed["value"]), missed["met"]) == (67, False)
    labels = found(rows, "harmful shifts: audit labels to the retrain, median")
    assert (labels["value"], labels["met"]) == (None, False)


def test_a_change_that_costs_nothing_is_benign_and_a_retrain_after_it_needless(monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, [record("Retort", lost=0.0), record("always", lost=0.0), record("Retort", lost=0.03)])
    (row,) = benign_rows(LAB)
    assert (row["value"], row["met"]) == (100, False)
    planted(monkeypatch, [record("Retort", lost=-0.02, **MISSED), record("always", lost=0.0)])
    (row,) = benign_rows(LAB)
    assert (row["value"], row["met"]) == (0, True)
    assert "always 100 %" in row["against"]


def test_retrains_are_wasted_below_a_point_of_gain_and_compared_at_matched_recall(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours = record("Retort", gains=[0.2, 0.009, None], retrains=[5, 14, 20])
    assert wasted_share([ours]) == 0.5
    careful = record("ATC", gains=[0.2], **{key: MISSED[key] for key in ("retrain_requests", "retrain_labels")})
    planted(monkeypatch, [ours, record("always", gains=[0.0, 0.0]), careful])
    share, least = wasted_rows(LAB)
    assert (share["value"], share["met"]) == (50, False)
    assert (least["value"], least["met"]) == (100, True), "ATC wastes less, but misses what Retort finds"


def test_the_audit_is_paid_to_the_end_and_others_labels_to_their_last_retrain() -> None:
    assert parts_of_cost(record("Retort"), PRICES) == {"errors": 200, "labels": 40, "retrains": 10}
    assert parts_of_cost(record("always"), PRICES) == {"errors": 200, "labels": pytest.approx(28), "retrains": 10}
    assert parts_of_cost(record("never", **MISSED), PRICES) == {"errors": 200, "labels": 0, "retrains": 0}


@pytest.mark.parametrize(("errors", "met"), [(8, True), (14, False)])
def test_the_cheapest_policy_wins_and_its_lead_has_an_interval(errors: int, met: bool) -> None:
    records = [
        one
        for stream, extra in (("one, abrupt", 0), ("two, abrupt", 1), ("three, abrupt", 2))
        for one in (
            record("Retort", stream, errors=errors), record("always", stream, errors=12 + extra),
            record("never", stream, errors=30, **MISSED), record(ORACLE, stream, errors=5),
        )
    ]  # fmt: skip
    ours, runner_up, last = cost_rows(records, PRICES, "whole loop", target=True)
    assert ours["met"] is met
    assert (runner_up["metric"], last["metric"]) == ("whole loop: always", "whole loop: never")
    lead = 10 * np.mean([12, 13, 14]) + 1_000 * 28 / 10 / 2_000 - 10 * errors - 1_000 * 40 / 10 / 2_000
    assert runner_up["value"] - ours["value"] == pytest.approx(lead, abs=10)


def test_a_real_run_has_a_record_of_each_policy_and_the_oracle_costs_least(
    shifted: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = play_stream(shifted.stream, shifted.setup, 0, np.random.default_rng(0))
    names = [one["policy"] for one in records]
    assert names[0] == "Retort"
    assert {MATCHED, ORACLE, "never", "always", "periodic", "ATC"} <= set(names)
    assert all(one["fall"] == fall(shifted) for one in records)
    matched = next(one for one in records if one["policy"] == MATCHED)
    assert len(matched["retrains"]) == len(records[0]["retrains"])
    planted(monkeypatch, records)
    rows = loop_rows(LAB)
    assert all(row["value"] >= 0 for row in rows if not row["metric"].startswith("whole loop at other prices"))
