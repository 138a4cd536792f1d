"""The model card: the hub reads its head, and a person its body."""

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from pydantic import ValidationError

from tasks.report.card import CardConfig, write_model_card
from tasks.report.page import markdown_cell
from tests.tasks.report.sample import HOSTILE, build_summary, score_summary


def card(summary: dict[str, Any], folder: Path) -> ModelCard:
    path = write_model_card(summary, folder)
    assert path == folder / "README.md"
    return ModelCard.load(path)


def test_the_hub_reads_licence_language_data_and_results(tmp_path: Path) -> None:
    data = card(build_summary(), tmp_path).data
    assert (data.license, data.language, data.datasets) == ("apache-2.0", ["en"], ["somewhere/bank"])
    assert (data.base_model, data.pipeline_tag, data.model_name) == ("big/model", "text-classification", "bank")
    assert {result.metric_type: result.metric_value for result in data.eval_results} == {"accuracy": 0.924, "f1": 0.914}
    assert data.eval_results[0].dataset_type == "somewhere/bank"


def test_the_body_has_results_gates_weak_spots_and_lineage(tmp_path: Path) -> None:
    text = card(build_summary(), tmp_path).text
    assert "Sorts messages to a bank." in text
    assert "| accuracy | 92.8 % (91.7 to 93.8) | 92.4 % (91.3 to 93.4) |" in text
    assert "| accuracy_vs_teacher | ✓ pass | −0.40 pt | −1.00 pt | 3,076 |" in text
    assert "**Behaviour**: most failures: typos, 7.0 %" in text
    assert "| class 0 | 50.0 % | 90.0 % | 40 |" in text
    assert "data `dddddddddddddddd` → quantize `aaaaaaaaaaaaaaaa` → registered `version 3` → Bento `bank:abc`" in text
    assert 'load_model("models:/bank/3")' in text


def test_scores_are_told_by_their_correlations_and_as_no_classes(tmp_path: Path) -> None:
    found = card(score_summary(), tmp_path)
    assert {each.metric_type: each.metric_value for each in found.data.eval_results} == {
        "spearmanr": 0.924,
        "pearsonr": 0.914,
    }
    assert found.data.pipeline_tag == "sentence-similarity"
    assert "| Spearman | 0.928 (0.917 to 0.938) | 0.924 (0.913 to 0.934) |" in found.text
    assert '"text_pair": ["another"]' in found.text
    for word in ("classifier", "accuracy", "temperature", "logistic"):
        assert word not in found.text


def test_labels_cannot_become_markup_or_break_a_table(tmp_path: Path) -> None:
    summary = build_summary()
    summary["per_class"][0]["label"] = f"{HOSTILE} | two\nlines"
    text = card(summary, tmp_path).text
    assert "<script" not in text
    assert "\\| two lines | 50.0 %" in text


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("te|ch `x` [a](http://b)", "te\\|ch \\`x\\` \\[a\\](http://b)"),
        ("ends in \\", "ends in \\\\"),
        ("**b**\n<i>", "\\*\\*b\\*\\* &lt;i&gt;"),
        ("accuracy_vs_teacher", "accuracy_vs_teacher"),
    ],
)
def test_a_cell_shows_a_text_as_it_is(text: str, cell: str) -> None:
    assert markdown_cell(text) == cell


def test_a_build_of_local_files_names_no_hub_and_an_empty_one_is_still_a_card(tmp_path: Path) -> None:
    nowhere = {"license": "unknown", "dataset": None, "base_model": None}
    summary = {"name": "bank", "task": "single_label", "outcome": "blocked", "model_sha256": "a", "data_sha256": "d"}
    summary["card"] = nowhere
    found = card(summary, tmp_path)
    assert (found.data.license, found.data.datasets, found.data.eval_results) == ("unknown", None, None)
    assert "None" not in found.text
    assert "## Results" not in found.text


def test_a_licence_that_the_hub_cannot_know_is_refused() -> None:
    with pytest.raises(ValidationError, match="license"):
        CardConfig(license="Apache 2.0!")
