"""Any folder with a text classifier as something that answers: Retort's, optimum's ONNX, or torch of transformers.

ONNX models go through `bento.predictor`, as everything that serves does: a folder that is not Retort's is first laid
out as one. Torch models are run eagerly, as their users run them.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bento.errors import UserError
from bento.manifest import MANIFEST_FILE, ONNX_FILE, Manifest, folder_files, folder_sha256, folder_size_bytes
from bento.predictor import Predictor
from tasks.evaluate import Classifier, Eager, class_names, evaluation_batch
from tasks.task_types import SingleLabel

MAX_TOKENS = 8192
MIN_TOKENS = 4
PROBABLY = 1e-4
"""Numbers that are not negative and whose sum is this near to 1 are taken for probabilities."""


@dataclass(frozen=True, kw_only=True)
class AnyModel:
    """A model that is ready to answer."""

    path: Path
    sha256: str
    size_bytes: int
    """Of the model with its tokenizer and config."""
    classifier: Classifier
    tokenizer: Any
    """Of the `tokenizers` library."""
    batch_size: int
    """Texts a run with which it is evaluated: more than one only where that changes no answer beyond rounding."""
    pairs: bool | None
    """Whether it reads pairs of texts; None where the folder does not say."""


def open_model(path: Path, work: Path) -> AnyModel:
    """Open the folder or weight file `path`; `work` is an empty folder that must stay while the model is used.

    Raises: UserError saying what was looked for; IntegrityError for a Retort folder that was altered.
    """
    folder, weights = _find_weights(path)
    if weights is None:
        return _opened(path, folder, Predictor(folder))
    try:
        if weights.suffix == ".onnx":
            return _opened(path, folder, Predictor(_lay_out(folder, weights, work)))
        return _open_torch(folder)
    except UserError:
        raise
    except Exception as error:  # the loaders of three libraries raise what they like
        raise UserError(
            f"{path} could not be loaded ({type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}); "
            "expected a text classifier with its config and tokenizer, as `save_pretrained` writes it"
        ) from error


def _find_weights(path: Path) -> tuple[Path, Path | None]:
    """The folder with config.json, and its weights; None for a Retort folder. Raises: UserError."""
    if not path.exists():
        raise UserError(f"{path}: expected a model folder, but there is no such file or folder")
    folder = path if path.is_dir() else path.parent
    if path.is_dir() and (folder / MANIFEST_FILE).is_file():
        return folder, None
    if not (folder / "config.json").is_file() and folder.name == "onnx":
        folder = folder.parent
    if not (folder / "config.json").is_file():
        raise UserError(
            f"{path}: expected a folder with {MANIFEST_FILE} (Retort's), or with config.json, a tokenizer, and ONNX or "
            "torch weights; there is no config.json"
        )
    if path.is_file():
        return folder, path
    torch = sorted([*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")])[:1]
    found = [*torch, *sorted(folder.glob("*.onnx")), *sorted(folder.glob("onnx/*.onnx"))]
    if len(found) != 1:
        names = ", ".join(str(one.relative_to(folder)) for one in found) or "none"
        raise UserError(f"{path}: expected the weights of one model, got {names}; name one of the files as the model")
    return folder, found[0]


def _opened(path: Path, folder: Path, predictor: Predictor) -> AnyModel:
    """Raises: UserError where the graph does not give one number a class."""
    if predictor.manifest.target.task != "single_label":
        raise UserError(f"{path}: expected a model of one class a text, got {predictor.manifest.target.task}")
    texts: list[Any] = [("a", "a")] if predictor.manifest.pairs else ["a"]
    logits_1C = predictor.predict_logits(texts)
    shape = logits_1C.shape
    if shape != (1, len(predictor.labels)):
        raise UserError(
            f"{path}: expected the graph's first output to hold {len(predictor.labels)} logits a text, one for each "
            f"class of config.json, got shape {shape}; export it for text classification"
        )
    if (logits_1C >= 0).all() and abs(float(logits_1C.sum()) - 1) < PROBABLY:
        raise UserError(f"{path}: expected logits of the graph, got probabilities; export it without its softmax")
    known = (folder / MANIFEST_FILE).is_file()
    return AnyModel(
        path=path,
        sha256=predictor.sha256,
        size_bytes=folder_size_bytes(predictor.folder),
        classifier=predictor,
        tokenizer=predictor.tokenizer,
        batch_size=evaluation_batch(predictor.manifest) if known else 1,
        pairs=predictor.manifest.pairs if known else None,
    )


def _lay_out(folder: Path, weights: Path, work: Path) -> Path:
    """A Retort model folder of an ONNX file and what lies around it."""
    from transformers import AutoConfig, AutoTokenizer

    config = AutoConfig.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    out = work / "model"
    (out / ONNX_FILE).parent.mkdir(parents=True)
    shutil.copyfile(folder / "config.json", out / "config.json")
    tokenizer.save_pretrained(out)
    shutil.copyfile(weights, out / ONNX_FILE)
    for more in weights.parent.glob(f"{weights.name}*"):  # weights beyond 2 GB lie in files beside the graph
        if more != weights:
            shutil.copyfile(more, (out / ONNX_FILE).parent / more.name)
    manifest = Manifest(
        name=folder.name,
        labels=class_names(config),
        max_tokens=_max_tokens(config, tokenizer),
        threads=1,
        files=folder_files(out),
    )
    manifest.write(out)
    return out


def _open_torch(folder: Path) -> AnyModel:
    architectures = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("architectures") or []
    if not any("SequenceClassification" in name for name in architectures):
        raise UserError(
            f"{folder}: expected a model for sequence classification, config.json has architectures {architectures}; "
            "transformers would give it a classifier of random weights"
        )
    problem = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("problem_type")
    if problem not in (None, SingleLabel.problem_type):
        raise UserError(f"{folder}: expected a model of one class a text, config.json has problem_type {problem}")
    eager = Eager(folder, MAX_TOKENS)
    eager.max_tokens = _max_tokens(eager.model.config, eager.tokenizer)
    return AnyModel(
        path=folder,
        sha256=folder_sha256(folder),
        size_bytes=folder_size_bytes(folder),
        classifier=eager,
        tokenizer=eager.tokenizer.backend_tokenizer,
        batch_size=32,
        pairs=None,
    )


def _max_tokens(config: Any, tokenizer: Any) -> int:
    """At most what both tokenizer and position embeddings take; some say that they take anything."""
    positions = getattr(config, "max_position_embeddings", None) or MAX_TOKENS
    return max(MIN_TOKENS, min(int(tokenizer.model_max_length), int(positions), MAX_TOKENS))
