"""Temperature and threshold of the model that will serve."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from bento.errors import UserError
from bento.manifest import Manifest
from bento.predictor import Predictor
from bento.task_types import softmax
from tasks.calibrate import AbstainConfig, calibrate
from tasks.compress.context import Context
from tasks.data import read_labels, read_split
from tasks.task_types import SingleLabel
from tasks.types import Artifact


def test_the_stored_temperature_has_the_least_loss_of_a_grid_and_nothing_else_changes(
    context: Context, exported: Artifact
) -> None:
    before = Predictor(exported.path)
    step = calibrate(model=exported, data=context.data, abstain=None)
    after = Predictor(step.artifact.path)
    validation = read_split(context.data.path, "validation")
    labels_N = SingleLabel().targets(validation, read_labels(context.data.path))
    logits_NC = before.predict_logits(validation.texts)
    assert np.array_equal(after.predict_logits(validation.texts), logits_NC)
    assert after.predict(validation.texts) == pytest.approx(softmax(logits_NC, after.manifest.temperature))

    def loss(temperature: float) -> float:
        probabilities_NC = softmax(logits_NC.astype(np.float64), temperature)
        return float(-np.log(probabilities_NC[np.arange(len(labels_N)), labels_N]).mean())

    grid = min(loss(temperature) for temperature in np.geomspace(0.05, 20, 400))
    assert loss(after.manifest.temperature) == pytest.approx(grid, abs=1e-4)
    assert after.manifest.lineage["uncalibrated"] == exported.sha256
    assert calibrate(model=exported, data=context.data, abstain=None).cached
    assert Manifest.read(exported.path).temperature == 1.0, "the input is untouched"


def test_the_coverage_that_was_asked_for_is_kept_on_the_validation_rows(context: Context, exported: Artifact) -> None:
    config = AbstainConfig(min_coverage=0.5)
    predictor = Predictor(calibrate(model=exported, data=context.data, abstain=config).artifact.path)
    texts = read_split(context.data.path, "validation").texts
    answered_N = ~np.array([predictor.abstains(predictor.predict([text]))[0] for text in texts])
    assert answered_N.mean() == pytest.approx(0.5, abs=1 / len(texts))


def test_an_out_of_scope_class_is_stored_with_the_threshold(context: Context, exported: Artifact) -> None:
    config = AbstainConfig(threshold=0.4, labels=["red"])
    rule = Manifest.read(calibrate(model=exported, data=context.data, abstain=config).artifact.path).abstain
    assert rule is not None
    assert (rule.threshold, rule.labels) == (0.4, ("red",))


def test_a_risk_that_cannot_be_shown_is_refused_with_what_to_do(context: Context, exported: Artifact) -> None:
    with pytest.raises(UserError, match=r"cannot show a risk of 0\.01 or less"):
        calibrate(model=exported, data=context.data, abstain=AbstainConfig(max_risk=0.01))


@pytest.mark.parametrize("fields", [{}, {"threshold": 0.5, "max_risk": 0.1}, {"labels": ["oos"]}])
def test_exactly_one_rule_is_wanted(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="exactly one of threshold, max_risk and min_coverage"):
        AbstainConfig.model_validate(fields)


def test_a_class_that_the_data_does_not_have_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"got \['oos'\]; it has blue, red"):
        AbstainConfig(threshold=0.5, labels=["oos", "red"]).check_classes(("blue", "red"))
