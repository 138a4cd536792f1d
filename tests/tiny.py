"""A real, tiny text classifier as a model folder, made in milliseconds and without torch.

The graph is embedding lookup -> masked mean -> linear layer, so an answer depends on the words, not on the padding.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from bento.manifest import ONNX_FILE, Manifest, folder_files
from bento.task_types import Target

WORDS = ("card", "lost", "money", "transfer", "balance", "refund", "please", "help", "my", "is", "where", "##s")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
WIDTH = 8


def tiny_tokenizer() -> Tokenizer:
    """A lower-casing WordPiece tokenizer over a dozen words, with BERT's special tokens."""
    vocabulary = {token: index for index, token in enumerate((*SPECIAL, *WORDS))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return tokenizer


def tiny_graph(num_labels: int, seed: int, *, of_tokens: bool = False) -> onnx.ModelProto:
    """ids_BT, mask_BT -> logits_BC, or logits_BTC of each token, with random weights drawn from `seed`."""
    rng = np.random.default_rng(seed)
    weights = {
        "embeddings": rng.normal(size=(len(SPECIAL) + len(WORDS), WIDTH)),
        "classifier": rng.normal(size=(WIDTH, num_labels)) * 3,
    }
    initializers = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    initializers.append(numpy_helper.from_array(np.array([1], dtype=np.int64), "time_axis"))
    initializers.append(numpy_helper.from_array(np.array([2], dtype=np.int64), "width_axis"))
    nodes = [
        helper.make_node("Gather", ["embeddings", "input_ids"], ["embedded_BTW"]),
        helper.make_node("Cast", ["attention_mask"], ["mask_BT"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask_BT", "width_axis"], ["mask_BT1"]),
        helper.make_node("Mul", ["embedded_BTW", "mask_BT1"], ["kept_BTW"]),
        helper.make_node("ReduceSum", ["kept_BTW", "time_axis"], ["sum_BW"], keepdims=0),
        helper.make_node("ReduceSum", ["mask_BT", "time_axis"], ["num_tokens_B1"], keepdims=1),
        helper.make_node("Div", ["sum_BW", "num_tokens_B1"], ["mean_BW"]),
        helper.make_node("MatMul", ["mean_BW", "classifier"], ["logits"]),
    ]
    if of_tokens:
        nodes = [*nodes[:4], helper.make_node("MatMul", ["kept_BTW", "classifier"], ["logits"])]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "time"])
        for name in ("input_ids", "attention_mask")
    ]
    shape = ["batch", "time", num_labels] if of_tokens else ["batch", num_labels]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def write_tiny_model(
    folder: Path,
    *,
    labels: Sequence[str] = ("card_lost", "refund", "transfer"),
    seed: int = 0,
    name: str = "tiny",
    max_tokens: int = 16,
    pairs: bool = False,
    target: Target | None = None,
) -> Path:
    """Write a complete model folder (tokenizer, config, ONNX graph, manifest) to `folder` and return it."""
    (folder / ONNX_FILE).parent.mkdir(parents=True, exist_ok=True)
    of_tokens = target is not None and target.task == "entities"
    onnx.save(tiny_graph(len(labels), seed, of_tokens=of_tokens), folder / ONNX_FILE)
    tiny_tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]", "model_max_length": max_tokens})
    )
    (folder / "config.json").write_text(
        json.dumps(
            {"model_type": "bert", "pad_token_id": 0, "id2label": {str(i): label for i, label in enumerate(labels)}}
        )
    )
    manifest = Manifest(
        name=name, labels=tuple(labels), target=target or Target(), pairs=pairs, max_tokens=max_tokens, threads=1,
        files=folder_files(folder),
    )  # fmt: skip
    manifest.write(folder)
    return folder
