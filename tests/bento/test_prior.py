"""What is no prior correction is refused in words, and a class that was never seen is left alone."""

import numpy as np
import pytest
from pydantic import ValidationError

from bento.manifest import Manifest
from bento.prior import PriorCorrection
from bento.task_types import Target


@pytest.mark.parametrize(
    ("before", "after"),
    [((0.5, 0.5), (1.0,)), ((0.5, 0.4), (0.5, 0.5)), ((0.5, 0.5), (1.0, 0.0)), ((1.5, -0.5), (0.5, 0.5))],
)
def test_shares_that_are_none_are_refused(before: tuple[float, ...], after: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError, match="one share a class"):
        PriorCorrection(before=before, after=after, num_rows=1)


def test_a_class_that_was_never_seen_is_not_shifted() -> None:
    prior = PriorCorrection(before=(0.5, 0.5, 0.0), after=(0.2, 0.8, 0.0), num_rows=1)
    assert prior.log_shift_C == pytest.approx([np.log(0.4), np.log(1.6), 0], abs=1e-6)


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_a_manifest_takes_a_correction_of_its_own_classes_alone(task: str) -> None:
    prior = {"before": (0.5, 0.5), "after": (0.2, 0.8), "num_rows": 1}
    labels = ("a", "b", "c") if task == "single_label" else ("a", "b")
    with pytest.raises(ValidationError, match="a share for each of"):
        Manifest(name="tiny", labels=labels, target=Target(task=task), max_tokens=16, files={}, prior=prior)
