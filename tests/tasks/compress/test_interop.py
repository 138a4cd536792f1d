"""Model folders are standard: plain transformers, optimum and Transformers.js load them and answer as Retort does."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bento.predictor import Predictor
from tasks.compress.context import Context
from tasks.compress.distil import Distil
from tasks.compress.export import Export
from tasks.compress.prune_vocabulary import PruneVocabulary
from tasks.compress.quantize import Quantize
from tasks.types import Artifact

SCRIPT = Path(__file__).parent / "transformers_js" / "classify.mjs"
SENTENCES = [
    "The red car over there is mine.",
    "Where's the GREEN house?!",
    "naïve: £20 😀",
    "日本 is 7 o'clock",
    "Über alles tut",
]
LONG = " ".join(["a red car was seen near the blue house"] * 8)
"""Longer than the 16 tokens at which the model truncates; the sentences above are not, whatever the vocabulary."""

Answer = Callable[[Path, list[str]], list[dict[str, float]]]


@pytest.fixture(scope="module")
def student(context: Context) -> Artifact:
    """Two layers and a cut vocabulary."""
    small = PruneVocabulary(likely=10).run(context.teacher, context).artifact
    return Distil(layers=[0, 2], epochs=1).run(small, context).artifact


@pytest.fixture(scope="module")
def folders(context: Context, exported: Artifact, student: Artifact) -> dict[str, Path]:
    small = Export().run(student, context).artifact
    return {
        "float": exported.path,
        "int8": Quantize().run(exported, context).artifact.path,
        "float, vocabulary cut": small.path,
        "int8, vocabulary cut": Quantize().run(small, context).artifact.path,
    }


@pytest.fixture(params=["float", "int8", "float, vocabulary cut", "int8, vocabulary cut"])
def folder(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Path:
    return folders[request.param]


def assert_same_answers(found: list[dict[str, float]], folder: Path, texts: list[str]) -> None:
    """Every label's probability, and answers that differ between the texts, so that agreement means something."""
    predictor = Predictor(folder)
    probabilities_NC = predictor.predict(texts)
    found_NC = np.array([[answer[label] for label in predictor.labels] for answer in found])
    assert found_NC.shape == probabilities_NC.shape
    assert np.ptp(probabilities_NC, axis=0).max() > 0.05
    assert np.abs(found_NC - probabilities_NC).max() < 1e-4


def in_transformers(folder: Path, texts: list[str]) -> list[dict[str, float]]:
    from transformers import pipeline

    return as_dicts(pipeline("text-classification", str(folder))(texts, top_k=None))


def in_optimum(folder: Path, texts: list[str]) -> list[dict[str, float]]:
    from optimum.onnxruntime import ORTModelForSequenceClassification, pipeline
    from transformers import AutoTokenizer

    model = ORTModelForSequenceClassification.from_pretrained(folder)
    classify = pipeline("text-classification", model=model, tokenizer=AutoTokenizer.from_pretrained(folder))
    return as_dicts(classify(texts, top_k=None, truncation=True))


def in_node(folder: Path, texts: list[str]) -> list[dict[str, float]]:
    done = subprocess.run(
        ["node", str(SCRIPT)], input=json.dumps({"folder": str(folder), "texts": texts}), capture_output=True,
        text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers: list[dict[str, float]] = json.loads(done.stdout)
    return answers


def as_dicts(answers: Any) -> list[dict[str, float]]:
    return [{row["label"]: row["score"] for row in answer} for answer in answers]


def skip_without_node() -> None:
    if shutil.which("node") is None:
        pytest.skip("Node.js is not installed; on Debian or Ubuntu: apt-get install nodejs npm")
    if not (SCRIPT.parent / "node_modules").is_dir():
        pytest.skip(f"Transformers.js is not installed; run: npm ci --ignore-scripts --prefix {SCRIPT.parent}")


def test_plain_transformers_loads_a_student(student: Artifact, folders: dict[str, Path]) -> None:
    assert_same_answers(in_transformers(student.path, SENTENCES), folders["float, vocabulary cut"], SENTENCES)


def test_optimum_loads_the_folder_as_it_is_and_truncates_where_it_does(folder: Path) -> None:
    texts = [*SENTENCES, LONG]
    found = [in_optimum(folder, [text])[0] for text in texts]  # alone: dynamic int8 depends on the rest of a batch
    assert_same_answers(found, folder, texts)


def test_transformers_js_loads_the_folder_as_it_is(folder: Path) -> None:
    """Without LONG: Transformers.js cuts after it added the special tokens, so a cut text loses its last one there."""
    skip_without_node()
    assert_same_answers(in_node(folder, SENTENCES), folder, SENTENCES)


def test_another_answer_would_be_noticed(folders: dict[str, Path]) -> None:
    answers = [{"red": 1.0, "green": 0.0, "blue": 0.0} for _ in SENTENCES]
    with pytest.raises(AssertionError):
        assert_same_answers(answers, folders["float"], SENTENCES)
