"""Alarms without drift are counted with their exact interval, and judged only by as many replays as can decide."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.bench_drift import calm
from flows.bench_drift.calm import Job, alarm_row, calm_rows, first_alarm, play
from flows.bench_drift.corpus import Corpus
from flows.bench_drift.lab import QUICK, Effort, Lab
from flows.bench_drift.replay import Run, Setup
from tasks.monitor.config import MonitorConfig
from tasks.types import Artifact

ENCODER = Artifact(kind="encoder", path=Path(), sha256="", parents=(), made_by="encoder")


def lab_of(corpus: Corpus, effort: Effort = QUICK) -> Lab:
    return Lab(
        folder=Path(), encoder=ENCODER, effort=effort, monitor=MonitorConfig(), corpora={corpus.name: corpus}
    )  # fmt: skip


def replays(num_alarms: int, of: int) -> list[dict[str, Any]]:
    alarms: dict[str, Any] = dict.fromkeys(("Retort", *calm.WATCHED))
    loud = alarms | {"Retort": {"look": 3, "state": "suspect"}, "ATC": {"look": 1, "state": "retrain"}}
    return [{"corpus": "clusters", "natural": False, "alarms": loud if at < num_alarms else alarms} for at in range(of)]


@pytest.mark.parametrize(
    ("num_alarms", "of", "met"), [(0, 300, True), (30, 300, True), (36, 300, False), (1, 24, None), (12, 24, False)]
)
def test_the_upper_bound_decides_where_the_replays_are_enough(
    corpus: Corpus, num_alarms: int, of: int, met: bool | None
) -> None:
    found = alarm_row("no drift", replays(num_alarms, of), lab_of(corpus))
    assert found["value"] == pytest.approx(100 * num_alarms / of)
    assert (found["target"], found["met"]) == ("upper bound <= 15 %", met)
    assert ("suspect" in found["against"]) is (num_alarms > 0)


def test_the_first_alarm_is_found_and_later_looks_are_not_made(still: Run) -> None:
    looked = []

    def policy(moment: Any) -> str:
        looked.append(moment.look)
        return "suspect" if moment.look == 3 else "no_drift"

    assert first_alarm(still, policy) == {"look": 3, "state": "suspect"}
    assert looked == [1, 2, 3]
    assert first_alarm(still, lambda moment: "none") is None


@pytest.mark.parametrize("natural", [False, True])
def test_a_replay_without_drift_is_quiet_for_retort_and_loud_for_uncorrected_looks(
    corpus: Corpus, setup: Setup, monkeypatch: pytest.MonkeyPatch, natural: bool
) -> None:
    monkeypatch.setattr(calm, "corpora_here", lambda: {corpus.name: stationary(corpus)})
    found = [play(Job(corpus=corpus.name, natural=natural, seed=seed, setup=setup))["alarms"] for seed in range(3)]
    assert [alarms["Retort"] for alarms in found] == [None] * 3
    assert any(alarms["MMD p < .05"] or alarms["domain classifier"] for alarms in found)


def stationary(corpus: Corpus) -> Corpus:
    """Its rows before the change."""
    kept = copy.copy(corpus)
    for name in ("texts", "labels_N", "domains_N", "embeddings_ND"):
        object.__setattr__(kept, name, getattr(corpus, name)[:6_000])
    object.__setattr__(kept, "descriptors", {name: values[:6_000] for name, values in corpus.descriptors.items()})
    return kept


def test_the_rows_are_of_both_orders_and_of_each_set(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    def here(lab: Lab, work: Callable[..., Any], jobs: list[Job], title: str) -> list[dict[str, Any]]:
        return [replays(0, 1)[0] | {"corpus": job.corpus, "natural": job.natural} for job in jobs]

    monkeypatch.setattr(Lab, "share_out", here)
    rows = calm_rows(lab_of(corpus))
    assert [row["metric"] for row in rows] == [
        "no drift, shuffled: any alarm", "no drift, natural order: any alarm", "no drift, all: any alarm",
        "no drift, clusters: any alarm",
    ]  # fmt: skip
    assert rows[2]["against"].startswith("24 replays of 30 looks")


def test_a_full_run_has_the_replays_looks_and_seeds_of_the_plan() -> None:
    effort = Effort()
    assert (effort.num_replays, effort.looks, effort.num_seeds) >= (300, 90, 5)
