"""Linformer: what its attention equals, what it does not depend on, what it costs, and when it is taken."""

import json
import logging
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from transformers import AutoModelForSequenceClassification, BertConfig, BertForSequenceClassification

from bento.errors import UserError
from bento.manifest import ONNX_FILE, Manifest, folder_sha256
from bento.predictor import Predictor
from tasks.architecture import Architecture, load_classifier
from tasks.compress.context import Context
from tasks.compress.export import Export
from tasks.compress.linformer import NOTE_FILE, Linformer, write_fused
from tasks.compress.quantize import Quantize
from tasks.data import read_split
from tasks.linformer_model import to_linformer, window_means, window_starts
from tasks.positions import extend_positions

MINILM = Architecture(
    model_type="bert", num_layers=6, num_heads=12, head_size=32, hidden_size=384, intermediate_size=1536,
    max_positions=512, tokenizer="WordPiece", known_parts=True, teacher_hidden_size=384,
)  # fmt: skip
SHARINGS = ("headwise", "key_value", "layerwise")
QUICK: dict[str, Any] = {"projected_length": 4, "epochs": 1, "min_speedup": 0.0}
VOCABULARY = 100


def bert(longest: int = 32) -> Any:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=longest, num_labels=3, initializer_range=0.3, attn_implementation="eager",
    )  # fmt: skip
    return BertForSequenceClassification(config).eval()


def student(*, k: int = 8, longest: int = 32, sharing: str = "layerwise") -> Any:
    """With projections as after training: no window is left as it was."""
    model = to_linformer(bert(longest), projected_length=k, sharing=sharing, longest=longest)
    with torch.no_grad():
        for weight in projections(model).values():
            weight += 0.1 * torch.randn(weight.shape)
    return model


def projections(model: Any) -> dict[str, Any]:
    return {name: weight for name, weight in model.named_parameters() if "projection" in name}


def token_ids(num_rows: int, num_tokens: int) -> Any:
    return torch.randint(1, VOCABULARY, (num_rows, num_tokens), generator=torch.Generator().manual_seed(1))


def logits(model: Any, ids_BT: Any, mask_BT: Any = None) -> Any:
    with torch.inference_mode():
        return model(input_ids=ids_BT, attention_mask=torch.ones_like(ids_BT) if mask_BT is None else mask_BT).logits


@pytest.mark.parametrize("sharing", SHARINGS)
def test_with_as_many_slots_as_tokens_it_is_full_attention(sharing: str) -> None:
    full = bert()
    same = to_linformer(full, projected_length=32, sharing=sharing, longest=32)
    assert torch.equal(next(iter(projections(same).values())), torch.eye(32))
    ids, mask = token_ids(3, 20), torch.ones(3, 20, dtype=torch.long)
    mask[1, 7:] = 0
    assert torch.allclose(logits(same, ids, mask), logits(full, ids, mask), atol=1e-5)


def test_a_text_as_short_as_the_windows_of_one_token_is_answered_as_by_full_attention() -> None:
    full = bert()
    model = to_linformer(full, projected_length=16, sharing="layerwise", longest=32)
    narrow = next(at for at, start in enumerate(window_starts(16, 32)) if start != at)
    ids = token_ids(2, narrow - 1)
    assert torch.allclose(logits(model, ids), logits(full, ids), atol=1e-5)
    assert not torch.allclose(logits(model, token_ids(2, 32)), logits(full, token_ids(2, 32)), atol=1e-5)


def test_a_slot_of_equal_states_weighs_as_its_tokens_do() -> None:
    full = bert()
    projected = to_linformer(full, projected_length=4, sharing="headwise", longest=32)
    for model in (full, projected):
        model.bert.embeddings.position_embeddings.weight.data.zero_()
    ids = torch.full((1, 32), 7)  # one state everywhere, so that means over windows lose nothing
    ids[:, 0] = 9  # but for the first window, which is one token
    assert window_starts(4, 32)[1] == 1
    assert torch.allclose(logits(projected, ids), logits(full, ids), atol=1e-5)


@pytest.mark.parametrize(("k", "longest"), [(1, 10), (8, 32), (32, 32), (40, 32), (128, 4096), (100, 101)])
def test_windows_part_all_positions_in_their_order(k: int, longest: int) -> None:
    starts = window_starts(k, longest)
    assert starts[0] == 0
    assert all(later > earlier for earlier, later in pairwise(starts))
    weight_SN = window_means(starts, longest)
    assert weight_SN.shape == (min(k, longest), longest)
    assert torch.allclose(weight_SN.sum(dim=1), torch.ones(len(starts)))
    assert torch.equal((weight_SN > 0).sum(dim=0), torch.ones(longest, dtype=torch.long))


@pytest.mark.parametrize("sharing", SHARINGS)
def test_an_answer_depends_neither_on_padding_nor_on_the_batch(sharing: str) -> None:
    model = student(sharing=sharing)
    alone = token_ids(1, 9)
    for padded in (10, 17, 32):
        ids, mask = token_ids(3, padded), torch.ones(3, padded, dtype=torch.long)
        ids[1, :9], mask[1, 9:] = alone[0], 0
        assert torch.allclose(logits(model, ids, mask)[1], logits(model, alone)[0], atol=1e-5)


def test_gradients_reach_every_projection() -> None:
    for sharing, count in zip(SHARINGS, (4, 2, 1), strict=True):
        model = student(sharing=sharing)
        model(input_ids=token_ids(2, 32)).logits.pow(2).sum().backward()
        weights = projections(model)
        assert len(weights) == count
        assert all((weight.grad != 0).any(dim=1).all() for weight in weights.values())


@pytest.mark.parametrize("sharing", SHARINGS)
def test_a_folder_is_loaded_as_it_was_saved(sharing: str, tmp_path: Path) -> None:
    model = student(sharing=sharing)
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    loaded = load_classifier(tmp_path)
    assert torch.equal(logits(loaded, token_ids(2, 32)), logits(model, token_ids(2, 32)))
    assert type(loaded) is type(model)


def test_positions_are_copied_to_the_length_asked_for() -> None:
    model, old = bert(longest=32), bert(longest=32).bert.embeddings.position_embeddings.weight
    short = logits(model, token_ids(2, 32))
    extend_positions(model, 80)
    new = model.bert.embeddings.position_embeddings.weight
    assert model.config.max_position_embeddings == len(new) == 80
    assert torch.equal(new, torch.cat([old, old, old[:16]]))
    assert torch.equal(logits(model, token_ids(2, 32)), short)
    assert logits(model, token_ids(1, 80)).shape == (1, 3)
    extend_positions(model, 40)
    assert len(model.bert.embeddings.position_embeddings.weight) == 80


def test_reserved_positions_are_not_copied() -> None:
    from transformers import RobertaConfig, RobertaForSequenceClassification

    model = RobertaForSequenceClassification(
        RobertaConfig(
            vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
            max_position_embeddings=18, pad_token_id=1, num_labels=3,
        )
    ).eval()  # fmt: skip
    old = model.roberta.embeddings.position_embeddings.weight.detach().clone()
    extend_positions(model, 40)
    new = model.roberta.embeddings.position_embeddings.weight
    assert torch.equal(new, torch.cat([old, old[2:], old[2:10]]))
    assert logits(model, token_ids(1, 40).clamp(min=2)).shape == (1, 3)


def test_onnx_answers_as_torch_at_every_length(tmp_path: Path) -> None:
    model = student(k=16, longest=700)
    session = onnxruntime.InferenceSession(write_fused(model, tmp_path))
    for num_tokens in (1, 2, 15, 16, 17, 200, 511, 513, 700):
        ids, mask = token_ids(2, num_tokens), torch.ones(2, num_tokens, dtype=torch.long)
        mask[0, (num_tokens + 1) // 2 :] = 0
        given = {"input_ids": ids.numpy(), "attention_mask": mask.numpy(), "token_type_ids": np.zeros_like(ids)}
        (found,) = session.run(None, given)
        assert np.allclose(found, logits(model, ids, mask).numpy(), atol=1e-4)


def test_the_largest_tensor_grows_in_proportion_to_the_length() -> None:
    def largest(model: Any, num_tokens: int) -> int:
        sizes: list[int] = []

        class Sizes(torch.overrides.TorchFunctionMode):
            def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                result = func(*args, **(kwargs or {}))
                sizes.extend(one.numel() for one in (result,) if isinstance(one, torch.Tensor))
                return result

        with Sizes():
            logits(model, token_ids(1, num_tokens))
        return max(sizes)

    model, full = student(k=16, longest=1024), bert(1024)
    assert largest(model, 1024) == 2 * largest(model, 512)
    assert largest(full, 1024) == 4 * largest(full, 512)


@pytest.mark.parametrize(
    ("settings", "shape", "expected"),
    [
        ({}, replace(MINILM, model_type="roberta"), "type 'bert', got 'roberta'"),
        ({}, replace(MINILM, model_type="linformer"), "type 'bert', got 'linformer'"),
        ({}, replace(MINILM, num_heads=6), "a model with all its heads"),
        ({"relations": 1.0}, MINILM, "relations: expected 0, got 1.0"),
        (
            {"projected_length": 512},
            MINILM,
            "fewer than the 512 tokens of the longest text, got 512: full attention is better",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_any_compute(
    settings: dict[str, Any], shape: Architecture, expected: str
) -> None:
    with pytest.raises(UserError, match=expected):
        Linformer(**settings).check(shape)


def test_the_sizes_after_it_are_the_teachers() -> None:
    after = Linformer().check(MINILM)
    assert (after.num_layers, after.hidden_size, after.model_type) == (6, 384, "linformer")


def test_no_slots_are_refused() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        Linformer(projected_length=0)


@pytest.mark.parametrize("projected_length", [16, 128])
def test_texts_no_longer_than_the_projection_are_better_off_with_full_attention(
    projected_length: int, context: Context
) -> None:
    with pytest.raises(UserError, match=rf"fewer than the 16 tokens of the longest text, got {projected_length}: full"):
        Linformer(projected_length=projected_length).run(context.teacher, context)


def test_the_contract_is_kept_to_int8(context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    technique, before = Linformer(**QUICK), folder_sha256(context.teacher.path)
    step = technique.run(context.teacher, context)
    assert folder_sha256(context.teacher.path) == before
    assert context.teacher.sha256 in step.artifact.parents
    assert technique.run(context.teacher, context).cached
    assert json.loads((step.artifact.path / NOTE_FILE).read_text())["attention"] == "linformer"
    exported = Export().run(step.artifact, context).artifact
    config = json.loads((exported.path / "config.json").read_text())
    assert config["model_type"] == "bert"  # which optimum and Transformers.js know; they run the graph
    quantized = Quantize().run(exported, context).artifact
    Manifest.read(quantized.path).check(quantized.path)
    texts = ["the car over there is red", "a blue lamp"]
    float_NC, int8_NC = (Predictor(folder.path).predict_logits(texts) for folder in (exported, quantized))
    assert abs(float_NC - int8_NC).max() < 0.2 * float_NC.std()
    monkeypatch.setenv("RETORT_HOME", str(tmp_path / "second"))
    assert technique.run(context.teacher, context).artifact.sha256 == step.artifact.sha256


def test_weights_are_multiplied_in_int8_and_projections_in_float(context: Context) -> None:
    exported = Export().run(Linformer(**QUICK).run(context.teacher, context).artifact, context).artifact
    quantized = Quantize().run(exported, context).artifact
    kinds = [node.op_type for node in onnx.load(quantized.path / ONNX_FILE).graph.node]
    num_layers = 3
    assert kinds.count("MatMulInteger") + kinds.count("DynamicQuantizeMatMul") >= 6 * num_layers
    assert kinds.count("MatMul") == 3 * num_layers  # E X, Q K^T and P V, whose right sides are no constants


def test_full_attention_stays_where_it_is_as_fast_on_texts_of_the_training_split(
    context: Context, caplog: pytest.LogCaptureFixture
) -> None:
    from transformers import AutoTokenizer

    technique = Linformer(projected_length=4, min_speedup=1e6)
    with caplog.at_level(logging.INFO, logger="retort.linformer"):
        step = technique.run(context.teacher, context)
    assert "full attention stays, nothing is trained" in caplog.text
    assert json.loads((step.artifact.path / NOTE_FILE).read_text())["attention"] == "full"
    kept = AutoModelForSequenceClassification.from_pretrained(step.artifact.path)
    teacher = load_classifier(context.teacher.path)
    assert all(torch.equal(mine, its) for mine, its in zip(kept.parameters(), teacher.parameters(), strict=True))
    tokenizer = AutoTokenizer.from_pretrained(context.teacher.path)
    lengths = {len(ids) for ids in tokenizer(list(read_split(context.data.path, "train").texts))["input_ids"]}
    told = caplog.text.split("at ")[1].split(" tokens")[0]
    assert {int(number) for number in told.split(", ")} <= lengths


def test_linformer_is_taken_where_it_is_as_many_times_as_fast_as_asked(
    context: Context, caplog: pytest.LogCaptureFixture
) -> None:
    technique = Linformer(projected_length=4, epochs=1, min_speedup=1e-6, timed_in="float32")
    with caplog.at_level(logging.INFO, logger="retort.linformer"):
        step = technique.run(context.teacher, context)
    assert "Linformer is trained" in caplog.text
    assert load_classifier(step.artifact.path).config.model_type == "linformer"
