"""Batch scoring: every format, whole or not at all, and the answers of the predictor that serves."""

import gzip
import json
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock

import tasks.score
from bento.entities import entity_tags
from bento.errors import DataError, UserError
from bento.manifest import Manifest
from bento.predictor import Predictor
from bento.task_types import Target, Task
from tasks.score import score_file
from tests.tiny import write_tiny_model

ROOT = Path(__file__).parents[2]
LABELS = ("card_lost", "refund", "transfer")
TEXTS = ["my card is lost", "refund please", "where, is my balance"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "model")


def write(frame: pd.DataFrame, path: Path) -> Path:
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


def read(path: Path) -> pd.DataFrame:
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    if path.suffix == ".jsonl":
        return pd.read_json(path, lines=True)
    return pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",")


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_a_file_comes_back_with_the_predictors_answers(model: Path, tmp_path: Path, suffix: str) -> None:
    source = write(pd.DataFrame({"id": [7, 8, 9], "text": TEXTS}), tmp_path / f"in{suffix}")
    out = tmp_path / f"out{suffix}"
    assert score_file(model, source, out, text="text", text_pair=None).num_rows == 3
    found, predictor = read(out), Predictor(model)
    expected_NC = predictor.predict(TEXTS)
    assert found["id"].tolist() == [7, 8, 9]
    assert found["text"].tolist() == TEXTS
    assert found["predicted_label"].tolist() == [predictor.labels[best] for best in expected_NC.argmax(axis=1)]
    assert found["probability"].tolist() == pytest.approx(expected_NC.max(axis=1).tolist())


@pytest.mark.parametrize(
    ("task", "labels", "column"),
    [
        ("multi_label", LABELS, "predicted_labels"),
        ("score", LABELS[:1], "predicted_score"),
        ("entities", tuple(entity_tags(["LOC", "PER"])), "predicted_entities"),
    ],
)
def test_lists_are_written_as_json_and_scores_as_numbers(
    tmp_path: Path, task: Task, labels: tuple[str, ...], column: str
) -> None:
    model = write_tiny_model(tmp_path / "model", labels=labels, seed=3, target=Target(task=task))
    source, out = write(pd.DataFrame({"text": TEXTS}), tmp_path / "in.csv"), tmp_path / "out.csv"
    assert score_file(model, source, out, text="text", text_pair=None).num_rows == 3
    predictor = Predictor(model)
    expected = next(iter(predictor.answers(TEXTS, predictor.predict(TEXTS)).values()))
    found = read(out)[column].tolist()
    assert (found if task == "score" else [json.loads(value) for value in found]) == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.csv", "sentence\nhello\n", "expected a column 'text', it has: sentence"),
        ("in.csv", "text\n", "it is empty"),
        ("in.csv", "", "it is empty"),
        ("in.csv", 'text\n"hello\n', "could not be read: line 2: unexpected end of data; is a quote open"),
        ("in.csv", "text\nb\xe9", "could not be read: expected UTF-8"),
        ("in.csv.gz", "text\nhello\n", "could not be read"),
        ("in.parquet.gz", "PAR1", "expected a name ending in"),
        (
            "in.csv",
            "text,id\nhello,1\n,2\n",
            r"1 of 2 rows cannot be scored(.|\n)*row 2: expected a text with at least one",
        ),
        ("in.csv", "text,id\nhello,1\nhello\n", r"row 2: expected 2 columns, got 1"),
        ("in.csv", "text\nhello\n" + "x" * 20_001, r"row 2: expected at most 20,000 characters in 'text', got 20,001"),
        ("in.csv", "text\nhello\n" + "x" * 200_000, r"row 2: expected at most 20,000 characters"),
        ("in.jsonl", "{oops\n", r"row 1: expected JSON"),
        ("in.jsonl", '{"text": "a"}\n[1]\n', r"row 2: expected a JSON object"),
        ("in.jsonl", '{"text": "a"}\n{"text": 7}\n', r"row 2: expected a text in 'text', got int"),
        ("in.jsonl", '{"text": "a"}\n{"text": null}\n', r"row 2: expected a text in 'text', got nothing"),
        (
            "in.jsonl",
            '{"text": "a"}\n{"text": "b", "more": 1}\n',
            r"row 2: expected the first row's columns, got also more",
        ),
        ("in.parquet", "PAR1", "could not be read"),
        ("in.txt", "hello", "expected a name ending in"),
    ],
)
def test_a_file_that_cannot_be_scored_leaves_nothing(
    model: Path, tmp_path: Path, name: str, content: str, message: str
) -> None:
    source = tmp_path / name
    source.write_text(content, encoding="latin-1")
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(DataError, match=message):
        score_file(model, source, tmp_path / "out.csv", text="text", text_pair=None)
    assert {path.name for path in tmp_path.iterdir()} == before


def test_a_missing_file_and_an_unknown_output_are_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        score_file(model, tmp_path / "nothing.csv", tmp_path / "out.csv", text="text", text_pair=None)
    source = write(pd.DataFrame({"text": TEXTS}), tmp_path / "in.csv")
    with pytest.raises(DataError, match="expected a name ending in"):
        score_file(model, source, tmp_path / "out.xlsx", text="text", text_pair=None)


@pytest.mark.parametrize(
    ("out", "rejects", "said"),
    [
        ("in.jsonl", None, "the output, got that of the input"),
        ("./in.jsonl", "bad.jsonl", "the output, got that of the input"),
        ("out.jsonl", "in.jsonl", "the rejected rows, got that of the input"),
        ("out.jsonl", "out.jsonl", "the rejected rows, got that of the output"),
        ("folder.csv", None, "got a folder"),
        ("out.jsonl", "folder.csv", "got a folder"),
        ("in.jsonl/out.csv", None, "got: File exists"),
    ],
)
def test_an_output_that_would_write_over_something_is_refused_and_the_input_is_whole(
    model: Path, tmp_path: Path, out: str, rejects: str | None, said: str
) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "my card"}\n{"text": 5}\n', encoding="utf-8")
    (tmp_path / "folder.csv").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=said):
        score_file(
            model, source, tmp_path / out, text="text", text_pair=None, rejects=rejects and tmp_path / rejects
        )  # fmt: skip
    assert source.read_text(encoding="utf-8").count("\n") == 2
    assert sorted(tmp_path.rglob("*")) == before


def test_columns_of_one_name_are_refused_since_one_of_them_would_be_lost(model: Path, tmp_path: Path) -> None:
    csv, parquet = tmp_path / "in.csv", tmp_path / "in.parquet"
    csv.write_text("text,id,id\nlost card,1,2\n", encoding="utf-8")
    pq.write_table(pa.table([["lost card"], ["refund"]], names=["text", "text"]), parquet)
    for source, name in ((csv, "id"), (parquet, "text")):
        with pytest.raises(DataError, match=f"'{name}' twice"):
            score_file(model, source, tmp_path / "out.csv", text="text", text_pair=None)


def test_what_parquet_has_no_type_for_is_told_with_what_takes_it(model: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "my card", "more": {}}\n', encoding="utf-8")
    with pytest.raises(DataError, match="name an output that ends in"):
        score_file(model, source, tmp_path / "out.parquet", text="text", text_pair=None)


def test_pairs_need_both_columns_and_single_texts_only_one(model: Path, tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": ["card", "money"], "other": ["lost", "refund"]})
    source, out = write(frame, tmp_path / "in.csv"), tmp_path / "out.csv"
    of_pairs = write_tiny_model(tmp_path / "pairs", pairs=True)
    with pytest.raises(DataError, match="reads pairs: name the second column with --text-pair"):
        score_file(of_pairs, source, out, text="text", text_pair=None)
    with pytest.raises(DataError, match="reads single texts: leave --text-pair out"):
        score_file(model, source, out, text="text", text_pair="other")
    assert score_file(of_pairs, source, out, text="text", text_pair="other").num_rows == 2
    expected_NC = Predictor(of_pairs).predict([("card", "lost"), ("money", "refund")])
    assert read(out)["probability"].tolist() == pytest.approx(expected_NC.max(axis=1).tolist())


def test_bad_rows_are_all_counted_and_ten_of_them_shown(model: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("text,id\n" + "ok,1\n,2\n" * 30)
    with pytest.raises(DataError, match=r"30 of 60 rows cannot be scored(.|\n)*row 20:(.|\n)*and 20 more") as found:
        score_file(model, source, tmp_path / "out.csv", text="text", text_pair=None)
    assert "row 22" not in str(found.value)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_rejected_rows_are_collected_with_their_numbers_and_the_others_scored(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(tasks.score, "PIECE_ROWS", 2)
    frame = pd.DataFrame({"id": [1, 2, 3, 4, 5, 6], "text": ["card", " ", "refund", "help", "", "money"]})
    source, out = write(frame, tmp_path / f"in{suffix}"), tmp_path / f"out{suffix}"
    rejects = tmp_path / "rejects" / "bad.jsonl"
    done = score_file(model, source, out, text="text", text_pair=None, rejects=rejects)
    assert (done.num_rows, done.num_rejected) == (4, 2)
    assert read(out)["id"].tolist() == [1, 3, 4, 6]
    rows = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert [row["row"] for row in rows] == [2, 5]
    assert rows[0]["content"]["text"] == " "


def test_nothing_but_bad_rows_is_an_error(model: Path, tmp_path: Path) -> None:
    source = write(pd.DataFrame({"text": ["", " "], "id": [1, 2]}), tmp_path / "in.csv")
    with pytest.raises(DataError, match="expected a row that can be scored, but there is none"):
        score_file(model, source, tmp_path / "out.csv", text="text", text_pair=None, rejects=tmp_path / "bad.jsonl")


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_compressed_files_are_read_and_written(model: Path, tmp_path: Path, suffix: str) -> None:
    plain = write(pd.DataFrame({"id": [7, 8, 9], "text": TEXTS}), tmp_path / f"in{suffix}")
    packed = tmp_path / f"in{suffix}.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    score_file(model, plain, tmp_path / f"out{suffix}", text="text", text_pair=None)
    score_file(model, packed, tmp_path / f"out{suffix}.gz", text="text", text_pair=None)
    assert gzip.decompress((tmp_path / f"out{suffix}.gz").read_bytes()) == (tmp_path / f"out{suffix}").read_bytes()


def test_values_that_are_not_read_come_through_untouched(model: Path, tmp_path: Path) -> None:
    lines = ['{"text":"card","id":1,"when":"2024-01-01","more":{"a":[1,2.50]}}', '{"text":"help","other":null}']
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    score_file(model, tmp_path / "in.jsonl", tmp_path / "out.jsonl", text="text", text_pair=None)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [{key: row[key] for key in json.loads(line)} for row, line in zip(rows, lines, strict=True)] == [
        json.loads(line) for line in lines
    ]
    (tmp_path / "in.csv").write_text('text,id,note\ncard,007,"a ""b"", c"\n')
    score_file(model, tmp_path / "in.csv", tmp_path / "out.csv", text="text", text_pair=None)
    assert (tmp_path / "out.csv").read_text().splitlines()[1].startswith('card,007,"a ""b"", c",')


def test_parquet_keeps_the_types_of_its_columns(model: Path, tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"text": TEXTS, "at": pd.to_datetime(["2024-01-01"] * 3), "n": pd.array([1, None, 3], "Int32")}
    )
    source, out = write(frame, tmp_path / "in.parquet"), tmp_path / "out.parquet"
    score_file(model, source, out, text="text", text_pair=None)
    assert pq.read_schema(out).field("n").type == pq.read_schema(source).field("n").type
    assert pq.read_schema(out).field("at").type == pq.read_schema(source).field("at").type


RUN = """
import resource, sys
from pathlib import Path
import tasks.score
tasks.score.PIECE_ROWS = tasks.score.STEP_ROWS = int(sys.argv[4])
model, source, out = map(Path, sys.argv[1:4])
done = tasks.score.score_file(model, source, out, text="text", text_pair=None)
print(done.num_resumed, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def run_apart(*arguments: object) -> tuple[int, int]:
    """A process of its own: rows that were done before, and the largest resident memory in KiB."""
    command = [sys.executable, "-c", RUN, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    resumed, resident = done.stdout.split()
    return int(resumed), int(resident)


def many(path: Path, num_rows: int) -> Path:
    texts = (f"{TEXTS[at % 3]} number {at} " + "padding " * (at % 9) for at in range(num_rows))
    frame = pd.DataFrame({"id": range(num_rows), "text": list(texts)})
    return write(frame, path)


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl.gz", "out.parquet"])
def test_a_killed_run_goes_on_and_its_output_has_the_bytes_of_one_that_was_not(
    model: Path, tmp_path: Path, name: str
) -> None:
    source = many(tmp_path / "in.parquet", 20_000)
    whole, out = tmp_path / "whole" / name, tmp_path / "out" / name
    whole.parent.mkdir()
    out.parent.mkdir()
    assert run_apart(model, source, whole, 500)[0] == 0
    process = subprocess.Popen([sys.executable, "-c", RUN, *map(str, (model, source, out, 500))], cwd=ROOT)
    unfinished = out.with_name(f".{name}.unfinished")
    while len(list(unfinished.glob("*.done"))) < 3:
        assert process.poll() is None, "it was done before it could be killed"
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not out.exists()
    resumed, _ = run_apart(model, source, out, 500)
    assert 1_500 <= resumed < 20_000
    assert out.read_bytes() == whole.read_bytes()
    assert [path.name for path in out.parent.iterdir()] == [name]


@pytest.mark.parametrize("changed", ["input", "model"])
def test_another_input_or_model_starts_over(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    monkeypatch.setattr(tasks.score, "PIECE_ROWS", 2)
    source, out = write(pd.DataFrame({"id": range(6), "text": TEXTS * 2}), tmp_path / "in.csv"), tmp_path / "out.csv"
    with monkeypatch.context() as cut:
        cut.setattr(tasks.score, "_publish", fail)
        with pytest.raises(OSError, match="disk"):
            score_file(model, source, out, text="text", text_pair=None)
    assert len(list((tmp_path / ".out.csv.unfinished").glob("*.done"))) == 3
    if changed == "input":
        source.write_text(source.read_text().replace("refund", "return"))
    else:
        model = write_tiny_model(tmp_path / "other", seed=5)
    assert score_file(model, source, out, text="text", text_pair=None).num_resumed == 0
    expected_NC = Predictor(model).predict(read(source)["text"].tolist())
    assert read(out)["probability"].tolist() == pytest.approx(expected_NC.max(axis=1).tolist())


def fail(*arguments: object) -> int:
    raise OSError("the disk is full")


def test_two_runs_do_not_write_the_same_output(model: Path, tmp_path: Path) -> None:
    source, out = write(pd.DataFrame({"text": TEXTS}), tmp_path / "in.csv"), tmp_path / "out.csv"
    (tmp_path / ".out.csv.unfinished").mkdir()
    with FileLock(tmp_path / ".out.csv.unfinished" / "lock"), pytest.raises(UserError, match="another run is scoring"):
        score_file(model, source, out, text="text", text_pair=None)


def test_an_input_that_changes_meanwhile_is_noticed(model: Path, tmp_path: Path) -> None:
    source, out = write(pd.DataFrame({"text": TEXTS}), tmp_path / "in.csv"), tmp_path / "out.csv"
    with pytest.raises(DataError, match="it was changed while it was read"):
        score_file(
            model,
            source,
            out,
            text="text",
            text_pair=None,
            progress=lambda *_: source.write_text("text\nother\n") and None,
        )
    assert not out.exists()


def test_memory_does_not_grow_with_the_rows(model: Path, tmp_path: Path) -> None:
    few, more = many(tmp_path / "few.csv", 4_000), many(tmp_path / "more.csv", 60_000)
    _, resident_of_few = run_apart(model, few, tmp_path / "a.csv", 1_000)
    _, resident_of_more = run_apart(model, more, tmp_path / "b.csv", 1_000)
    grown = (resident_of_more - resident_of_few) * 1024
    assert grown < more.stat().st_size, f"{grown / 1e6:.1f} MB more for a file of {more.stat().st_size / 1e6:.1f} MB"


def test_texts_share_a_run_only_where_the_model_answers_the_same_in_a_batch(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    predict = Predictor.predict
    monkeypatch.setattr(
        Predictor, "predict", lambda self, texts, *, batch_size=1: sizes.append(batch_size) or predict(self, texts)
    )
    source, out = write(pd.DataFrame({"text": TEXTS}), tmp_path / "in.csv"), tmp_path / "out.csv"
    for lineage in ({}, {"scheme": "int8_dynamic"}, {"scheme": "int8_static", "batch_invariant": True}):
        Manifest.read(model).model_copy(update={"lineage": lineage}).write(model)
        score_file(model, source, out, text="text", text_pair=None)
    assert sizes == [32, 1, 32]
