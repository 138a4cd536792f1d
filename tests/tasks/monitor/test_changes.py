import numpy as np
import pytest

from tasks.monitor.changes import NUM_EXAMPLES, explore
from tests.tasks.monitor.made_up import make_reference, make_window


def explored(**options):
    rng = np.random.default_rng(0)
    reference = make_reference(rng)
    window = make_window(rng, 200, **options)
    return reference, window, explore(reference, window, [f"reference {row}" for row in range(len(reference))])


def test_the_texts_that_moved_are_least_like_the_reference():
    rng = np.random.default_rng(0)
    reference, window = make_reference(rng), make_window(rng, 200)
    window.embeddings_ND[:60, -1] += 6
    found = explore(reference, window, ["a text"] * len(reference))
    moved = {f"text {row}" for row in range(60)}
    assert {example.text for example in found.unlike} <= moved
    assert not {example.text for example in found.alike} & moved


def test_each_example_has_the_answer_and_the_nearest_reference_text():
    reference, window, found = explored()
    assert len(found.unlike) == len(found.alike) == NUM_EXAMPLES
    example = found.unlike[0]
    row = int(example.text.removeprefix("text "))
    assert example.label == reference.class_names[window.probabilities_NC[row].argmax()]
    assert example.probability == pytest.approx(window.probabilities_NC[row].max())
    distances = np.linalg.norm(reference.project(window.embeddings_ND[[row]]) - reference.projected_MK, axis=1)
    assert example.nearest == f"reference {distances.argmin()}"
    assert example.nearest_label == reference.class_names[reference.labels_M[distances.argmin()]]


def test_properties_are_means_of_both_sides():
    reference, window, found = explored()
    (length,) = found.properties
    assert length.window == pytest.approx(window.descriptors["length"].mean())
    assert length.reference == pytest.approx(reference.descriptors["length"].mean())


def test_an_empty_window_has_nothing_to_show():
    rng = np.random.default_rng(0)
    found = explore(make_reference(rng), make_window(rng, 0), [])
    assert found.unlike == found.words == found.properties == ()
