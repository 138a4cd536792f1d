"""Export: torch to ONNX through optimum, attention and GELU fused, and a parity check on real sentences."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from bento.errors import RetortError
from bento.manifest import MANIFEST_FILE, ONNX_FILE, Manifest, folder_files
from bento.predictor import Predictor
from tasks.architecture import (
    PARTED_MODEL_TYPES,
    Architecture,
    classifies_tokens,
    load_classifier,
    read_config,
    reads_every_token,
)
from tasks.batches import collate, tokenize
from tasks.compress.context import Context
from tasks.data import read_labels, read_split, read_target
from tasks.first_query import ask_for_first_token
from tasks.first_token import select_first_token_early
from tasks.lookups import simplify_lookups
from tasks.store import Step
from tasks.structure import trim_neurons
from tasks.training import forward
from tasks.types import Artifact, Section

log = logging.getLogger("retort.export")

FUSED_MODEL_TYPES = {
    "bert": "bert", "roberta": "bert", "xlm-roberta": "bert", "distilbert": "bert", "electra": "bert",
    "linformer": "bert",
}  # fmt: skip
"""`config.model_type` -> the fusion rules of ONNX Runtime's transformer optimizer that know it."""
OWN_MODEL_TYPES = {"linformer": "bert"}
"""Those that `transformers` does not have -> the type whose inputs and labels they share: what the exporter takes them
for, and what the ONNX folder's config says, since tools that run the graph read no more of it. The optimizer has no
fused operator for their attention."""
NUM_PARITY_TEXTS = 64
KEPT_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")


class Export(Section):
    """Turn the torch model into a fused ONNX model folder."""

    kind: Literal["export"] = "export"
    fuse: bool = True
    """Fuse attention and GELU where the architecture is known."""
    threads: int = Field(default=1, ge=1, le=256)
    """ONNX Runtime threads of one request, written into the manifest. More answer one sentence a little sooner, but
    their spinning takes the cores from the service's event loop."""
    parity: float = Field(default=1e-3, gt=0)
    """Largest difference of a logit between torch and ONNX on validation sentences, relative to their spread."""

    consumes: ClassVar[str] = "torch"
    produces: ClassVar[str] = "onnx"

    def check(self, shape: Architecture) -> Architecture:
        """Nothing that an encoder with a fast tokenizer could lack."""
        return shape

    def run(self, artifact: Artifact, context: Context) -> Step:
        """The ONNX folder of `artifact`. Raises: RetortError when the two do not agree."""
        return context.step(self, artifact, lambda out, work: self._make(artifact, context, out, work))

    def _make(self, artifact: Artifact, context: Context, out: Path, work: Path) -> None:
        texts = read_split(context.data.path, "validation").texts[:NUM_PARITY_TEXTS]
        pairs = not isinstance(texts[0], str)
        raw = work / "raw"
        shutil.rmtree(raw, ignore_errors=True)
        write_graph(artifact.path, raw)
        (out / "onnx").mkdir()
        fused = {}
        if self.fuse:
            fused = fuse(raw / "model.onnx", artifact.path, out / ONNX_FILE, pairs=pairs)
        else:
            shutil.copyfile(raw / "model.onnx", out / ONNX_FILE)
        _write_config(artifact.path, out)
        for name in KEPT_FILES:
            if (artifact.path / name).is_file():
                shutil.copyfile(artifact.path / name, out / name)
        _limit_tokens(out, context.max_tokens)
        lineage = {"torch": artifact.sha256, "teacher": context.teacher.sha256, "data": context.data.sha256}
        Manifest(
            name=context.name,
            labels=read_labels(context.data.path),
            target=read_target(context.data.path),
            pairs=pairs,
            max_tokens=context.max_tokens,
            threads=self.threads,
            files={path: digest for path, digest in folder_files(out).items() if path != MANIFEST_FILE},
            lineage=lineage | {"fused": fused},
        ).write(out)
        check_parity(artifact.path, out, list(texts), limit=self.parity)


def _write_config(source: Path, out: Path) -> None:
    """Labels and padding for tools that read no manifest, under a `model_type` that they know."""
    config = read_config(source)
    if config["model_type"] not in OWN_MODEL_TYPES:
        shutil.copyfile(source / "config.json", out / "config.json")
        return
    config["model_type"] = OWN_MODEL_TYPES[config["model_type"]]
    (out / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _limit_tokens(folder: Path, max_tokens: int) -> None:
    """Let tools that read no manifest truncate where it does: they go by the tokenizer's own limit."""
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | {"model_max_length": max_tokens}
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_graph(source: Path, out: Path) -> None:
    """Plain ONNX of a classifier of texts or tokens as `out/model.onnx`, without optimum's own checks, which the parity
    check replaces."""
    import warnings

    from optimum.exporters.onnx import main_export, onnx_export_from_model

    trimmed = _trimmed(source)
    task = "token-classification" if classifies_tokens(source) else "text-classification"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns of each shape-dependent branch
        if read_config(source)["model_type"] in OWN_MODEL_TYPES:
            _write_own_graph(source, out)
            return
        if trimmed is not None:
            onnx_export_from_model(trimmed, output=out, task=task, do_validation=False)
            return
        main_export(str(source), output=out, task=task, do_validation=False, library_name="transformers")


def _trimmed(source: Path) -> Any:
    """The model of `source` without the neurons that structured pruning left as zeros; None where there are none."""
    if read_config(source)["model_type"] not in PARTED_MODEL_TYPES:
        return None
    model = load_classifier(source)
    num_cut = trim_neurons(model)
    if num_cut:
        log.info("cut %d feed-forward neurons that no output reads", num_cut)
    return model if num_cut else None


def _write_own_graph(source: Path, out: Path) -> None:
    from optimum.exporters.onnx import export
    from optimum.exporters.onnx.model_configs import BertOnnxConfig

    model = load_classifier(source)
    out.mkdir(parents=True, exist_ok=True)
    export(model, BertOnnxConfig(model.config, task="text-classification"), out / "model.onnx")


def fuse(model: Path, source: Path, out: Path, *, pairs: bool = True) -> dict[str, int]:
    """Write the fused model and return how many operators were fused, of each kind.

    Attention and GELU are fused; normalisations are not, for the reason that `bento.predictor.SLOW_FUSIONS` gives. The
    last layer then computes no more than the head of a text reads, `first token early` counts the nodes that it saves
    work, and asks of attention no more (`first query alone`). A head of tokens reads all. `lookups left out` counts
    the nodes of the embeddings that no text needs; without `pairs` the graph has no input for the tokens' types.
    """
    import onnx
    from onnxruntime.transformers.onnx_model import OnnxModel

    config = read_config(source)
    rules = FUSED_MODEL_TYPES.get(config["model_type"])
    if rules is None:
        log.warning("no fusion rules for %s: the model stays unfused, and slower", config["model_type"])
        graph, counts = onnx.load(model), dict[str, int]()
    else:
        graph, counts = _optimize(model, config, rules)
    if not classifies_tokens(source):
        counts["first token early"] = select_first_token_early(graph)
        counts["first query alone"] = ask_for_first_token(graph)
    counts["lookups left out"] = simplify_lookups(graph, pairs=pairs)
    OnnxModel.save(graph, str(out))  # which declares the domain of the fused operators
    return counts


def _optimize(model: Path, config: dict[str, Any], rules: str) -> tuple[Any, dict[str, int]]:
    """The graph after ONNX Runtime's transformer optimizer, and what it fused."""
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    uneven = bool(config.get("pruned_heads"))  # then 0 lets the optimizer read each layer's own from the graph
    heads = 0 if uneven else config.get("num_attention_heads") or config.get("n_heads")
    hidden = 0 if uneven else config.get("hidden_size") or config.get("dim")
    options = FusionOptions(rules)
    options.enable_skip_layer_norm = options.enable_bias_skip_layer_norm = options.enable_embed_layer_norm = False
    options.enable_attention = config["model_type"] not in OWN_MODEL_TYPES
    # It warns of heads that do not fill the width, and fuses them all the same: they are counted below.
    logging.getLogger("fusion_attention").setLevel(logging.ERROR)
    optimized = optimizer.optimize_model(
        str(model), rules, num_heads=heads, hidden_size=hidden, optimization_options=options, opt_level=0
    )
    counts = {name: int(count) for name, count in optimized.get_fused_operator_statistics().items() if count}
    layers = config.get("num_hidden_layers") or config.get("n_layers")
    if options.enable_attention and counts.get("Attention", 0) != layers:
        log.warning("fused %d of %d attention layers", counts.get("Attention", 0), layers)
    optimized.topological_sort()
    return optimized.model, counts


def check_parity(torch_folder: Path, onnx_folder: Path, texts: list[Any], *, limit: float) -> float:
    """Largest logit difference between torch (float32) and ONNX, relative to the logits' spread.

    Raises: RetortError above `limit`.
    """
    import torch
    from transformers import AutoTokenizer

    predictor = Predictor(onnx_folder)
    tokenizer, model = AutoTokenizer.from_pretrained(torch_folder), load_classifier(torch_folder)
    max_tokens, words = predictor.manifest.max_tokens, reads_every_token(model)
    rows = tokenize(tokenizer, texts, max_tokens=max_tokens, words=words)
    with torch.inference_mode():
        expected_NC = forward(model, collate(rows, range(len(texts)), tokenizer.pad_token_id)).numpy()
    known_NC = np.isfinite(expected_NC)
    apart_M = np.abs(predictor.predict_logits(texts) - expected_NC)[known_NC]
    difference = float(apart_M.max() / expected_NC[known_NC].std())
    if not difference <= limit:
        raise RetortError(
            f"export: torch and ONNX differ by {difference:.2g} of the logits' spread on {len(texts)} validation "
            f"sentences, allowed is {limit:.2g}; set export.fuse to false, and report the architecture"
        )
    return difference
