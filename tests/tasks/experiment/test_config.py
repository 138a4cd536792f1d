"""The settings of an experiment."""

import pytest
from pydantic import ValidationError

from tasks.experiment.config import ExperimentConfig


def test_a_list_of_growing_shares_is_taken() -> None:
    assert ExperimentConfig.model_validate({"ab_share": [0.05, 0.5]}).ab_share == (0.05, 0.5)


@pytest.mark.parametrize("shares", [[0.5, 0.1], [0.6], [0.0], [0.1, 0.1]])
def test_shares_that_do_not_grow_or_are_too_large_are_refused(shares: list[float]) -> None:
    with pytest.raises(ValidationError, match="expected growing shares"):
        ExperimentConfig.model_validate({"ab_share": shares})
