"""Days from the log, from files, and made up."""

import numpy as np
import pytest

from bento.errors import UserError
from tasks.capacity.traffic import DAY_S, Day, logged, read_day, sparkline, synthetic
from tests.logged import row, store


@pytest.fixture(autouse=True)
def _own_state(tmp_path, monkeypatch):
    monkeypatch.setenv("RETORT_HOME", str(tmp_path))


def test_the_log_s_requests_count_once_by_second_and_only_those_of_the_model_and_of_the_last_day():
    store(
        row("old", received_at=1_000.0), row("a", received_at=200_000.2), row("a", item=1, received_at=200_000.2),
        row("b", received_at=200_000.9), row("c", received_at=200_003.1),
        row("d", received_at=200_003.5, name="other"),
    )  # fmt: skip
    assert logged("tiny").num_T.tolist() == [2, 0, 0, 1]


def test_a_log_without_traffic_is_an_error_in_words():
    with pytest.raises(UserError, match="expected a request log with traffic of at least two seconds, got 0"):
        logged("tiny")


def test_a_file_s_requests_are_spread_over_their_period(tmp_path):
    path = tmp_path / "day.csv"
    path.write_text("at,requests\n100,60\n160,30\n170,0\n", encoding="utf-8")
    found = read_day(path)
    assert found.num_T.tolist() == [1.0] * 60 + [3.0] * 10
    path.write_text("at,requests\n2026-01-01T00:00:00,5\n2026-01-01T00:00:05,0\n", encoding="utf-8")
    assert read_day(path).num_T.tolist() == [1.0] * 5


@pytest.mark.parametrize(
    "text",
    [
        "", "at,requests\n1,1\n", "at,requests\n2,1\n1,1\n", "time,n\n1,1\n2,2\n", "at,requests\n1,-1\n2,0\n",
        "at,requests\n1,inf\n2,0\n", "at,requests\n1,nan\n2,0\n", "at,requests\n1,1e308\n2,0\n",
        "at,requests\ninf,1\ninf,0\n", "at,requests\nnan,1\nnan,0\n", "at,requests\n1," + "x" * 200_000,
    ],
)  # fmt: skip
def test_a_file_that_is_no_day_is_refused(tmp_path, text):
    path = tmp_path / "day.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"day.csv: expected"):
        read_day(path)


def test_a_day_without_a_request_is_refused(tmp_path):
    path = tmp_path / "day.csv"
    path.write_text("at,requests\n0,0\n60,5\n", encoding="utf-8")
    with pytest.raises(UserError, match="expected at least one request, got 0 in the rows before the last"):
        read_day(path)


def test_the_synthetic_day_has_its_busiest_minute_and_a_quiet_night():
    found = synthetic(1_000, np.random.default_rng(0))
    assert len(found.num_T) == DAY_S
    assert found.busiest_per_s == pytest.approx(1_000, rel=0.05)
    assert found.num_T[: 3 * 3600].mean() < 0.15 * found.busiest_per_s
    again = synthetic(1_000, np.random.default_rng(0))
    assert (again.num_T == found.num_T).all()


def test_poisson_arrivals_have_dispersion_one_and_bunches_more():
    rng = np.random.default_rng(0)
    even = Day(source="", num_T=rng.poisson(50, 7_200).astype(float))
    bunched = Day(source="", num_T=10.0 * rng.poisson(5, 7_200))
    assert even.dispersion == pytest.approx(1, abs=0.1)
    assert bunched.dispersion == pytest.approx(10, rel=0.1)
    assert Day(source="", num_T=np.zeros(600)).dispersion == 1


def test_a_short_last_minute_is_a_mean_of_its_own_seconds():
    assert Day(source="", num_T=np.r_[np.full(60, 2.0), np.full(10, 5.0)]).by_minute().tolist() == [2, 5]


def test_a_line_of_characters_shows_the_largest_of_each_part():
    assert sparkline([0, 1, 2, 8], 4) == "▁▂▃█"
    assert sparkline([0, 8, 0, 0], 2) == "█▁"
    assert sparkline([4, 4], 2, top=8) == "▅▅"
    assert sparkline([0, 0], 2) == "▁▁"
