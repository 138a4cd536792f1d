import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from pydantic import ValidationError
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    CamembertConfig,
    DistilBertConfig,
    ElectraConfig,
    MPNetConfig,
    RobertaConfig,
)

from bento.errors import UserError
from bento.manifest import ONNX_FILE, Manifest, folder_sha256
from bento.predictor import Predictor
from tasks.architecture import Architecture, layer_list, load_classifier, part, read_architecture
from tasks.batches import Rows
from tasks.compress.context import Context
from tasks.compress.export import Export
from tasks.compress.prune_structure import (
    STRUCTURE_FILE,
    PruneStructure,
    check_reach,
    load_trimmed,
    neuron_choices,
    searched,
    sized,
    target_ms,
)
from tasks.cut_losses import CutLosses
from tasks.latency_table import LatencyTable
from tasks.store import run_step
from tasks.structure import Kept, LayerSize, cut, input_moments, layer_sizes, pad_neurons, refit, refit_part
from tasks.task_types import SingleLabel
from tasks.train import PACKAGED, find_model
from tasks.training import fit, predict_logits
from tasks.types import Artifact

SENTENCES = ["the car over there is red", "a blue lamp"]
SHAPE = Architecture(
    model_type="bert", num_layers=3, num_heads=2, head_size=16, hidden_size=32, intermediate_size=64,
    max_positions=32, tokenizer="WordPiece", known_parts=True, teacher_hidden_size=32,
)  # fmt: skip
TABLE = LatencyTable(
    cpu="a cpu", heads=(1, 2), attention_ms=(1.0, 2.0), neurons=(16, 64), feed_forward_ms=(1.0, 4.0), rest_ms=1.0
)
"""A layer as it is takes 6 ms, at its smallest 2 ms."""
FULL = [LayerSize(num_heads=2, num_neurons=64)] * 3
UNEVEN = {0: Kept(heads=[1], neurons=list(range(64))), 2: Kept(heads=[0, 1], neurons=[3, 5, 8])}


@pytest.fixture
def teacher(context: Context) -> Any:
    return load_classifier(context.teacher.path)


@pytest.fixture
def rows(context: Context) -> Rows:
    rng = np.random.default_rng(0)
    tokens = [[101, *rng.integers(1000, 2000, size=rng.integers(3, 9)).tolist(), 102] for _ in range(24)]
    return Rows(token_ids=tokens, type_ids=None, targets={"label": rng.integers(3, size=24)})


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The times of TABLE in place of measured ones."""
    (tmp_path / "latency.json").write_text(TABLE.model_dump_json(), encoding="utf-8")
    artifact = Artifact(kind="report", path=tmp_path, sha256="0" * 64, parents=(), made_by="test")
    monkeypatch.setattr("tasks.compress.prune_structure.measured_table", lambda _geometry: artifact)


def logits(model: Any, rows: Rows) -> Any:
    return predict_logits(model, rows, pad_id=0)


def losses(a_head: list[float], a_neuron: list[float], layers: list[float]) -> CutLosses:
    """Of three layers, where each head and each neuron that goes costs the same."""
    heads = [each * np.arange(2, -1, -1) for each in a_head]
    return CutLosses(
        heads=heads, neurons=[each * np.arange(64, -1, -1) for each in a_neuron], layers_L=np.array(layers)
    )


EVEN = losses([1.0] * 3, [1.0] * 3, [1e4] * 3)


def stored(model: Any, tokenizer_from: Path, name: str) -> Artifact:
    def make(out: Path, _work: Path) -> None:
        model.save_pretrained(out)
        AutoTokenizer.from_pretrained(tokenizer_from).save_pretrained(out)

    return run_step(name, kind="torch", inputs=[], config={}, code="tasks.types", make=make).artifact


def test_cutting_what_gives_nothing_changes_no_answer_and_leaves_smaller_matrices(teacher: Any, rows: Rows) -> None:
    _, stack = layer_list(teacher)
    with torch.no_grad():
        part(stack[0], "attention_output").weight[:, :16] = 0
        part(stack[2], "feed_forward_out").weight[:, 3:] = 0
    before = logits(teacher, rows)
    cut(
        teacher,
        {0: UNEVEN[0], 1: Kept(heads=[0, 1], neurons=list(range(64))), 2: Kept(heads=[0, 1], neurons=[0, 1, 2])},
    )
    assert np.allclose(logits(teacher, rows), before, atol=1e-5)
    assert [part(layer, "query").weight.shape for layer in stack] == [(16, 32), (32, 32), (32, 32)]
    assert part(stack[2], "feed_forward_in").weight.shape == (3, 32)


def test_an_uneven_model_is_stored_as_plain_transformers_loads_it(teacher: Any, rows: Rows, tmp_path: Path) -> None:
    cut(teacher, UNEVEN)
    before = logits(teacher, rows)
    pad_neurons(teacher)
    teacher.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["pruned_heads"] == {"0": [0]}
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert np.allclose(logits(loaded, rows), before, atol=1e-5)
    assert layer_sizes(loaded) == [LayerSize(num_heads=1, num_neurons=64), LayerSize(num_heads=2, num_neurons=3)]


def test_what_is_cut_again_counts_heads_and_layers_as_they_are_now(teacher: Any, rows: Rows, tmp_path: Path) -> None:
    cut(teacher, UNEVEN)
    cut(teacher, {1: Kept(heads=[1], neurons=[0, 2])})
    before = logits(teacher, rows)
    teacher.config.intermediate_size = 2
    teacher.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert loaded.config.pruned_heads == {0: [0]}
    assert np.allclose(logits(loaded, rows), before, atol=1e-5)


def test_zero_neurons_stay_zero_in_training(teacher: Any, rows: Rows, tmp_path: Path) -> None:
    cut(teacher, UNEVEN)
    pad_neurons(teacher)
    before = part(layer_list(teacher)[1][1], "feed_forward_out").weight.detach().clone()
    recipe = PruneStructure(heads=1, epochs=2, weight_decay=0.5, learning_rate=0.01).recipe(seed=0)

    def loss(logits_BC: Any, batch: Any) -> Any:
        return torch.nn.functional.cross_entropy(logits_BC, batch["label"])

    fit(teacher, rows, rows, task=SingleLabel(), recipe=recipe, pad_id=0, loss=loss, work=tmp_path, name="test")
    layer = layer_list(teacher)[1][1]
    into, out = part(layer, "feed_forward_in"), part(layer, "feed_forward_out")
    assert not torch.equal(out.weight, before)
    assert into.weight[3:].abs().max() == into.bias[3:].abs().max() == out.weight[:, 3:].abs().max() == 0


def test_refitting_changes_nothing_where_what_goes_gave_nothing(teacher: Any, rows: Rows) -> None:
    with torch.no_grad():
        part(layer_list(teacher)[1][1], "feed_forward_out").weight[:, 5] = 0
    before = logits(teacher, rows)
    kept = {1: Kept(heads=[0, 1], neurons=[neuron for neuron in range(64) if neuron != 5])}
    refit(teacher, kept, input_moments(teacher, rows, 0))
    assert np.allclose(logits(teacher, rows), before, atol=1e-3)


def test_refitting_gives_a_neurons_work_to_its_double(teacher: Any, rows: Rows) -> None:
    into = part(layer_list(teacher)[1][1], "feed_forward_in")
    with torch.no_grad():
        into.weight[1], into.bias[1] = into.weight[0].clone(), into.bias[0].clone()
    before = logits(teacher, rows)
    kept = {at: Kept(heads=[0, 1], neurons=[n for n in range(64) if (at, n) != (1, 1)]) for at in range(3)}
    refit(teacher, kept, input_moments(teacher, rows, 0))
    cut(teacher, kept)
    assert np.allclose(logits(teacher, rows), before, atol=1e-2)


def test_refitted_outputs_are_those_of_least_squares(teacher: Any) -> None:
    torch.manual_seed(0)
    module, inputs_NX = torch.nn.Linear(4, 2), torch.randn(50, 4)
    ones = torch.ones(50, 1)
    targets_NH = module(inputs_NX).detach()
    all_NX = torch.cat([inputs_NX, ones], dim=1)
    refit_part(module, all_NX.T @ all_NX, [0, 3])
    best = torch.linalg.lstsq(torch.cat([inputs_NX[:, [0, 3]], ones], dim=1), targets_NH).solution
    assert torch.allclose(module.weight[:, [0, 3]], best[:2].T, atol=1e-2)
    assert torch.allclose(module.bias, best[2], atol=1e-2)
    assert module.weight[:, [1, 2]].abs().max() == 0


def test_sizes_that_are_named_hold_for_the_layers_that_most_rests_on() -> None:
    losses_L = np.array([2.0, 1.0, 3.0])
    kept = sized(PruneStructure(heads=1, intermediate_size=3, num_layers=2), losses_L, FULL)
    assert kept == {0: LayerSize(num_heads=1, num_neurons=3), 2: LayerSize(num_heads=1, num_neurons=3)}
    assert sized(PruneStructure(num_layers=1), losses_L, FULL) == {2: FULL[2]}
    assert sized(PruneStructure(heads=1), None, FULL) == dict.fromkeys(range(3), LayerSize(num_heads=1, num_neurons=64))


def test_a_search_meets_its_time_and_spares_what_answers_rest_on() -> None:
    settings = PruneStructure(speedup=1.5)
    kept = searched(settings, losses([1, 100, 1], [1, 100, 1], [1e4, 1e6, 1e4]), FULL, TABLE)
    assert kept[1] == FULL[1]
    time_ms = TABLE.model_ms([(size.num_heads, size.num_neurons) for size in kept.values()])
    assert 0.9 * target_ms(settings, 19.0) < time_ms <= target_ms(settings, 19.0) * 1.001


def test_a_layer_that_does_nothing_is_dropped_before_anything_else() -> None:
    kept = searched(PruneStructure(latency_ms=13.0), losses([1] * 3, [1] * 3, [1e4, 0, 1e4]), FULL, TABLE)
    assert kept == {0: FULL[0], 2: FULL[2]}


def test_one_layer_stays_though_none_seems_to_matter() -> None:
    assert len(searched(PruneStructure(latency_ms=3.0), losses([1] * 3, [1] * 3, [0, 0, 0]), FULL, TABLE)) == 1


@pytest.mark.parametrize(("units", "heads", "neurons"), [(["heads"], 1, 64), (["neurons"], 2, 16)])
def test_only_the_named_units_go(units: list[Any], heads: int, neurons: int) -> None:
    least = 3 * TABLE.layer_ms(heads, neurons) + TABLE.rest_ms
    kept = searched(PruneStructure(latency_ms=least, units=units), EVEN, FULL, TABLE)
    assert kept == dict.fromkeys(range(3), LayerSize(num_heads=heads, num_neurons=neurons))


def test_planted_units_that_give_nothing_are_those_that_go(context: Context, teacher: Any, measured: None) -> None:
    _, stack = layer_list(teacher)
    with torch.no_grad():
        part(stack[0], "attention_output").weight[:, :16] = 0
        part(stack[2], "attention_output").weight[:, 16:] = 0
        part(stack[1], "feed_forward_out").weight[:, 16:] = 0
    planted = stored(teacher, context.teacher.path, "planted")
    given_ms = TABLE.model_ms([(2, 64), (2, 16), (2, 64)])
    step = PruneStructure(latency_ms=given_ms - 2.0, epochs=1).run(planted, context)
    pruned = load_classifier(step.artifact.path)
    assert pruned.config.pruned_heads == {0: [0], 2: [1]}
    assert layer_sizes(pruned) == [
        LayerSize(num_heads=1, num_neurons=64),
        LayerSize(num_heads=2, num_neurons=16),
        LayerSize(num_heads=1, num_neurons=64),
    ]


def test_a_pruned_model_keeps_the_contract_and_its_graph_has_smaller_matrices(
    context: Context, measured: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = PruneStructure(speedup=1.8, epochs=1)
    before = folder_sha256(context.teacher.path)
    step = settings.run(context.teacher, context)
    assert folder_sha256(context.teacher.path) == before
    assert settings.run(context.teacher, context).cached
    assert {context.teacher.sha256, context.data.sha256} <= set(step.artifact.parents)
    found = json.loads((step.artifact.path / STRUCTURE_FILE).read_text())
    sizes = layer_sizes(load_trimmed(step.artifact.path))
    assert [(size.num_heads, size.num_neurons) for size in sizes] == [
        (x["heads"], x["neurons"]) for x in found["layers"]
    ]
    assert sizes != FULL
    assert found["predicted_ms"] <= found["given_ms"] / 1.8 * 1.001
    graph = onnx.load(Export().run(step.artifact, context).artifact.path / ONNX_FILE).graph
    shapes = [tuple(weight.dims) for weight in graph.initializer]
    for layer, size in enumerate(sizes, start=1):
        assert (32, (16 if layer == len(sizes) else 48) * size.num_heads) in shapes  # the last one asks one query alone
        assert {(32, size.num_neurons), (size.num_neurons, 32)} <= set(shapes)
    monkeypatch.setenv("RETORT_HOME", str(tmp_path / "second"))
    assert settings.run(context.teacher, context).artifact.sha256 == step.artifact.sha256


def test_other_times_are_another_step(context: Context, measured: None, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = PruneStructure(latency_ms=15.0, epochs=1)
    settings.run(context.teacher, context)
    slower = TABLE.model_copy(update={"rest_ms": 2.0})
    monkeypatch.setattr("tasks.compress.prune_structure.read_table", lambda _artifact: slower)
    assert not settings.run(context.teacher, context).cached


SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
CONFIGS: dict[str, tuple[Any, dict[str, Any]]] = {
    "distilbert": (DistilBertConfig, {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}),
    "roberta": (RobertaConfig, SIZES),
    "camembert": (CamembertConfig, SIZES),
    "electra": (ElectraConfig, SIZES | {"embedding_size": 32}),
    "mpnet": (MPNetConfig, SIZES),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_an_architecture_is_pruned_unevenly_loads_in_plain_transformers_and_is_exported_fused(
    name: str, context: Context, rows: Rows
) -> None:
    torch.manual_seed(0)
    make, sizes = CONFIGS[name]
    labels = dict(enumerate(("blue", "green", "red")))
    config = make(vocab_size=30522, pad_token_id=0, id2label=labels, initializer_range=0.2, **sizes)
    model = AutoModelForSequenceClassification.from_config(config)
    first = [0, 1] if name == "mpnet" else [1]
    cut(model, {0: Kept(heads=first, neurons=[1, 2, 3]), 1: Kept(heads=[0, 1], neurons=list(range(32)))})
    before = logits(model, rows)
    pad_neurons(model)
    artifact = stored(model, find_model(PACKAGED), f"uneven {name}")
    assert np.allclose(logits(load_classifier(artifact.path), rows), before, atol=1e-5)
    exported = Export().run(artifact, replace(context, name=f"uneven {name}")).artifact
    fused = Manifest.read(exported.path).lineage["fused"]
    assert fused.get("Attention", 0) == (0 if name in ("camembert", "mpnet") else 2)
    shapes = [tuple(weight.dims) for weight in onnx.load(exported.path / ONNX_FILE).graph.initializer]
    assert {(32, 3), (3, 32), (32, 32)} <= set(shapes)
    assert Predictor(exported.path).predict(SENTENCES).shape == (2, 3)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "expected one aim.*got none"),
        ({"speedup": 2.0, "latency_ms": 1.0}, "got speedup and latency_ms"),
        ({"speedup": 2.0, "heads": 1}, "got speedup and heads"),
        ({"heads": 0}, "heads: expected at least 1, got 0.*num_layers"),
        ({"num_layers": 0}, "num_layers: expected at least 1, got 0"),
        ({"intermediate_size": -3}, "intermediate_size: expected at least 1, got -3"),
        ({"speedup": 1.0}, "speedup: expected more than 1"),
        ({"speedup": float("nan")}, "speedup: expected more than 1"),
        ({"latency_ms": 0.0}, "latency_ms: expected more than 0"),
        ({"speedup": 2.0, "units": []}, "expected some of heads, neurons, layers"),
    ],
)
def test_a_config_without_a_sensible_aim_is_refused(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        PruneStructure(**config)


@pytest.mark.parametrize(
    ("config", "shape", "said"),
    [
        ({"heads": 3}, {}, "heads: expected 1 to 2, which the model has, got 3"),
        ({"intermediate_size": 65}, {}, "expected 1 to 64"),
        ({"num_layers": 4}, {}, "expected 1 to 3"),
        ({"speedup": 1e3}, {}, "expected less than .* got 1000"),
        ({"speedup": 2.0, "units": ["heads"]}, {}, "expected less than 1.43.*let layers, neurons go too"),
        ({"speedup": 2.0, "relations": 1.0}, {}, "relations: expected 0 where heads go"),
        ({"intermediate_size": 32, "relations": 1.0, "relation_heads": 7}, {}, "choose from 1, 2, 4, 8, 16, 32$"),
        ({"heads": 1}, {"model_type": "mpnet"}, "bert.*got 'mpnet'; set units"),
        ({"speedup": 2.0}, {"model_type": "deberta-v2", "known_parts": False}, "prune_structure: expected an encoder"),
    ],
)
def test_what_a_model_cannot_become_is_said_before_any_compute(
    config: dict[str, Any], shape: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        PruneStructure(**config).check(replace(SHAPE, **shape))


def test_sizes_after_a_check_are_what_is_asked_for(context: Context) -> None:
    path = context.teacher.path
    shape = read_architecture(AutoConfig.from_pretrained(path), AutoTokenizer.from_pretrained(path))
    found = PruneStructure(intermediate_size=32, num_layers=2).check(shape)
    assert (found.num_layers, found.num_heads, found.intermediate_size) == (2, 2, 32)
    found = PruneStructure(heads=1).check(shape)
    assert (found.num_heads, found.head_size, found.lost_heads) == (1, 16, True)
    assert PruneStructure(speedup=2.0).check(shape) == replace(
        shape, searched=frozenset({"heads", "neurons", "layers"})
    )


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"latency_ms": 2.9}, r"expected a latency of 3 ms or more \(speedup 6.33 or less\).*measured on a cpu"),
        ({"speedup": 6.4}, "expected a latency of 3 ms"),
        ({"latency_ms": 6.9, "units": ["heads", "neurons"]}, "let layers go too"),
        ({"latency_ms": 19.0}, "expected less than the 19 ms that the model takes unpruned.*choose from 3 to 19"),
    ],
)
def test_a_time_out_of_reach_is_refused_with_the_range(config: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        check_reach(PruneStructure(**config), TABLE, FULL)


@pytest.mark.parametrize("config", [{"latency_ms": 3.0}, {"latency_ms": 7.0, "units": ["heads", "neurons"]}])
def test_a_time_just_within_reach_is_met(config: dict[str, Any]) -> None:
    settings = PruneStructure(**config)
    check_reach(settings, TABLE, FULL)
    kept = searched(settings, EVEN, FULL, TABLE)
    assert set(kept.values()) == {LayerSize(num_heads=1, num_neurons=16)}


def test_a_search_for_less_than_any_sizes_take_says_so() -> None:
    with pytest.raises(UserError, match="expected a time that some sizes take"):
        searched(PruneStructure(latency_ms=2.0), EVEN, FULL, TABLE)


def test_a_time_out_of_reach_leaves_no_artifact(context: Context, measured: None) -> None:
    with pytest.raises(UserError, match="expected a latency"):
        PruneStructure(latency_ms=0.5).run(context.teacher, context)


@pytest.mark.parametrize(("count", "step"), [(64, 16), (1536, 64), (3072, 128), (100, 16)])
def test_neurons_are_chosen_in_whole_vector_widths(count: int, step: int) -> None:
    choices = neuron_choices(count)
    assert choices[0] == step
    assert choices[-1] == count
    assert all(choice % 16 == 0 for choice in choices[:-1])
