"""Architectures beside BERT: exported, fused where the rules know them, quantized, and answering as in torch."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    MPNetConfig,
    RobertaConfig,
)

from bento.errors import RetortError
from bento.manifest import Manifest
from bento.predictor import Predictor
from tasks.compress.context import Context
from tasks.compress.export import Export
from tasks.compress.quantize import Quantize
from tasks.store import run_step
from tasks.train import PACKAGED, find_model
from tasks.types import Artifact

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # DeBERTa's

LABELS = ("blue", "green", "red")
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
CONFIGS: dict[str, tuple[Any, dict[str, Any]]] = {
    "distilbert": (DistilBertConfig, {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}),
    "roberta": (RobertaConfig, SIZES),
    "electra": (ElectraConfig, SIZES | {"embedding_size": 32}),
    "mpnet": (MPNetConfig, SIZES),
    "deberta-v2": (DebertaV2Config, SIZES),
}
NUM_NODES_AFTER_ATTENTION = 10
"""Of the last layer: two normalisations, three products, their biases and additions, and GELU."""
FUSED = ("distilbert", "roberta", "electra")


def write_model(name: str, out: Path) -> None:
    """Random weights, and a tokenizer that gives token types whether the model has them or not."""
    import torch

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(find_model(PACKAGED))
    make, sizes = CONFIGS[name]
    config = make(
        vocab_size=len(tokenizer), pad_token_id=0, id2label=dict(enumerate(LABELS)),
        label2id={label: at for at, label in enumerate(LABELS)}, initializer_range=0.2, **sizes,
    )  # fmt: skip
    AutoModelForSequenceClassification.from_config(config).save_pretrained(out)
    tokenizer.save_pretrained(out)


@pytest.fixture(params=CONFIGS)
def model(request: pytest.FixtureRequest, context: Context) -> Artifact:
    return run_step(
        f"random {request.param}", kind="torch", inputs=[], config={}, code="tasks.types",
        make=lambda out, work: write_model(request.param, out),
    ).artifact  # fmt: skip


def test_an_architecture_is_exported_with_parity_and_quantized(model: Artifact, context: Context) -> None:
    name = model.made_by.removeprefix("random ")
    exported = Export().run(model, replace(context, name=name)).artifact
    fused = Manifest.read(exported.path).lineage["fused"]
    assert fused.get("Attention", 0) == (2 if name in FUSED else 0)
    assert fused["first token early"] >= NUM_NODES_AFTER_ATTENTION, "all families here read the first token"
    quantized = Quantize().run(exported, replace(context, name=name)).artifact
    texts = ["the car over there is red", "a blue lamp"]
    float_NC, int8_NC = (Predictor(folder.path).predict_logits(texts) for folder in (exported, quantized))
    assert abs(float_NC - int8_NC).max() < 0.2 * float_NC.std()


def test_a_limit_that_cannot_be_met_is_an_error_and_leaves_no_artifact(model: Artifact, context: Context) -> None:
    with pytest.raises(RetortError, match="torch and ONNX differ"):
        Export(parity=1e-12).run(model, replace(context, name="strict"))
