"""The model as every peer runs it; the environment variable PEER_MODEL names the folder.

The session has the settings of `bento.predictor`, so that servers are compared and not sessions.

Shapes: B batch, T tokens, C classes.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer

GRAPH_LEVELS = {
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


class Classifier:
    """Texts to labels with their probabilities, a padded batch at a time, on one thread."""

    def __init__(self) -> None:
        """Load the folder."""
        folder = Path(os.environ["PEER_MODEL"])
        manifest = json.loads((folder / "retort.json").read_text(encoding="utf-8"))
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.labels: list[str] = manifest["labels"]
        self.temperature = manifest["temperature"]
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(manifest["max_tokens"])
        self.tokenizer.enable_padding(pad_id=config.get("pad_token_id") or 0)
        options = ort.SessionOptions()
        options.graph_optimization_level = GRAPH_LEVELS[manifest["graph_level"]]
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(
            str(folder / "onnx" / "model.onnx"), options, providers=["CPUExecutionProvider"],
            disabled_optimizers=["SkipLayerNormFusion", "EmbedLayerNormFusion"],
        )  # fmt: skip
        self.inputs = [node.name for node in self.session.get_inputs()]

    def __call__(self, texts: list[str]) -> list[dict[str, Any]]:
        """One answer a text."""
        encodings = self.tokenizer.encode_batch(texts)
        tokens_BT = {
            "input_ids": np.array([encoding.ids for encoding in encodings], dtype=np.int64),
            "attention_mask": np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64),
            "token_type_ids": np.array([encoding.type_ids for encoding in encodings], dtype=np.int64),
        }
        logits_BC = self.session.run(None, {name: tokens_BT[name] for name in self.inputs})[0] / self.temperature
        odds_BC = np.exp(logits_BC - logits_BC.max(axis=1, keepdims=True))
        probabilities_BC = odds_BC / odds_BC.sum(axis=1, keepdims=True)
        best_B = probabilities_BC.argmax(axis=1)
        return [
            {"label": self.labels[best], "probability": float(row_C[best])}
            for best, row_C in zip(best_B, probabilities_BC, strict=True)
        ]
