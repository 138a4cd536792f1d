"""Students: which layers and widths they start from, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from bento.errors import UserError
from tasks.architecture import Architecture, load_classifier
from tasks.batches import Rows, tokenize
from tasks.compress.context import Context
from tasks.compress.distil import Distil
from tasks.positions import cut_positions
from tasks.structure import keep_heads
from tasks.students import keep_layers, narrow, search_layers, use_relu
from tasks.training import predict_logits

MINILM = Architecture(
    model_type="bert", num_layers=6, num_heads=12, head_size=32, hidden_size=384, intermediate_size=1536,
    max_positions=512, tokenizer="WordPiece", known_parts=True, teacher_hidden_size=384,
)  # fmt: skip


@pytest.fixture
def rows(context: Context) -> Rows:
    from transformers import AutoTokenizer

    from tasks.data import read_split

    tokenizer = AutoTokenizer.from_pretrained(context.teacher.path)
    return tokenize(tokenizer, read_split(context.data.path, "train").texts, max_tokens=16)


def test_layers_are_copied_in_order(context: Context) -> None:
    teacher = load_classifier(context.teacher.path)
    student = keep_layers(load_classifier(context.teacher.path), [0, 2])
    assert student.config.num_hidden_layers == 2
    for at, source in enumerate((0, 2)):
        ours = student.bert.encoder.layer[at].output.dense.weight
        assert torch.equal(ours, teacher.bert.encoder.layer[source].output.dense.weight)


@pytest.mark.parametrize("layers", [[0, 3], [2, 0], [1, 1], [-1, 0]])
def test_layers_that_cannot_be_are_refused_with_the_range(context: Context, layers: list[int]) -> None:
    with pytest.raises(UserError, match="from 0 to 2"):
        keep_layers(load_classifier(context.teacher.path), layers)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"layers": [0, 6]}, "from 0 to 5 .the teacher has 6 layers."),
        ({"layers": "top", "num_layers": 7}, "from 0 to 5"),
        ({"hidden_size": 100}, "a multiple of the head size 32 up to the teacher's 384"),
        ({"hidden_size": 416}, "up to the teacher's 384"),
        ({"intermediate_size": 2000}, "at most the teacher's 1536"),
        (
            {"relations": 1.0, "relation_heads": 7},
            r"a divisor of the sizes 384 and 384 .* choose from 1, 2, 3, 4, 6, 8, 12,",
        ),
        ({"num_heads": 13}, "num_heads: expected 1 to 12"),
        ({"hidden_size": 256, "num_heads": 9}, "num_heads: expected 1 to 8"),
        ({"num_heads": 6, "relations": 1.0}, "relations: expected 0 with 6 of 12 heads"),
    ],
)
def test_what_a_teacher_does_not_have_is_refused_before_any_compute(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        Distil(**settings).check(MINILM)


def test_sizes_after_a_distillation_are_handed_on() -> None:
    found = Distil(layers="spread", hidden_size=256, intermediate_size=512).check(MINILM)
    assert (found.num_layers, found.hidden_size, found.intermediate_size, found.num_heads) == (3, 256, 512, 8)
    assert Distil(num_heads=4).check(MINILM).num_heads == 4


@pytest.mark.parametrize(
    ("shape", "settings", "expected"),
    [
        ({"num_heads": 2}, {"num_heads": 3}, "num_heads: expected 1 to 2, .* got 3"),
        ({"num_heads": 2}, {"hidden_size": 256}, "a model with all its heads.*in front of prune_structure"),
        ({"num_heads": 2}, {"intermediate_size": 256}, "a model with all its heads"),
        ({"num_heads": 2}, {"relations": 1.0, "relation_heads": 12}, "the sizes 64 and 384"),
        ({"searched": frozenset({"heads"})}, {"relations": 1.0}, "relations: expected 0 behind"),
        ({"searched": frozenset({"heads"})}, {"num_heads": 1}, "num_heads: expected nothing behind .* how many heads"),
        ({"searched": frozenset({"neurons"})}, {"intermediate_size": 64}, "intermediate_size: expected nothing behind"),
        ({"searched": frozenset({"layers"})}, {"layers": [0, 2]}, r"layers: expected nothing behind .* got \[0, 2\]"),
        ({"searched": frozenset({"layers"})}, {"num_layers": 3}, "num_layers: expected nothing behind"),
        ({"hidden_size": 192, "num_heads": 6}, {"relations": 1.0, "relation_heads": 7}, "the sizes 192 and 384"),
        ({"model_type": "albert", "known_parts": False}, {}, "distil: expected .* layers of their own.*'albert'"),
    ],
)
def test_what_a_model_lost_before_is_refused_before_any_compute(
    shape: dict[str, Any], settings: dict[str, Any], expected: str
) -> None:
    with pytest.raises(UserError, match=expected):
        Distil(**settings).check(replace(MINILM, **shape))


def test_a_second_distillation_of_fewer_heads_knows_their_size() -> None:
    found = Distil(num_layers=2).check(Distil(num_heads=4).check(MINILM))
    assert (found.num_layers, found.num_heads, found.head_size, found.hidden_size) == (2, 4, 32, 384)
    found = Distil(num_layers=1).check(replace(MINILM, searched=frozenset({"heads", "neurons", "layers"})))
    assert found.num_layers == 1


def test_heads_that_share_a_bias_are_cut_with_it(rows: Rows) -> None:
    from transformers import MPNetConfig, MPNetForSequenceClassification

    torch.manual_seed(0)
    config = MPNetConfig(
        vocab_size=30_522, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32,
        max_position_embeddings=34, num_labels=3, initializer_range=0.2,
    )  # fmt: skip
    model = MPNetForSequenceClassification(config).eval()
    for layer in model.mpnet.encoder.layer:
        layer.attention.attn.o.weight.data[:, 8:16] = 0  # nothing reads the second head
    student = narrow(model, rows, 1, hidden_size=24, intermediate_size=None)
    bias = model.mpnet.encoder.relative_attention_bias.weight
    assert torch.equal(student.mpnet.encoder.relative_attention_bias.weight, bias[:, [0, 2, 3]])
    assert np.isfinite(predict_logits(student, rows, pad_id=1)).all()


def test_a_family_whose_heads_cannot_go_keeps_them() -> None:
    with pytest.raises(UserError, match=r"distil\.num_heads: expected an encoder of one of bert"):
        Distil(num_heads=4).check(replace(MINILM, model_type="mpnet"))


def test_the_heads_that_carry_nothing_go_and_the_answers_stay(context: Context, rows: Rows, tmp_path: Path) -> None:
    """The weights that read the first head are zero, so one of two heads suffices; plain transformers loads it."""
    model = load_classifier(context.teacher.path)
    half = model.config.hidden_size // 2
    for layer in model.bert.encoder.layer:
        layer.attention.output.dense.weight.data[:, :half] = 0
    before = predict_logits(model, rows, pad_id=0)
    keep_heads(model, rows, 0, 1)
    assert [layer.attention.self.query.out_features for layer in model.bert.encoder.layer] == [half] * 3
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    np.testing.assert_allclose(predict_logits(loaded, rows, pad_id=0), before, atol=1e-4)


def test_a_narrow_student_of_all_dimensions_is_the_teacher(context: Context, rows: Rows) -> None:
    teacher = load_classifier(context.teacher.path)
    assert narrow(teacher, rows, 0, hidden_size=32, intermediate_size=64) is teacher


def test_a_narrow_student_keeps_the_neurons_that_carry_something(context: Context, rows: Rows) -> None:
    teacher = load_classifier(context.teacher.path)
    dead = torch.arange(0, 64, 2)
    for layer in teacher.bert.encoder.layer:
        layer.output.dense.weight.data[:, dead] = 0  # planted: every second neuron contributes nothing
    student = narrow(teacher, rows, 0, hidden_size=None, intermediate_size=32)
    for mine, its in zip(student.bert.encoder.layer, teacher.bert.encoder.layer, strict=True):
        assert torch.equal(mine.output.dense.weight, its.output.dense.weight[:, 1::2])
    ids = torch.tensor([[101, 2000, 3000, 102]])
    assert torch.allclose(student(ids).logits, teacher(ids).logits, atol=1e-5)


def test_a_narrow_student_has_smaller_matrices_everywhere(context: Context, rows: Rows) -> None:
    student = narrow(load_classifier(context.teacher.path), rows, 0, hidden_size=16, intermediate_size=24)
    assert student.config.num_attention_heads == 1
    assert student.bert.embeddings.word_embeddings.weight.shape[1] == 16
    assert student.bert.encoder.layer[1].intermediate.dense.weight.shape == (24, 16)
    assert student.classifier.weight.shape == (3, 16)
    assert student(torch.tensor([[101, 102]])).logits.shape == (1, 3)


def test_a_student_with_relu_says_so_in_its_config(context: Context, rows: Rows, tmp_path: Path) -> None:
    student = load_classifier(context.teacher.path)
    before = predict_logits(student, rows, pad_id=0)
    use_relu(student)
    student.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert loaded.config.hidden_act == "relu"
    after = predict_logits(loaded, rows, pad_id=0)
    assert np.array_equal(after, predict_logits(student, rows, pad_id=0))
    assert not np.allclose(after, before)


def test_relu_has_another_place_in_distilbert(rows: Rows) -> None:
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    config = DistilBertConfig(dim=16, n_layers=2, n_heads=2, hidden_dim=16, activation="gelu")
    student = DistilBertForSequenceClassification(config).eval()
    before = predict_logits(student, rows, pad_id=0)
    use_relu(student)
    assert student.config.activation == "relu"
    assert not np.allclose(predict_logits(student, rows, pad_id=0), before)


def test_a_family_whose_activation_is_not_known_keeps_it() -> None:
    with pytest.raises(UserError, match="num_heads or activation: expected an encoder of one of bert"):
        Distil(activation="relu").check(replace(MINILM, model_type="modernbert", known_parts=False))


def test_positions_beyond_the_longest_input_are_cut_and_change_nothing(context: Context) -> None:
    teacher, cut = load_classifier(context.teacher.path), load_classifier(context.teacher.path)
    cut_positions(cut, 16)
    ids = torch.arange(100, 116)[None]
    assert cut.bert.embeddings.position_embeddings.weight.shape[0] == 16
    assert torch.equal(cut(ids).logits, teacher(ids).logits)


def test_the_search_finds_the_layer_that_does_nothing(context: Context, rows: Rows) -> None:
    teacher = load_classifier(context.teacher.path)
    layer = teacher.bert.encoder.layer[1]
    for linear in (layer.attention.output.dense, layer.output.dense):
        linear.weight.data.zero_()  # planted: with both residual branches empty, the layer only normalises
        linear.bias.data.zero_()
    with torch.no_grad():
        encoded = [teacher(torch.tensor([ids])).logits for ids in rows.token_ids]
    found = search_layers(teacher, rows, torch.cat(encoded).numpy(), 2, 0)
    assert found == [0, 2]


def test_a_list_of_layers_and_another_number_of_them_contradict() -> None:
    with pytest.raises(ValueError, match="nothing beside a list of 2 layers, got 3"):
        Distil(layers=[0, 1], num_layers=3)
    with pytest.raises(ValueError, match="at least one layer"):
        Distil(layers=[])


def test_students_of_all_kinds_are_trained_and_load_in_transformers(context: Context) -> None:
    step = Distil(
        layers="searched", num_layers=2, hidden_size=16, intermediate_size=24, hidden=1.0, relations=1.0,
        relation_heads=2, epochs=1, transfer={"copies": 2},
    ).run(context.teacher, context)  # fmt: skip
    student = load_classifier(step.artifact.path)
    assert (student.config.num_hidden_layers, student.config.hidden_size) == (2, 16)
    assert np.isfinite(student.classifier.weight.detach().numpy()).all()


def test_layers_that_lost_heads_keep_that_when_others_are_dropped(context: Context, tmp_path: Path) -> None:
    model = load_classifier(context.teacher.path)
    model.prune_heads({2: [0]})
    keep_layers(model, [0, 2]).save_pretrained(tmp_path)
    assert load_classifier(tmp_path).bert.encoder.layer[1].attention.self.query.weight.shape == (16, 32)


def test_a_model_that_lost_heads_is_not_narrowed(context: Context, rows: Rows) -> None:
    model = load_classifier(context.teacher.path)
    model.prune_heads({0: [1]})
    with pytest.raises(UserError, match="put distil in front of prune_structure"):
        narrow(model, rows, 0, hidden_size=None, intermediate_size=32)
