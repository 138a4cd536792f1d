"""The training benchmark: the same layers and rows in both loops, each in its own precision, in fair turns."""

from pathlib import Path
from typing import Any

import pytest
from accelerate.state import AcceleratorState

from flows import bench_training as trainers
from flows.bench_training import (
    CUT,
    FULL,
    RETORT,
    RETORT_FULL,
    Student,
    bench_training,
    make_students,
    take_turns,
    trainer_per_s,
)
from flows.chain import prepare_data
from flows.config import Config
from tests.small import write_bert, write_colours


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("trainers")
    return Config.model_validate(
        {
            "name": "colours",
            "data": {"source": str(write_colours(folder / "rows")), "validation": 0.3},
            "teacher": {"model": str(write_bert(folder / "bert")), "epochs": 1, "max_tokens": 16},
            "compress": [
                {"kind": "prune_vocabulary"},
                {"kind": "distil", "layers": [0, 2], "hidden_size": 16, "intermediate_size": 32, "batch_size": 8},
                {"kind": "export"},
            ],
        }
    )


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainers, "NUM_STEPS", 3)
    monkeypatch.setattr(trainers, "NUM_ROUNDS", 2)
    monkeypatch.setattr(trainers, "BACKEND", "eager")


@pytest.fixture
def students(chosen: Config, few_steps: None, tmp_path: Path) -> tuple[Student, Student]:
    return make_students(chosen, prepare_data(chosen, None).artifact.path, tmp_path)


def test_both_students_have_the_configs_shape_and_differ_in_the_vocabulary_alone(
    students: tuple[Student, Student],
) -> None:
    full, cut = (student.model.config.to_dict() for student in students)
    assert (full["num_hidden_layers"], full["hidden_size"], full["intermediate_size"]) == (2, 16, 32)
    assert full["vocab_size"] == len(students[0].tokenizer)
    assert cut["vocab_size"] == len(students[1].tokenizer) < 0.5 * full["vocab_size"]
    assert {key for key in full if full[key] != cut[key]} == {"vocab_size"}


def test_a_block_has_the_same_rows_for_all(students: tuple[Student, Student]) -> None:
    full, cut = students
    assert len(full.rows) == len(cut.rows) == 3 * 8
    decoded = [[student.tokenizer.decode(ids) for ids in student.rows.token_ids] for student in students]
    assert decoded[0] == decoded[1]


def test_every_loop_is_measured_and_compared(chosen: Config, few_steps: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainers, "can_compile", lambda: True)
    found = bench_training(chosen)
    assert {name: len(values) for name, values in found["blocks"].items()} == dict.fromkeys(
        (RETORT, FULL, CUT, RETORT_FULL), 2
    )
    assert all(value > 0 for values in found["blocks"].values() for value in values)
    full, cut, _, compiled = found["rows"]
    assert "compiling takes" in compiled["against"]
    assert full["against"].startswith(FULL)
    assert full["met"] is (full["ratio"] >= 2.5)
    assert (cut["target"], cut["met"]) == ("", None)


def test_the_trainer_trains_in_its_default_precision_and_leaves_nothing_behind(
    students: tuple[Student, Student], tmp_path: Path
) -> None:
    seen: list[Any] = []
    student = students[1]
    student.model.classifier.register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
    before = {path.name for path in tmp_path.iterdir()}
    assert trainer_per_s(student, 8, 1e-4, tmp_path) > 0
    assert {str(dtype) for dtype in seen} == {"torch.float32"}
    assert len(seen) == 3
    assert {path.name for path in tmp_path.iterdir()} == before
    assert AcceleratorState._shared_state == {}


def test_blocks_take_turns_after_a_round_that_does_not_count() -> None:
    calls: list[str] = []

    def block(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    found = take_turns({"a": lambda: block("a"), "b": lambda: block("b")}, 2)
    assert "".join(calls) == "ababab"
    assert found == {"a": [3.0, 5.0], "b": [4.0, 6.0]}


def test_without_a_compiler_the_row_says_so(chosen: Config, few_steps: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainers, "NUM_ROUNDS", 1)
    monkeypatch.setattr(trainers, "can_compile", lambda: False)
    *_, compiled = bench_training(chosen)["rows"]
    assert (compiled["value"], compiled["against"]) == (None, "not measured: no C++ compiler; apt-get install g++")
