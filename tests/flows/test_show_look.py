"""What Prefect's UI is given of a look."""

from flows.show_look import evidence_rows, look_rows, markdown

RESULT = {
    "name": "tiny",
    "state": "mix_only",
    "champion": "3",
    "action": "correct_prior",
    "reason": "only the class mix moved",
    "report": "/reports/tiny-look-1/report.html",
    "mlflow_run_id": "0a1b",
    "untracked": None,
    "evidence": {
        "drift": {"alpha": 0.001, "tests": {"predicted_labels": {"p_holm": 0.0004}, "embedding": {"p_holm": 0.31}}},
        "harm": {"p_value": 1.0, "alpha": 0.001, "harmful": False, "enough": False},
    },
}


def test_the_verdict_is_said_in_words_with_its_picture() -> None:
    text = markdown(RESULT, "data:image/png;base64,AAAA")
    assert text.startswith("# tiny: only the mix moved\n\nChampion: version 3. Action: **correct prior**.")
    assert "(data:image/png;base64,AAAA)" in text
    assert "Report: `/reports/tiny-look-1/report.html`" in text
    assert "MLflow run: 0a1b" in text


def test_a_look_that_mlflow_did_not_take_is_said() -> None:
    text = markdown(RESULT | {"mlflow_run_id": None, "untracked": "MLflow was away"}, "data:,")
    assert "Not in MLflow: MLflow was away" in text


def test_what_comes_from_data_is_shown_as_it_is() -> None:
    text = markdown(RESULT | {"reason": "label <img src=x> [a](b) moved", "untracked": "no | <b>"}, "data:,")
    assert "label &lt;img src=x&gt; \\[a\\](b) moved." in text
    assert "Not in MLflow: no \\| &lt;b&gt;" in text


def test_each_test_has_a_row_and_harm_has_one_without_enough_labels_too() -> None:
    assert [(row["test"], row["p"], row["answer"]) for row in evidence_rows(RESULT)] == [
        ("predicted labels", "0.0004", "changed"),
        ("embedding", "0.31", "no change seen"),
        ("harm", "1", "too few labels"),
    ]


def test_looks_are_rows_with_their_time() -> None:
    look = {"at": 0.0, "state": "harm", "action": "retrain", "reason": "because"}
    assert look_rows([look])[0]["at"] == "1970-01-01 00:00+00:00"
