"""The picture of a serving benchmark: a panel for each part that was measured."""

from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from tasks.report.serving import draw_serving

DETAILS: dict[str, Any] = {
    "closed": {"Retort": [{"per_s": 900.0}, {"per_s": 1_000.0}], "uvicorn": [{"per_s": 500.0}]},
    "open": {
        "bursty": {
            "Retort": [
                {"rate": 200.0, "p99_ms": 90.0, "passed": False},
                {"rate": 100.0, "p99_ms": 9.0, "passed": True},
            ]
        }
    },
    "batching": {"none_per_s": 900.0, "per_s": [[16, 800.0], [64, 1_200.0]]},
    "soak": [{"resident_mb": 300.0}, {"resident_mb": 301.0}],
}


def drawn(details: dict[str, Any], path: Path, monkeypatch: pytest.MonkeyPatch) -> Figure:
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *arguments: Any, **settings: Any) -> None:
        figures.append(figure)
        save(figure, *arguments, **settings)

    monkeypatch.setattr(Figure, "savefig", keep)
    draw_serving(details, path)
    return figures[0]


def test_every_part_has_its_panel_and_its_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = drawn(DETAILS, tmp_path / "serve.png", monkeypatch)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["32 connections", "Open loop, bursty", "Batching in process", "Half load"]
    rates, probes, batching, memory = figure.axes
    assert [bar.get_width() for bar in rates.patches] == [500, 950]
    assert [(line.get_xdata()[0], line.get_markerfacecolor() != "none") for line in probes.lines] == [
        (200, False),
        (100, True),
    ], "filled where it passed"
    assert batching.lines[0].get_ydata().tolist() == [800, 1_200]
    assert memory.lines[0].get_ydata().tolist() == [300, 301]


def test_a_part_that_was_not_measured_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = drawn({"batching": DETAILS["batching"]}, tmp_path / "serve.png", monkeypatch)
    assert len(figure.axes) == 1
