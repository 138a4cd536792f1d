"""Any folder with a classifier of texts or tokens as something that answers: Retort's, optimum's ONNX, or torch of
transformers.

All go through `bento.predictor`, as everything that serves does: a folder that is not Retort's is first laid out as
one. Torch models are run eagerly in ONNX Runtime's place, as their users run them.
"""

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from bento.entities import Span
from bento.errors import IntegrityError, RetortError, UserError
from bento.manifest import MANIFEST_FILE, ONNX_FILE, Manifest, files_sha256, folder_files, folder_size_bytes
from bento.predictor import Predictor, Text
from bento.task_types import Floats, Target, Task
from tasks.architecture import (
    TOKEN_CLASSIFIER,
    classifies_tokens,
    load_tokenizer,
    load_weights,
    named_architectures,
    read_config,
)
from tasks.data.rows import listed
from tasks.evaluate import class_names, evaluation_batch
from tasks.positions import num_positions
from tasks.training import model_inputs

MAX_TOKENS = 8192
MIN_TOKENS = 4
MAX_TRIED_TOKENS = 2048
"""The longest text on which a model is tried when it is opened: more would take long, and much memory."""
PROBABLY = 1e-4
"""Numbers that are not negative and whose sum is this near to 1 are taken for probabilities."""
PROBLEMS: dict[str, Task] = {
    "single_label_classification": "single_label", "multi_label_classification": "multi_label", "regression": "score",
}  # fmt: skip
"""`problem_type` of transformers -> the task."""
TORCH_FILES = ("*.safetensors", "pytorch_model*.bin")
TAKEN_FIRST = (
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
)  # fmt: skip
"""What transformers takes of a folder unless told otherwise, in its order."""
ACTIVATION_KEYS = ("activation_fn", "sbert_ce_default_activation_function")
"""Where sentence-transformers keeps the name of what a cross encoder's number goes through."""


@dataclass(frozen=True, kw_only=True)
class AnyModel:
    """A model that is ready to answer."""

    path: Path
    sha256: str
    size_bytes: int
    """Of the model with its tokenizer and config."""
    classifier: Predictor
    tokenizer: Any
    """Of the `tokenizers` library."""
    batch_size: int
    """Texts a run with which it is evaluated: more than one only where that changes no answer beyond rounding."""
    pairs: bool | None
    """Whether it reads pairs of texts; None where the folder does not say."""

    @property
    def threshold(self) -> float:
        """Of label sets: from which probability on it answers a label."""
        return self.classifier.manifest.threshold


class Foreign(Predictor):
    """A model that others trained: its words are what stands between spaces, and its score is one of the data's scale.

    Taggers of tokens are trained on the words of their data, which the text column has, and are right at the first
    token of each alone; a regression answers what it was trained on, and a cross encoder with a sigmoid a share.
    """

    answers_shares = False
    """Of scores: whether the logit goes through a sigmoid."""

    def words(self, text: str) -> list[Span]:
        """Runs of anything but spaces."""
        return [found.span() for found in re.finditer(r"\S+", text)]

    def probabilities(self, logits_NC: Floats) -> Floats:
        """Shares of the scale, which may lie beyond it, of scores; those of the task of anything else."""
        if self.manifest.target.task != "score" or self.answers_shares:
            return super().probabilities(logits_NC)
        shares_NC: Floats = self.manifest.target.share(logits_NC).astype(np.float32)
        return shares_NC


class TorchSession:
    """A torch model that is run eagerly, with the methods of an ONNX Runtime session."""

    def __init__(self, model: Any, input_names: Sequence[str]) -> None:
        self.model = model
        self.input_names = list(model_inputs(model, dict.fromkeys(input_names)))

    def get_inputs(self) -> list[SimpleNamespace]:
        """What the model takes, each with its `name`."""
        return [SimpleNamespace(name=name) for name in self.input_names]

    def run(self, _outputs: None, feeds: dict[str, Any]) -> list[Any]:
        """The logits, alone in a list."""
        import torch

        with torch.inference_mode():
            found = self.model(**{name: torch.from_numpy(values) for name, values in feeds.items()})
        return [found.logits.float().numpy()]


def said_scale(path: Path) -> Target | None:
    """The scale of a Retort folder's scores; None for others, which do not say it. Raises: UserError."""
    folder, weights = _find_weights(path)
    return _manifest(folder).target if weights is None else None


def said_task(path: Path) -> Task | None:
    """What the folder says that its model answers; None where it leaves that to its user. Raises: UserError."""
    folder, weights = _find_weights(path)
    if weights is None:
        return _manifest(folder).target.task
    if classifies_tokens(folder):
        return "entities"
    config = read_config(folder)
    problem, names = str(config.get("problem_type")), config.get("id2label")
    if problem in PROBLEMS:
        return PROBLEMS[problem]
    return "score" if isinstance(names, dict) and len(names) == 1 else None  # transformers' own rule


def _manifest(folder: Path) -> Manifest:
    """Raises: UserError."""
    try:
        return Manifest.read(folder)
    except IntegrityError as error:
        raise UserError(str(error)) from error


def open_model(
    path: Path, work: Path, target: Target | None = None, texts: Sequence[Text] = ("a",), *, threshold: float = 0.5
) -> AnyModel:
    """Open the folder or weight file `path`; `work` is an empty folder that must stay while the model is used.

    `target` is that of the data, and `texts` are a few of it to try the model on; label sets of a folder that has no
    threshold of its own are answered from `threshold` on.
    Raises: UserError saying what was looked for; IntegrityError for a Retort folder that was altered.
    """
    folder, weights = _find_weights(path)
    try:
        if weights is None:
            return _opened(path, Predictor(folder), texts)
        return _open_foreign(path, folder, weights, work, target or Target(), texts, threshold)
    except RetortError:
        raise
    except Exception as error:  # the loaders of three libraries raise what they like
        raise UserError(
            f"{path} could not be loaded ({type(error).__name__}: {_first_line(error)}); "
            "expected a classifier of texts or tokens with its config and tokenizer, as `save_pretrained` writes it"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200]


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
    found = _weight_files(folder)
    if path.is_file():
        _check_named(path, folder, found)
        return folder, path
    passed_over = {folder / name for name in TAKEN_FIRST} - {_taken(folder)}
    found = [one for one in found if one not in passed_over]
    if len(found) != 1:
        names = ", ".join(str(one.relative_to(folder)) for one in found) or "none"
        raise UserError(f"{path}: expected the weights of one model, got {names}; name one of the files as the model")
    return folder, found[0]


def _taken(folder: Path) -> Path | None:
    """What transformers takes of a folder: many have the same weights in an older format beside it."""
    return next((folder / name for name in TAKEN_FIRST if (folder / name).is_file()), None)


def _weight_files(folder: Path) -> list[Path]:
    """The files of a folder that each hold a model's weights, or say in which parts these are."""
    indexes = [one for pattern in TORCH_FILES for one in folder.glob(f"{pattern}.index.json")]
    parts = {folder / name for one in indexes for name in _weight_map(one).values()}
    whole = [one for pattern in TORCH_FILES for one in folder.glob(pattern)]
    return [*sorted({*indexes, *whole} - parts), *sorted(folder.glob("*.onnx")), *sorted(folder.glob("onnx/*.onnx"))]


def _weight_map(index: Path) -> dict[str, str]:
    """Weight -> the file that has it. Raises: UserError."""
    try:
        found = dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
        return {name: str(file) for name, file in found.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{index}: expected an index of weights with a weight_map, got another file") from error


def _check_named(path: Path, folder: Path, found: Sequence[Path]) -> None:
    """Raises: UserError for a file whose weights would not be those that are judged."""
    if path not in found:
        names = ", ".join(str(one.relative_to(folder)) for one in found) or "none"
        raise UserError(
            f"{path}: expected a file with the weights of a whole model, ONNX or safetensors, got another one; this "
            f"folder's are {names}: name one of these"
        )
    if not _in_pickle(path):
        return
    taken = _taken(folder)
    if path != taken:
        name = taken.name if taken else "none"
        raise UserError(
            f"{path}: expected weights that transformers takes, got a file in whose place it takes {name}; "
            "put this one alone into a folder, with config and tokenizer, as pytorch_model.bin, or save it as "
            "safetensors"
        )


def _in_pickle(weights: Path) -> bool:
    return weights.name.endswith((".bin", ".bin.index.json"))


def _open_foreign(
    path: Path, folder: Path, weights: Path, work: Path, target: Target, texts: Sequence[Text], threshold: float
) -> AnyModel:
    from transformers import AutoConfig

    config, tokenizer = AutoConfig.from_pretrained(folder), load_tokenizer(folder)
    in_onnx = weights.suffix == ".onnx"
    model = None if in_onnx else _load_torch(folder, weights, target.task)
    session = None if model is None else TorchSession(model, tokenizer.model_input_names)
    manifest = Manifest(
        name=folder.name,
        labels=_labels(folder, config, target.task),
        target=target,
        threshold=threshold,
        max_tokens=_max_tokens(config, tokenizer, model),
        threads=1,
        files={},
    )
    predictor = Foreign(_lay_out(folder, weights if in_onnx else None, work, manifest, tokenizer), session=session)
    predictor.answers_shares = _has_sigmoid(folder)
    opened = _opened(path, predictor, texts)
    _try_longest(path, predictor)
    if in_onnx:
        return opened
    files = _own_files(folder, weights)
    return AnyModel(
        path=folder,
        sha256=files_sha256(files),
        size_bytes=sum((folder / name).stat().st_size for name in files),
        classifier=opened.classifier,
        tokenizer=opened.tokenizer,
        batch_size=32,
        pairs=None,
    )


def _own_files(folder: Path, weights: Path) -> dict[str, str]:
    """The folder's files with their digests, without other models' weights."""
    others = {one for one in _weight_files(folder) if one != weights}
    others |= {folder / name for one in others if one.suffix == ".json" for name in _weight_map(one).values()}
    return {name: digest for name, digest in folder_files(folder).items() if folder / name not in others}


def _labels(folder: Path, config: Any, task: Task) -> tuple[str, ...]:
    """The outputs' names. Raises: UserError for tags that are not BIO."""
    names = class_names(config)
    wrong = [name for name in names if not re.fullmatch("O|[BI]-.+", name)]
    if task == "entities" and wrong:
        raise UserError(
            f"{folder}: expected tags O, B-type or I-type as the id2label of config.json, got {listed(wrong)}; give "
            "the model's outputs their names, or take a model that is trained on BIO tags"
        )
    return names


def _has_sigmoid(folder: Path) -> bool:
    """Whether the score is said to go through a sigmoid, so that it is a share of its scale."""
    config = read_config(folder)
    said = config | (config.get("sentence_transformers") or {})
    return any(str(said.get(key)).endswith("Sigmoid") for key in ACTIVATION_KEYS)


def _opened(path: Path, predictor: Predictor, texts: Sequence[Text]) -> AnyModel:
    """Raises: UserError where the graph does not give logits, one for each class."""
    found: list[Any] = [predictor.session.run(None, predictor.feeds(predictor.tokenize([text])))[0] for text in texts]
    _check_shape(path, predictor, found[0].shape)
    known = not isinstance(predictor, Foreign)
    if not known:
        of_graph = not isinstance(predictor.session, TorchSession)
        _check_logits(path, predictor.manifest.target.task, found, of_graph=of_graph)
    return AnyModel(
        path=path,
        sha256=predictor.sha256,
        size_bytes=folder_size_bytes(predictor.folder),
        classifier=predictor,
        tokenizer=predictor.tokenizer,
        batch_size=evaluation_batch(predictor.manifest) if known else 1,
        pairs=predictor.manifest.pairs if known else None,
    )


def _check_shape(path: Path, predictor: Predictor, shape: tuple[int, ...]) -> None:
    """Raises: UserError."""
    num, of_tokens = len(predictor.labels), predictor.manifest.target.task == "entities"
    if len(shape) != (3 if of_tokens else 2) or (shape[0], shape[-1]) != (1, num):
        what = "token, one for each tag" if of_tokens else "text, one for each class"
        raise UserError(
            f"{path}: expected the graph's first output to hold {num} logits a {what} of config.json, got shape "
            f"{shape}; export it for {'token' if of_tokens else 'text'} classification, or set data.task to what it is"
        )


def _check_logits(path: Path, task: Task, found: Sequence[Any], *, of_graph: bool) -> None:
    """Raises: UserError where every answer is one that a softmax, or a sigmoid, gives.

    A torch head gives logits, of one class a text too, however small they are.
    """
    if task == "score":
        return
    least = min(float(logits.min()) for logits in found)
    most = max(float(logits.max()) for logits in found)
    off = max(float(np.abs(logits.sum(axis=-1) - 1).max()) for logits in found)
    if least >= 0 and (most <= 1 if task == "multi_label" else off < PROBABLY):
        last = "sigmoid" if task == "multi_label" else "softmax"
        raise UserError(f"{path}: expected logits of the graph, got probabilities; export it without its {last}")
    if of_graph and least >= 0 and most <= 1:
        sums = np.concatenate([logits.sum(axis=-1).ravel() for logits in found])
        raise UserError(
            f"{path}: expected logits of the graph, got numbers between 0 and 1 that sum to {sums.min():.3g} to "
            f"{sums.max():.3g} where a softmax sums to 1, as after a sigmoid; export it without its sigmoid"
        )


def _try_longest(path: Path, predictor: Predictor) -> None:
    """Raises: UserError for a model that cannot read a text as long as is said of it."""
    encoding = predictor.tokenizer.encode("a " * predictor.manifest.max_tokens)
    encoding.truncate(min(predictor.manifest.max_tokens, MAX_TRIED_TOKENS))
    try:
        predictor.session.run(None, predictor.feeds([encoding]))
    except Exception as error:
        raise UserError(
            f"{path}: expected a model that reads texts of {predictor.manifest.max_tokens:,} tokens, as its config and "
            f"tokenizer say, got an error for one of {len(encoding.ids):,} ({_first_line(error)}); set "
            "model_max_length in tokenizer_config.json to what it reads"
        ) from error


def _lay_out(folder: Path, weights: Path | None, work: Path, manifest: Manifest, tokenizer: Any) -> Path:
    """A Retort model folder of an ONNX file and what lies around it; of a torch model without its weights."""
    out = work / "model"
    (out / ONNX_FILE).parent.mkdir(parents=True)
    shutil.copyfile(folder / "config.json", out / "config.json")
    tokenizer.save_pretrained(out)
    beside = () if weights is None else weights.parent.glob(f"{weights.name}*")
    for file in beside:  # weights beyond 2 GB lie in files beside the graph
        shutil.copyfile(file, out / ONNX_FILE if file == weights else (out / ONNX_FILE).parent / file.name)
    manifest.model_copy(update={"files": folder_files(out)}).write(out)
    return out


def _load_torch(folder: Path, weights: Path, task: Task) -> Any:
    """Raises: UserError for a folder without a head of the task, or weights without those of a part."""
    architectures = named_architectures(folder)
    wanted = TOKEN_CLASSIFIER if task == "entities" else "ForSequenceClassification"
    if not any(wanted in name for name in architectures):
        raise UserError(
            f"{folder}: expected a model for {'token' if task == 'entities' else 'sequence'} classification, as "
            f"data.task is {task}; config.json has architectures {architectures}, and transformers would give it a "
            "classifier of random weights"
        )
    model, missing = load_weights(folder, None if _in_pickle(weights) else weights.relative_to(folder).as_posix())
    if missing:
        raise UserError(
            f"{weights}: expected the weights of the whole {type(model).__name__}, got none of {listed(missing)}, "
            "which transformers would draw by chance; take the weights of a model that was trained for this"
        )
    return model


def _max_tokens(config: Any, tokenizer: Any, model: Any | None) -> int:
    """At most what both tokenizer and position embeddings take; some say that they take anything."""
    said = getattr(config, "max_position_embeddings", None) or MAX_TOKENS
    positions = said if model is None else num_positions(model) or said
    return max(MIN_TOKENS, min(int(tokenizer.model_max_length), int(positions), MAX_TOKENS))
