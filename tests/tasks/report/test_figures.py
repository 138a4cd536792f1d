"""The figures of report and MLflow show what the answers hold."""

import numpy as np

from tasks.report.figures import MOST_CLASSES, class_figure, confusion_figure, confusion_words, reliability_figure


def test_the_confusion_matrix_counts_true_against_predicted():
    axes = confusion_figure([[2, 1], [0, 2]], ("a", "b")).axes[0]
    assert [text.get_text() for text in axes.texts] == ["2", "1", "0", "2"]
    cells = {(patch.get_x() + 0.5, patch.get_y() + 0.5): patch.get_alpha() for patch in axes.patches}
    assert set(cells) == {(0, 0), (1, 0), (1, 1)}
    assert cells[1, 0] < cells[0, 0] < cells[1, 1] == 1


def test_of_many_classes_the_most_confused_are_shown():
    counts_CC = np.eye(80, dtype=int)
    counts_CC[70] = np.eye(80, dtype=int)[71]
    axes = confusion_figure(counts_CC, [f"c{at}" for at in range(80)]).axes[0]
    names = [tick.get_text() for tick in axes.get_yticklabels()]
    assert len(names) == MOST_CLASSES
    assert {"c70", "c71"} <= set(names)
    assert confusion_words(80).startswith("The 30 of 80 classes")
    assert confusion_words(5).startswith("All classes")


def test_a_class_that_lost_is_red_and_named_and_the_others_are_not():
    rows = [("won", 0.8, 0.9), ("lost", 0.9, 0.7), ("same", 0.5, 0.5)]
    per_class = [{"label": label, "f1_teacher": a, "f1_candidate": b, "support": 9} for label, a, b in rows]
    axes = class_figure(per_class).axes[0]
    assert [text.get_text() for text in axes.texts] == ["lost"]
    better, worse = axes.collections
    assert worse.get_offsets().tolist() == [[0.9, 0.7]]
    assert len(better.get_offsets()) == 2


def test_the_reliability_curve_has_both_models_and_counts_the_candidates_rows():
    curves = {
        "candidate": {"confidence": [0.5, 0.9], "accuracy": [0.4, 0.95], "num_answers": [100.0, 900.0]},
        "teacher": {"confidence": [0.7], "accuracy": [0.6], "num_answers": [1000.0]},
    }
    above, below = reliability_figure(curves).axes
    assert [text.get_text() for text in above.get_legend().get_texts()] == ["teacher", "candidate"]
    assert [bar.get_height() for bar in below.patches] == [100, 900]


def test_a_label_that_looks_like_mathematics_is_drawn_as_it_is():
    figure = confusion_figure(np.eye(2), ("$\\frac{", "b"))
    figure.canvas.draw()
    assert figure.axes[0].get_yticklabels()[0].get_text() == "$\\frac{"
