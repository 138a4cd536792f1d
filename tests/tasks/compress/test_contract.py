"""What every technique must hold: deterministic, input untouched, format honoured, lineage set."""

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from bento.manifest import Manifest, folder_sha256
from bento.predictor import Predictor
from tasks.architecture import load_classifier
from tasks.compress import Technique
from tasks.compress.context import Context
from tasks.compress.export import Export
from tasks.compress.prune_weights import PruneWeights
from tasks.types import Artifact

TECHNIQUES = get_args(get_args(Technique)[0])
QUICK: dict[str, dict[str, Any]] = {
    "distil": {"layers": [0, 2], "epochs": 1, "transfer": {"copies": 1}},
    "linformer": {"epochs": 1, "projected_length": 4, "min_speedup": 0.0},
    "prune_structure": {"num_layers": 2, "epochs": 1},
    "prune_vocabulary": {"likely": 10},
    "prune_weights": {"method": "one_shot", "epochs": 1},
    "train_quantized": {"epochs": 1},
    "tune": {"threads": [1], "pad_multiples": [1], "graph_levels": ["all"], "serving": False},
}


@pytest.fixture(params=TECHNIQUES, ids=lambda technique: technique.model_fields["kind"].default)
def technique(request: pytest.FixtureRequest) -> Any:
    kind = request.param.model_fields["kind"].default
    return request.param(**QUICK.get(kind, {}))


@pytest.fixture
def given(technique: Any, context: Context, exported: Artifact) -> Artifact:
    if technique.kind == "pack":  # it refuses what is not sparse
        sparse = PruneWeights(method="one_shot", epochs=1).run(context.teacher, context).artifact
        return Export().run(sparse, context).artifact
    return context.teacher if technique.consumes == "torch" else exported


def remake(technique: Any, given: Artifact, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Digest of the result in a store that is empty."""
    monkeypatch.setenv("RETORT_HOME", str(tmp_path / "second"))
    return str(technique.run(given, context).artifact.sha256)


def test_a_technique_keeps_its_contract(
    technique: Any, given: Artifact, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = folder_sha256(given.path)
    step = technique.run(given, context)
    assert folder_sha256(given.path) == before
    assert step.artifact.kind == technique.produces
    assert given.sha256 in step.artifact.parents
    assert context.data.sha256 in step.artifact.parents
    assert technique.run(given, context).cached
    if technique.produces == "onnx":
        Manifest.read(step.artifact.path).check(step.artifact.path)
        assert Predictor(step.artifact.path).predict(["the car is red"]).shape == (1, 3)
    else:
        from transformers import AutoTokenizer

        model = load_classifier(step.artifact.path)
        assert model(**AutoTokenizer.from_pretrained(step.artifact.path)("red", return_tensors="pt")).logits.shape == (
            1,
            3,
        )
    assert remake(technique, given, context, tmp_path, monkeypatch) == step.artifact.sha256


def test_another_name_makes_anew_only_what_carries_it(technique: Any, given: Artifact, context: Context) -> None:
    technique.run(given, context)
    again = technique.run(given, replace(context, name="another"))
    assert again.cached is (technique.produces == "torch")
