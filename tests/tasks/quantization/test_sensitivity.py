"""The parts at fault are found, no more than needed are raised, and a budget that cannot be met is an error."""

from pathlib import Path

import numpy as np
import pytest

from bento.errors import UserError
from bento.predictor import Predictor
from tasks.quantization.levels import FLOAT16, Level, Plan, node_ladder, table_ladder
from tasks.quantization.sensitivity import fewest, meet_budget, raised_parts, rank
from tasks.quantization.workbench import Workbench
from tasks.task_types import SingleLabel
from tasks.types import Split
from tests.tasks.quantization.graphs import random_weights, write_folder
from tests.tiny import WORDS

INT8 = Level(activations="dynamic", bits=8)
LADDERS = {f"part{number}": (INT8, FLOAT16) for number in range(16)}
FAULTS = {"part3": 0.05, "part11": 0.02, "part7": 0.01}


def harm(plan: Plan) -> float:
    return sum(cost for name, cost in FAULTS.items() if plan[name] == INT8)


@pytest.mark.parametrize(
    ("budget", "raised"),
    [(0.08, []), (0.03, ["part3"]), (0.01, ["part3", "part11"]), (0.0, ["part3", "part7", "part11"])],
)
def test_the_fewest_parts_are_raised(budget: float, raised: list[str]) -> None:
    plan = meet_budget(LADDERS, drop=harm, divergence=harm, budget=budget + 1e-9)
    assert raised_parts(plan, LADDERS).get("float16", []) == raised


def test_the_worst_parts_come_first() -> None:
    assert rank(LADDERS, harm)[:3] == ["part3", "part11", "part7"]


def test_few_models_are_built() -> None:
    calls: list[Plan] = []

    def drop(plan: Plan) -> float:
        calls.append(plan)
        return harm(plan)

    meet_budget(LADDERS, drop=drop, divergence=harm, budget=0.015)
    assert len(calls) <= 2 + 4  # all low, all high, and log2(16) to bisect


def test_a_smaller_remedy_is_tried_before_float() -> None:
    static = node_ladder("int8_static", 8, batch_invariant=False)

    def drop(plan: Plan) -> float:
        return 0.1 if plan["a"].activations == "static" else 0.0

    plan = meet_budget({"a": static, "b": static}, drop=drop, divergence=drop, budget=0.01)
    assert {name: level.name for name, level in plan.items()} == {"a": "int8_dynamic", "b": "int8_static"}


def test_a_budget_that_cannot_be_met_says_what_was_reached_and_what_to_do() -> None:
    with pytest.raises(UserError, match=r"falls by 0.2000 .* even with every weight in float16.*raise quantize.budget"):
        meet_budget(LADDERS, drop=lambda plan: 0.2, divergence=harm, budget=0.01)


def test_a_plan_in_which_nothing_is_quantized_says_so(caplog: pytest.LogCaptureFixture) -> None:
    meet_budget(LADDERS, drop=lambda plan: float(INT8 in plan.values()), divergence=harm, budget=0.5)
    assert "kept in float16: part0, part1" in caplog.text
    assert "nothing can be quantized" in caplog.text


def test_bisection_keeps_what_it_has_seen_to_meet_the_budget() -> None:
    names = list(LADDERS)
    low = dict.fromkeys(names, INT8)

    def odd_counts(plan: Plan) -> bool:
        return sum(level == FLOAT16 for level in plan.values()) in (5, 9, 13, 16)

    plan = fewest(low, names, LADDERS, 1, meets=odd_counts)
    assert odd_counts(plan)


@pytest.mark.parametrize(
    ("scheme", "invariant", "names"),
    [
        ("int8_dynamic", False, ["int4_dynamic", "int8_dynamic", "float16"]),
        ("int8_static", False, ["int4_static", "int8_static", "int8_dynamic", "float16"]),
        ("int8_static", True, ["int4_static", "int8_static", "float16"]),
        ("weight_only", False, ["int4_weights", "int8_weights", "float16"]),
        ("float16", False, ["float16"]),
    ],
)
def test_ladders_end_in_float(scheme: str, invariant: bool, names: list[str]) -> None:
    assert [level.name for level in node_ladder(scheme, 4, batch_invariant=invariant)] == names  # type: ignore[arg-type]
    assert table_ladder(scheme, 8)[-1] == FLOAT16  # type: ignore[arg-type]


def test_divergence_is_zero_for_the_same_answers_and_grows() -> None:
    logits = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    assert SingleLabel().divergence(logits, logits + 3) == pytest.approx(0, abs=1e-6)
    assert 0 < SingleLabel().divergence(logits, logits * 1.1) < SingleLabel().divergence(logits, logits * 2)


def sentences(num_rows: int) -> tuple[str, ...]:
    rng = np.random.default_rng(1)
    return tuple(" ".join(rng.choice(WORDS[:-1], size=rng.integers(1, 9))) for _ in range(num_rows))


@pytest.fixture
def planted(tmp_path: Path) -> Workbench:
    """The second product's input has a channel a thousand times larger than the others, which no answer depends on.

    In 8 bits a tensor that channel takes all 256 steps, and every other value becomes 0.
    """
    weights = random_weights(seed=5)
    weights["first"][:, 5] = 1000 * weights["embeddings"].mean(axis=0)  # positive for most sentences
    weights["second"][5] = 0
    folder = write_folder(tmp_path / "float", weights)
    texts = sentences(120)
    labels = np.array(Predictor(folder).labels)[Predictor(folder).predict_logits(texts).argmax(axis=1)]
    split = Split(name="validation", ids=texts, texts=texts, labels=tuple(labels))
    return Workbench(folder, tmp_path / "work", split, per_channel=True)


def test_a_planted_fault_is_found_and_alone_kept_in_float(planted: Workbench) -> None:
    ladders = {
        part.name: table_ladder("int8_dynamic", 8)
        if part.kind == "table"
        else node_ladder("int8_dynamic", 8, batch_invariant=False)
        for part in planted.parts
    }
    lowest = {name: ladder[0] for name, ladder in ladders.items()}
    assert planted.drop(lowest) > 0.1
    plan = meet_budget(ladders, drop=planted.drop, divergence=planted.divergence, budget=0.05)
    assert raised_parts(plan, ladders) == {"float16": ["second"]}
    assert planted.drop(plan) <= 0.05
