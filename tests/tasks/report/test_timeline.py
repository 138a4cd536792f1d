import base64

import pytest

from tasks.report.theme import LIGHT
from tasks.report.timeline import data_url, place, process_figure, timeline_figure
from tests.tasks.report.sample import look_evidence


def look(state="no_drift", p=0.4, accuracy=0.9, tests=True, at=0.0, e_value=1.0, e_level=500.0, **more):
    found_tests = {"embedding": {"p_holm": p}, "descriptors": {"p_holm": 1.0}} if tests else {}
    found = None if accuracy is None else {"value": accuracy, "low": accuracy - 0.05, "high": accuracy + 0.03}
    return {
        "state": state,
        "at": at,
        "evidence": {
            "drift": {"alpha": 0.001, "tests": found_tests},
            "harm": {
                "baseline_accuracy": 0.92, "tolerance": 0.05, "accuracy": found, "e_value": e_value, "e_level": e_level,
            },
        },
    } | more  # fmt: skip


def points(axes):
    """The marks, as (x, y, colour); the level of each look is a line of two points."""
    return [
        (float(line.get_xdata()[0]), float(line.get_ydata()[0]), line.get_color())
        for line in axes.lines
        if line.get_marker() == "o"
    ]


def test_each_look_is_a_point_at_its_smallest_p_in_the_colour_of_its_state():
    drift, *_ = timeline_figure([look(), look("suspect", p=0.0004), look("harm", p=0)]).axes
    assert points(drift) == [
        (1.0, 0.4, LIGHT["good"]),
        (2.0, 0.0004, LIGHT["unsure"]),
        (3.0, 1e-05, LIGHT["bad"]),
    ]


def test_a_look_with_too_few_rows_or_without_labels_has_no_point():
    drift, accuracy, process, _ = timeline_figure([look(tests=False, accuracy=None, e_level=None)]).axes
    assert points(drift) == points(accuracy) == points(process) == []


def test_audited_accuracy_is_drawn_with_its_interval():
    _, accuracy, *_ = timeline_figure([look(), look("harm", accuracy=0.6)]).axes
    assert [(x, y) for x, y, _ in points(accuracy)] == [(1.0, 0.9), (2.0, 0.6)]
    bars = [segment for bar in accuracy.collections for segment in bar.get_segments()]
    assert bars[1][:, 1] == pytest.approx([0.55, 0.63])


def test_evidence_of_harm_and_the_budget_spent_are_drawn():
    looks = [look(spent=0.01, budget=0.1), look("harm", e_value=900.0, spent=0.02, budget=0.1)]
    *_, process, budget = timeline_figure(looks).axes
    assert points(process) == [(1.0, 1.0, LIGHT["good"]), (2.0, 900.0, LIGHT["bad"])]
    assert [bar.get_height() for bar in budget.patches] == [0.01, 0.02]
    assert budget.get_ylim()[1] > 0.1


def test_promotions_and_requests_stand_between_the_looks_around_them():
    looks = [look(at=10.0), look(at=20.0)]
    assert [place(at, looks) for at in (5.0, 10.0, 15.0, 25.0)] == [0.5, 1.5, 1.5, 2.5]
    figure = timeline_figure(looks, [{"at": 15.0, "kind": "promote", "text": "v2"}])
    assert [1.5, 1.5] in [list(line.get_xdata()) for line in figure.axes[0].lines]
    assert "v2" in [text.get_text() for text in figure.axes[0].texts]
    assert "promoted" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_evidence_over_the_labels_crosses_its_level_in_red():
    curve, level = process_figure(look_evidence()["harm"]).axes[0].lines
    assert list(curve.get_xdata()) == [1, 200, 412]
    assert curve.get_color() == LIGHT["bad"]
    assert max(curve.get_ydata()) > level.get_ydata()[0]


def test_the_picture_is_inside_its_address():
    kind, _, encoded = data_url(timeline_figure([look()])).partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(encoded).startswith(b"\x89PNG")
