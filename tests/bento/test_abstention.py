"""When an answer is left to a person, and that every way to the model says so."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from bento.abstention import Abstention, scope_confidence
from bento.app import Server, create_app
from bento.manifest import Manifest
from bento.predictor import Predictor
from bento.serve_settings import ServeSettings
from tasks.score import score_file
from tests.serving import serving
from tests.tiny import write_tiny_model

LABELS = ("a", "b", "oos")
PROBABILITIES_NC = np.array([[0.6, 0.3, 0.1], [0.2, 0.3, 0.5], [0.45, 0.2, 0.35]], dtype=np.float32)


def write_model(folder: Path, rule: Abstention | None) -> Path:
    """A tiny model with this rule in its manifest."""
    model = write_tiny_model(folder, labels=LABELS)
    Manifest.read(model).model_copy(update={"abstain": rule}).write(model)
    return model


def test_confidence_is_the_largest_probability_and_below_every_threshold_out_of_scope() -> None:
    assert scope_confidence(PROBABILITIES_NC, LABELS, ()).tolist() == pytest.approx([0.6, 0.5, 0.45])
    assert scope_confidence(PROBABILITIES_NC, LABELS, ("oos",)).tolist() == pytest.approx([0.6, -1.0, 0.45])


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (None, [False, False, False]),
        (Abstention(threshold=0.5), [False, False, True]),
        (Abstention(threshold=0.0, labels=("oos",)), [False, True, False]),
        (Abstention(threshold=0.5, labels=("oos",)), [False, True, True]),
    ],
)
def test_the_predictor_follows_the_rule_of_its_manifest(
    tmp_path: Path, rule: Abstention | None, expected: list[bool]
) -> None:
    predictor = Predictor(write_model(tmp_path / "model", rule))
    assert predictor.abstains(PROBABILITIES_NC).tolist() == expected
    assert predictor.manifest.abstain == rule


def test_a_threshold_that_is_no_probability_is_refused() -> None:
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        Abstention(threshold=1.5)


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_service_protocol_metrics_and_batch_scoring_tell_of_it(tmp_path: Path, threshold: float) -> None:
    model = write_model(tmp_path / "model", Abstention(threshold=threshold))
    abstained = threshold == 1.0
    with serving(create_app(Server(ServeSettings(model=model)))) as client:
        answer = client.post("/predict", json={"texts": ["my card", "refund"]}).json()
        assert [prediction["abstained"] for prediction in answer["predictions"]] == [abstained] * 2
        body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["my card"]}]}
        outputs = client.post("/v2/models/tiny/infer", json=body).json()["outputs"]
        assert outputs[-1] == {"name": "abstained", "datatype": "BOOL", "shape": [1], "data": [abstained]}
        assert f"retort_abstentions_total {3.0 if abstained else 0.0}" in client.get("/metrics").text
    pd.DataFrame({"text": ["my card"]}).to_csv(tmp_path / "in.csv", index=False)
    score_file(model, tmp_path / "in.csv", tmp_path / "out.csv", text="text", text_pair=None)
    assert pd.read_csv(tmp_path / "out.csv")["abstained"].tolist() == [abstained]
