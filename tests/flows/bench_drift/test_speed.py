"""The cost of a look is that of all it does."""

import pytest

from flows.bench_drift import speed
from flows.bench_drift.corpus import Corpus
from flows.bench_drift.lab import Lab
from tests.flows.bench_drift.test_calm import lab_of


@pytest.fixture
def lab(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setattr(speed, "NUM_TRAIN", 300)
    monkeypatch.setattr(speed, "WINDOW", 200)
    monkeypatch.setattr(speed, "REFERENCE", 300)
    return lab_of(corpus)


def test_a_look_is_timed_beside_its_largest_part(lab: Lab) -> None:
    (found,) = speed.look_rows(lab)
    assert found["value"] > 0
    assert found["ratio"] > 1
    assert "10,000 permutations" in found["against"]


def test_a_set_too_small_is_said(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "NUM_TRAIN", 1_000_000)
    (found,) = speed.look_rows(lab)
    assert (found["value"], found["met"]) == (None, None)


def test_a_look_that_takes_too_long_misses_its_target(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "MAX_S", 0.0)
    assert speed.look_rows(lab)[0]["met"] is False
