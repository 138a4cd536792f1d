"""The parts of an encoder by their roles, whatever its authors named them, and what techniques can ask of it.

Sources of the names: `transformers` models of the BERT, RoBERTa, ELECTRA, DistilBERT and MPNet families.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bento.errors import UserError

Part = Literal["query", "key", "value", "attention_output", "feed_forward_in", "feed_forward_out"]

PART_NAMES: dict[Part, tuple[str, ...]] = {
    "query": ("attention.self.query", "attention.q_lin", "attention.attn.q"),
    "key": ("attention.self.key", "attention.k_lin", "attention.attn.k"),
    "value": ("attention.self.value", "attention.v_lin", "attention.attn.v"),
    "attention_output": ("attention.output.dense", "attention.out_lin", "attention.attn.o"),
    "feed_forward_in": ("intermediate.dense", "ffn.lin1"),
    "feed_forward_out": ("output.dense", "ffn.lin2"),
}
"""Role -> dotted names below one encoder layer."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The sizes that techniques check before any compute, read from `config.json`."""

    model_type: str
    num_layers: int
    num_heads: int
    """Heads of each layer that are left."""
    head_size: int
    hidden_size: int
    intermediate_size: int
    max_positions: int
    """Tokens of the longest input."""
    tokenizer: str
    """Kind of the fast tokenizer: WordPiece, BPE, Unigram or WordLevel."""
    known_parts: bool
    """Whether the names of its layers' parts are known here."""
    teacher_hidden_size: int
    """The hidden size of the teacher that it was made from."""
    searched: frozenset[str] = frozenset()
    """Which of heads, neurons and layers were chosen by a search, so that the sizes here are only the largest."""

    @property
    def query_size(self) -> int:
        """Dimensions of a layer's heads together."""
        return self.num_heads * self.head_size

    @property
    def lost_heads(self) -> bool:
        """Whether layers may have fewer heads than fit the hidden size."""
        return "heads" in self.searched or self.query_size < self.hidden_size


def read_architecture(config: Any, tokenizer: Any) -> Architecture:
    """Of a `transformers` config and fast tokenizer. Raises: UserError for sizes that no encoder has."""

    def first(*names: str) -> int:
        return next((int(value) for name in names if isinstance(value := getattr(config, name, None), int)), 0)

    kind = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["type"]
    num_heads, hidden_size = first("num_attention_heads", "n_heads"), first("hidden_size", "dim")
    if not 0 < num_heads <= hidden_size:
        raise UserError(
            "config.json: expected hidden_size and num_attention_heads of an encoder, got "
            f"{hidden_size} and {num_heads}; take the config that the model was saved with"
        )
    num_reserved = config.pad_token_id + 1 if config.model_type in POSITIONS_BEHIND_PADDING else 0
    return Architecture(
        model_type=config.model_type,
        num_layers=first("num_hidden_layers", "n_layers"),
        num_heads=num_heads,
        head_size=hidden_size // num_heads,
        hidden_size=hidden_size,
        intermediate_size=first("intermediate_size", "hidden_dim"),
        max_positions=first("max_position_embeddings") - num_reserved,
        tokenizer=kind,
        known_parts=config.model_type in PARTED_MODEL_TYPES,
        teacher_hidden_size=hidden_size,
    )


PARTED_MODEL_TYPES = ("bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert", "mpnet")
"""Families whose parts PART_NAMES knows."""
SHARED_LAYERS = ("albert",)
"""Families whose layers are one and the same, so that none can be taken apart from the others."""
MODEL_TYPES = (
    *PARTED_MODEL_TYPES, *SHARED_LAYERS, "big_bird", "convbert", "data2vec-text", "deberta", "deberta-v2", "ibert",
    "longformer", "megatron-bert", "mobilebert", "modernbert", "nystromformer", "rembert", "roformer", "squeezebert",
)  # fmt: skip
"""Families that can be teachers: encoders of text that `transformers` gives a head of classes and optimum exports."""
POSITIONS_BEHIND_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet", "data2vec-text", "ibert", "longformer")
"""Families whose first positions, up to the padding's number, are no token's."""


def require_encoder(model_type: str, key: str) -> None:
    """Raises: UserError naming the families that can be teachers."""
    if model_type not in MODEL_TYPES:
        raise UserError(
            f"{key}.model: expected an encoder of text of one of {', '.join(MODEL_TYPES)}, got {model_type!r}; take a "
            "model of one of these"
        )


def require_layers(shape: Architecture, technique: str) -> None:
    """Raises: UserError naming the families whose layers are apart."""
    if shape.model_type in SHARED_LAYERS:
        raise UserError(
            f"{technique}: expected an encoder with layers of their own, as of {', '.join(PARTED_MODEL_TYPES)}, got "
            f"{shape.model_type!r}, whose layers share their weights; take a teacher of one of these, or leave "
            f"{technique} out of compress"
        )


def require_parts(shape: Architecture, technique: str) -> None:
    """Raises: UserError naming the families that `technique` can take apart."""
    if not shape.known_parts:
        raise UserError(
            f"{technique}: expected an encoder of one of {', '.join(PARTED_MODEL_TYPES)}, got {shape.model_type!r}; "
            f"take a teacher of one of these, or leave {technique} out of compress"
        )


HEADS_STAY = ("mpnet",)
"""Families whose attention adds a bias to every head that `transformers` does not prune with it."""


def require_head_pruning(shape: Architecture, technique: str, remedy: str) -> None:
    """Raises: UserError naming the families that `technique` can take heads from, and the remedy."""
    if shape.model_type in HEADS_STAY:
        able = ", ".join(name for name in PARTED_MODEL_TYPES if name not in HEADS_STAY)
        raise UserError(
            f"{technique}: expected an encoder of one of {able} to take heads from, got {shape.model_type!r}; {remedy}"
        )


def read_config(folder: Path) -> dict[str, Any]:
    """What `config.json` of a folder says. Raises: UserError for a file that is none."""
    path = folder / "config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected JSON, got: {error}; {CONFIG_REMEDY}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path}: expected a JSON object, got {type(found).__name__}; {CONFIG_REMEDY}")
    return found


CONFIG_REMEDY = "put the config.json there that the model was saved with"


def named_architectures(folder: Path) -> list[str]:
    """The types of the model, as `config.json` names them. Raises: UserError."""
    names = read_config(folder).get("architectures") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(
            f"{folder / 'config.json'}: expected a list of names as architectures, got {names!r}; {CONFIG_REMEDY}"
        )
    return names


def load_tokenizer(source: str | Path, revision: str | None = None) -> Any:
    """The tokenizer of a folder or hub id, a fast one where there is one. Raises: UserError for a folder without any,
    which `transformers` tells by what it stumbles over."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(source, revision=revision)
    except Exception as error:
        folder = Path(source)
        if not folder.is_dir() or any(any(folder.glob(pattern)) for pattern in VOCABULARY_FILES):
            raise
        raise UserError(
            f"{folder}: expected a tokenizer beside config.json (tokenizer.json, or a vocabulary such as vocab.txt), "
            "got none; save the model's tokenizer there with `save_pretrained`"
        ) from error


VOCABULARY_FILES = ("tokenizer.json", "vocab.*", "*.model")
"""Of which every tokenizer has one."""


def load_classifier(folder: Path) -> Any:
    """The classifier of texts or tokens of a torch folder, in evaluation mode, whether `transformers` has its type or
    we do."""
    return _classifier_type(folder).from_pretrained(folder).eval()


def load_weights(folder: Path, safetensors: str | None) -> tuple[Any, list[str]]:
    """The same, and the names of the weights that were not there.

    `safetensors` is a file of the folder, or an index; None takes the pickle, of which no code is run.
    """
    from transformers import AutoConfig

    kind, config = _classifier_type(folder), AutoConfig.from_pretrained(folder)
    config.transformers_weights = safetensors
    model, found = kind.from_pretrained(folder, config=config, output_loading_info=True, weights_only=True)
    return model.eval(), sorted(found["missing_keys"])


def _classifier_type(folder: Path) -> Any:
    from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

    from tasks.linformer_model import register

    register()
    return AutoModelForTokenClassification if classifies_tokens(folder) else AutoModelForSequenceClassification


def classifies_tokens(folder: Path) -> bool:
    """Whether the model of this torch folder answers for each token. Raises: UserError."""
    return any(name.endswith(TOKEN_CLASSIFIER) for name in named_architectures(folder))


def reads_every_token(model: Any) -> bool:
    """Whether the head of this torch model answers for each token, not for the text."""
    return type(model).__name__.endswith(TOKEN_CLASSIFIER)


TOKEN_CLASSIFIER = "ForTokenClassification"  # noqa: S105 - no password
"""How `transformers` ends the name of a model that answers for each token."""


def layer_list(model: Any) -> tuple[str, Any]:
    """Dotted name and module of the one ModuleList that is as long as the config says the encoder is deep.

    Raises: UserError where there is none, as with layers that share their weights.
    """
    import torch

    found = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == model.config.num_hidden_layers
    ]
    if len(found) != 1:
        raise UserError(
            f"expected an encoder with one list of layers, got {type(model).__name__}; "
            "leave distil and structured pruning out for this architecture"
        )
    return found[0]


def part(layer: Any, role: Part) -> Any:
    """The linear module of one encoder layer that plays `role`. Raises: UserError."""
    modules = dict(layer.named_modules())
    for name in PART_NAMES[role]:
        if name in modules:
            return modules[name]
    raise UserError(f"expected one of {', '.join(PART_NAMES[role])} in {type(layer).__name__}, got none of them")


def set_layers(model: Any, kept: list[int]) -> None:
    """Keep only the encoder layers `kept`, in that order, and say so in the config."""
    import torch

    name, stack = layer_list(model)
    parent = model.get_submodule(name.rpartition(".")[0])
    setattr(parent, name.rpartition(".")[2], torch.nn.ModuleList([stack[at] for at in kept]))
    for field in ("num_hidden_layers", "n_layers"):
        if field in model.config.to_dict():
            setattr(model.config, field, len(kept))
    pruned = getattr(model.config, "pruned_heads", None) or {}
    model.config.pruned_heads = {new: pruned[old] for new, old in enumerate(kept) if old in pruned}
