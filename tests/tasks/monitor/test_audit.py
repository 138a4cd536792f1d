"""The audit queue as files: what labelling tools take and give, and what becomes of their labels.

The tools' answers below are what argilla 2.8.0 (`Record`, `JsonIO`) and label-studio-sdk 2 (`Converter`) wrote of the
exported files; both also read those as they are.
"""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from bento.audit_records import audit_queue, history, store_proposals
from bento.errors import DataError
from bento.records import add_feedback, read_request
from tasks.monitor.audit import Imported, export_queue, import_labels, target, target_odd
from tasks.monitor.audit_files import FORMATS, labelling_config, read_entries
from tests.logged import row, store

ANNOTATION = {
    "id": 11, "completed_by": 1, "was_cancelled": False, "ground_truth": False, "lead_time": 1.2,
    "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z", "prediction": {}, "task": 1,
    "result": [
        {
            "value": {"choices": ["transfer"]}, "id": "abc", "from_name": "label", "to_name": "text",
            "type": "choices", "origin": "manual",
        }
    ],
}  # fmt: skip
LABEL_STUDIO = {
    "id": 1, "annotations": [ANNOTATION], "drafts": [], "predictions": [], "meta": {}, "inner_id": 1, "project": 1,
    "data": {"request_id": "r0", "item": 0, "stream": "random", "text": "my card"},
}  # fmt: skip
LABEL_STUDIO_MIN = {
    "request_id": "r0", "item": 0, "stream": "random", "text": "my card", "id": 1, "label": "transfer", "annotator": 1,
    "annotation_id": 11, "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z", "lead_time": 1.2,
}  # fmt: skip
LABEL_STUDIO_CSV = (
    "annotation_id,annotator,created_at,id,item,label,lead_time,request_id,stream,text,updated_at\n"
    '11,"1","2026-01-01T00:00:00Z",1,0,"transfer",1.2,"r0","random","my, card","2026-01-01T00:00:00Z"\n'
)
ARGILLA = {
    "id": "r0/0", "fields": {"text": "my card"}, "metadata": {"request_id": "r0", "item": 0, "stream": "random"},
    "suggestions": {"label": {"value": "refund", "score": 0.9, "agent": "version 1"}},
    "responses": {"label": [{"value": "transfer", "user_id": "ea3b14dd-cae7-47b2-bd74-ccc3ed477ebf"}]},
    "vectors": {}, "status": "completed", "_server_id": None,
}  # fmt: skip


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RETORT_DATABASE_URL", raising=False)


def serve(num: int, **changes: Any) -> None:
    store(*(row(f"r{at}", **({"audit": True} | changes)) for at in range(num)))


def write(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def lines(*rows: dict[str, Any]) -> str:
    return "\n".join(json.dumps(row) for row in rows)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("a.jsonl", lines({"request_id": "r0", "item": 0, "label": "transfer"})),
        ("a.csv", "request_id,item,label\r\nr0,0,transfer\r\n"),
        ("a.csv", "\ufeffrequest_id,label\nr0,transfer\n"),
        ("a.csv", LABEL_STUDIO_CSV),
        ("a.json", [LABEL_STUDIO]),
        ("a.json", [LABEL_STUDIO_MIN]),
        ("a.json", [ARGILLA]),
    ],
)
def test_labels_of_every_tool_are_taken_and_once_again_change_nothing(tmp_path: Path, file: str, content: Any) -> None:
    serve(1)
    source = write(tmp_path / file, content)
    assert import_labels("tiny", source, known_labels=("refund", "transfer")) == Imported(taken=1)
    assert import_labels("tiny", source) == Imported(known=1)
    assert read_request("tiny", "r0")[0]["true_label"] == "transfer"


@pytest.mark.parametrize("form", FORMATS)
def test_what_was_exported_and_not_labelled_is_no_label_though_it_holds_suggestions(tmp_path: Path, form: Any) -> None:
    serve(3, text="=HYPERLINK(1) \n é", text_pair="two")
    store_proposals("tiny", [(("r1", 0), "transfer", 0.8)], "a" * 64)
    out = tmp_path / ("queue.csv" if form == "csv" else "queue.json")
    assert export_queue("tiny", out, form) == 3
    assert [(entry.request_id, entry.item, entry.label) for entry in read_entries(out, form)] == [
        (f"r{at}", 0, "") for at in range(3)
    ]
    assert import_labels("tiny", out, form=form) == Imported(unlabelled=3)


def test_a_clients_text_is_no_formula_in_a_spreadsheet_and_its_id_survives(tmp_path: Path) -> None:
    store(row("=1+1", audit=True, text="=HYPERLINK(1)"), row("b", audit=True, text="plain"))
    out = tmp_path / "queue.csv"
    export_queue("tiny", out, "csv")
    rows = list(csv.DictReader(io.StringIO(out.read_text(encoding="utf-8"), newline="")))
    assert [row["text"] for row in rows] == ["'=HYPERLINK(1)", "plain"]
    assert [row["request_id"] for row in rows] == ["'=1+1", "b"]
    write(out, out.read_text(encoding="utf-8").replace("refund,,", "refund,,transfer"))
    assert import_labels("tiny", out) == Imported(taken=2)


def test_label_studio_gets_the_answer_and_the_teachers_proposal_as_predictions(tmp_path: Path) -> None:
    serve(1)
    store_proposals("tiny", [(("r0", 0), "transfer", 0.8)], "a" * 64)
    export_queue("tiny", tmp_path / "queue.json", "label-studio")
    (task,) = json.loads((tmp_path / "queue.json").read_text(encoding="utf-8"))
    assert task["data"] == {"request_id": "r0", "item": 0, "stream": "random", "text": "my card"}
    said = [(each["model_version"], each["score"], each["result"][0]["value"]) for each in task["predictions"]]
    assert said == [("version 1", 0.9, {"choices": ["refund"]}), ("teacher", 0.8, {"choices": ["transfer"]})]
    config = labelling_config(['a "quoted" <b>'], pairs=True)
    assert "<Choice value='a \"quoted\" &lt;b&gt;'/>" in config
    assert 'value="$text_pair"' in config


def test_every_kind_of_refusal_is_counted_and_the_rest_is_taken(tmp_path: Path) -> None:
    serve(4)
    store(row("other", name="another"))
    add_feedback("tiny", "r1", 0, "refund", 1.0)
    rows = [("r0", "brand new"), ("r1", "transfer"), ("r2", "refund"), ("r2", "transfer"), ("r3", " ")]
    rows += [("other", "refund"), ("nobody", "refund")]
    source = write(
        tmp_path / "a.jsonl", lines(*({"request_id": each, "item": 0, "label": label} for each, label in rows))
    )
    done = import_labels("tiny", source, known_labels=("refund", "transfer"))
    assert done == Imported(
        taken=1, contradicting=1, disagreeing=1, unlabelled=1, other_model=1, unknown=1, new_labels=("brand new",)
    )
    assert done.refused == 4
    assert read_request("tiny", "r1")[0]["true_label"] == "refund"


def test_a_correction_has_to_be_asked_for_and_leaves_a_trace(tmp_path: Path) -> None:
    serve(1)
    add_feedback("tiny", "r0", 0, "refund", 1.0)
    source = write(tmp_path / "a.json", [ARGILLA])
    assert import_labels("tiny", source) == Imported(contradicting=1)
    assert import_labels("tiny", source, replace=True) == Imported(replaced=1)
    assert [row["label"] for row in history("tiny")] == ["refund"]


def test_annotators_who_disagree_or_cancelled_give_no_label(tmp_path: Path) -> None:
    serve(2)
    other = json.loads(json.dumps(ANNOTATION).replace("transfer", "refund"))
    split = LABEL_STUDIO | {"annotations": [ANNOTATION, other]}
    cancelled = LABEL_STUDIO | {
        "data": {"request_id": "r1", "item": 0},
        "annotations": [ANNOTATION | {"was_cancelled": True}],
    }
    assert import_labels("tiny", write(tmp_path / "a.json", [split, cancelled])) == Imported(
        disagreeing=1, unlabelled=1
    )


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("a.jsonl", '{"request_id": "r0", "label": "refund"}\n{"request_id": ', r"a\.jsonl:2"),
        ("a.jsonl", '{"request_id": "r0", "label": "refund"}\n[]', r"a\.jsonl:2"),
        ("a.jsonl", '{"request_id": "r0", "label": "refund"}\n{"request_id": 7, "label": "x"}', r"a\.jsonl:2"),
        ("a.jsonl", '{"request_id": "r0", "label": "refund"}\n{"request_id": "r0", "item": -1, "label": "x"}', ":2"),
        ("a.jsonl", '{"request_id": "r0", "label": "refund"}\n{"request_id": "r0", "label": ["x"]}', ":2"),
        ("a.jsonl", json.dumps({"request_id": "r0", "label": "x" * 257}), "256"),
        ("a.csv", "id,label\nr0,refund\n", "request_id"),
        ("a.csv", "request_id,item,label\nr0,0,refund\nr0,first,refund\n", r"a\.csv:3"),
        ("a.json", {"request_id": "r0"}, "JSON list"),
        ("a.json", [LABEL_STUDIO, LABEL_STUDIO | {"annotations": [{"result": [{"type": "choices"}]}]}], "task 1"),
        ("a.json", [LABEL_STUDIO_MIN, LABEL_STUDIO_MIN | {"label": {"choices": ["refund", "transfer"]}}], "task 1"),
        ("a.json", [ARGILLA, ARGILLA | {"responses": {"label": [{"value": ["refund"]}]}}], "record r0/0"),
        ("a.json", [ARGILLA, ARGILLA | {"id": None}], "record"),
        ("a.jsonl", b"\xff", "UTF-8"),
    ],
)
def test_a_file_with_a_fault_is_refused_whole_and_the_place_is_named(
    tmp_path: Path, file: str, content: Any, said: str
) -> None:
    serve(1)
    source = tmp_path / file
    source.write_bytes(content) if isinstance(content, bytes) else write(source, content)
    with pytest.raises(DataError, match=said):
        import_labels("tiny", source)
    assert read_request("tiny", "r0")[0]["true_label"] is None


def test_odd_rows_are_targeted_for_what_is_odd_about_them_and_the_random_ones_left_alone() -> None:
    serve(1)
    store(*(row(f"p{at}", probabilities=[1 - at / 10, at / 10]) for at in range(1, 5)))
    store(row("p1", arm="shadow", label="transfer"))
    added = target_odd("tiny", "0" * 64, drifted=[("r0", 0), ("p2", 0)], each=1)
    assert added == {"drifted": 1, "disagreement": 1, "low_confidence": 1}
    found = {row["request_id"]: row["reason"] for row in audit_queue("tiny", 10)}
    assert found == {"r0": None, "p2": "drifted", "p1": "disagreement", "p4": "low_confidence"}
    assert target("tiny", [("p3", 0)], "by_hand") == 1
