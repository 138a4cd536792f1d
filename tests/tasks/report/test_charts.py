"""The charts show every model once, and their labels keep clear of one another."""

import re

from tasks.report import charts
from tasks.report.theme import LIGHT
from tests.tasks.report.sample import build_summary


def test_a_step_that_is_the_candidate_is_not_drawn_twice():
    names = [mark.name for mark in charts.marks_of(build_summary())]
    assert names == ["teacher", "candidate", "floor", "teacher in PyTorch", "export"]


def test_a_model_without_a_latency_is_left_out():
    summary = build_summary()
    summary["scores"]["floor"]["latency_ms_p50"] = None
    assert "floor" not in [mark.name for mark in charts.marks_of(summary)]


def test_a_drawing_takes_its_colours_from_the_page_and_keeps_its_ids_apart():
    figure = charts.tradeoff_figure(charts.marks_of(build_summary()))
    drawing = charts.svg(figure, "one")
    assert drawing.startswith("<svg")
    assert "var(--candidate)" in drawing
    assert not any(colour in drawing for colour in LIGHT.values())
    assert all(name.startswith("one-") for name in re.findall(r' id="([^"]*)"', drawing))
    assert set(re.findall(r"(?:url\(|href=\")#([^)\"]*)", drawing)) <= set(re.findall(r' id="([^"]*)"', drawing))


def test_labels_of_models_apart_do_not_cover_each_other():
    figure = charts.tradeoff_figure(charts.marks_of(build_summary()))
    renderer = charts.FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    boxes = [text.get_window_extent(renderer) for text in figure.axes[0].texts]
    assert len(boxes) == 5
    pairs = [(first, second) for at, first in enumerate(boxes) for second in boxes[:at]]
    assert sum(first.overlaps(second) for first, second in pairs) == 0


def test_long_distributions_are_drawn_from_their_quantiles():
    drawing = charts.svg(charts.latency_figure({"teacher": [float(at) for at in range(1, 100_000)]}), "two")
    assert len(drawing) < 60_000


def test_one_single_latency_is_drawn():
    assert charts.svg(charts.latency_figure({"candidate": [0.4]}), "three").startswith("<svg")


def test_the_headline_says_what_was_gained():
    assert charts.headline(build_summary()) == "bank: 12× smaller, 20× faster, accuracy 92.4 % (teacher 92.8 %)"
