"""The draw of who is asked, and what the database assigns."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from scipy import stats

from bento import database
from bento.arms import Arm, Assignment, Raised, drawn, read_assignment
from bento.audit_records import raise_audit_rate
from tests.arms import end_arm, point_at, put_beside
from tests.tiny import write_tiny_model

UNITS = [f"person {number}" for number in range(20_000)]


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_the_share_of_units_that_is_drawn_is_the_one_that_was_asked_for(share: float) -> None:
    num_drawn = sum(drawn("salt", unit, share) for unit in UNITS)
    assert stats.binomtest(num_drawn, len(UNITS), share).pvalue > 0.01


def test_the_draw_is_uniform_over_all_shares() -> None:
    edges = np.linspace(0, 1, 21)
    counts = np.diff([sum(drawn("salt", unit, edge) for unit in UNITS) for edge in edges])
    assert counts.sum() == len(UNITS)
    assert stats.chisquare(counts).pvalue > 0.01


def test_units_that_resemble_each_other_are_drawn_apart() -> None:
    drawn_N = np.array([drawn("salt", unit, 0.5) for unit in UNITS], dtype=float)
    assert abs(np.corrcoef(drawn_N[:-1], drawn_N[1:])[0, 1]) < 0.03


def test_a_larger_share_keeps_whom_it_had() -> None:
    shares = (0.05, 0.1, 0.3, 0.5)
    groups = [{unit for unit in UNITS if drawn("salt", unit, share)} for share in shares]
    assert all(small < large for small, large in itertools.pairwise(groups))


def test_another_salt_draws_others_whichever_comes_first() -> None:
    first, second = (np.array([drawn(salt, unit, 0.5) for unit in UNITS]) for salt in ("1", "2"))
    counts = [[(first & second).sum(), (first & ~second).sum()], [(~first & second).sum(), (~first & ~second).sum()]]
    assert stats.chi2_contingency(counts).pvalue > 0.01


def test_the_draw_never_changes() -> None:
    assert [unit for unit in UNITS[:40] if drawn("salt", unit, 0.1)] == ["person 15", "person 17", "person 26"]


@pytest.mark.parametrize("unit", ["", "\ud800", "\0", "ключ", "x" * 256])
def test_any_key_can_be_drawn(unit: str) -> None:
    assert drawn("salt", unit, 1.0)
    assert not drawn("salt", unit, 0.0)


def test_the_assignment_holds_champion_and_arms(tmp_path: Path) -> None:
    models = [write_tiny_model(tmp_path / f"v{seed}", seed=seed) for seed in (1, 2, 3)]
    assert read_assignment("tiny") == Assignment()
    point_at(models[0], "1")
    found = read_assignment("tiny")
    assert found.champion is not None
    assert (found.champion.version, found.beside) == ("1", {})
    put_beside(models[1], "2", "challenger", 0.1, salt="s")
    put_beside(models[2], "3", "shadow", 1.0)
    found = read_assignment("tiny")
    assert found.champion is not None
    challenger = found.beside["challenger"]
    assert (found.champion.version, challenger.pointer.version) == ("1", "2")
    assert (challenger.share, challenger.salt) == (0.1, "s")
    assert isinstance(found.beside["shadow"], Arm)
    end_arm("challenger")
    assert set(read_assignment("tiny").beside) == {"shadow"}


def test_arms_without_a_champion_serve_nobody(tmp_path: Path) -> None:
    put_beside(write_tiny_model(tmp_path / "v2"), "2", "challenger", 0.1)
    assert read_assignment("tiny") == Assignment()
    with database.engine().connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(database.arms)) == 1


def test_a_raised_audit_rate_comes_with_the_assignment_whatever_the_arms(tmp_path: Path) -> None:
    raise_audit_rate("tiny", 0.2, 900.0)
    raise_audit_rate("tiny", 0.3, 1_000.0)
    assert read_assignment("tiny") == Assignment()
    point_at(write_tiny_model(tmp_path / "v1"), "1")
    assert read_assignment("tiny").raised == Raised(rate=0.3, until=1_000.0)
    put_beside(write_tiny_model(tmp_path / "v2", seed=2), "2", "challenger", 0.1)
    assert read_assignment("tiny").raised == Raised(rate=0.3, until=1_000.0)
