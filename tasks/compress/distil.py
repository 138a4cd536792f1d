"""Knowledge distillation: a shallower student, started from chosen teacher layers, learns the teacher's soft answers.

Loss: `soft * T^2 * KL(teacher || student at temperature T) + (1 - soft) * cross entropy` (Hinton 2015,
arXiv:1503.02531); layers copied from the teacher as in DistilBERT (Sanh 2019, arXiv:1910.01108). The teacher's logits
are computed once and read from the store.

Shapes: N rows, B batch, C classes.
"""

import logging
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from bento.errors import UserError
from tasks.compress.context import Context
from tasks.data import read_labels, read_split
from tasks.store import Step
from tasks.training import Recipe, fit, label_targets, tokenize, write_history
from tasks.types import Artifact, Section

log = logging.getLogger("retort.distil")


class Distil(Section):
    """Train a student with some of the teacher's layers on its soft answers."""

    kind: Literal["distil"] = "distil"
    layers: list[int] = Field(default=[0, 2, 5], min_length=1)
    """Which teacher layers the student starts from, counted from 0, rising."""
    temperature: float = Field(default=2.0, gt=0, le=100)
    """Softens both answers before they are compared."""
    soft: float = Field(default=0.9, ge=0, le=1)
    """Weight of the teacher's answers; the rest is the labels'."""
    epochs: int = Field(default=8, ge=1, le=200)
    """Passes over the training split."""
    learning_rate: float = Field(default=4e-4, gt=0, lt=1)
    """Peak of the warm-up; a shallow student takes a higher rate than its teacher."""
    batch_size: int = Field(default=32, ge=1, le=4096)
    """Rows a step, on each device."""
    warmup: float = Field(default=0.1, ge=0, le=1)
    """Share of the steps over which the learning rate rises."""
    weight_decay: float = Field(default=0.01, ge=0)
    """AdamW's decay of the matrices."""
    patience: int = Field(default=4, ge=1)
    """Epochs without a better validation accuracy before training stops."""

    consumes: ClassVar[str] = "torch"
    produces: ClassVar[str] = "torch"

    def run(self, artifact: Artifact, context: Context) -> Step:
        """The student of `artifact`. Raises: UserError when a layer does not exist."""
        return context.step(self, artifact, lambda out, work: self._make(artifact.path, context, out, work))

    def _make(self, source: Path, context: Context, out: Path, work: Path) -> None:
        from transformers import AutoTokenizer

        data = context.data.path
        labels, train, validation = read_labels(data), read_split(data, "train"), read_split(data, "validation")
        tokenizer = AutoTokenizer.from_pretrained(source)
        student = take_layers(source, self.layers)
        targets = label_targets(train, labels) | {"teacher": np.load(context.teacher_logits.path / "train.npy")}
        names = ("epochs", "learning_rate", "batch_size", "warmup", "weight_decay", "patience")
        history = fit(
            student,
            tokenize(tokenizer, train.texts, max_tokens=context.max_tokens, targets=targets),
            tokenize(
                tokenizer, validation.texts, max_tokens=context.max_tokens, targets=label_targets(validation, labels)
            ),
            recipe=Recipe(**{name: getattr(self, name) for name in names}, seed=context.seed),
            pad_id=tokenizer.pad_token_id,
            loss=lambda logits_BC, batch: distillation_loss(
                logits_BC, batch["teacher"], batch["label"], temperature=self.temperature, soft=self.soft
            ),
            work=work,
            name="distil",
        )
        student.save_pretrained(out)
        tokenizer.save_pretrained(out)
        write_history(history, out)


def distillation_loss(logits_BC: Any, teacher_BC: Any, labels_B: Any, *, temperature: float, soft: float) -> Any:
    """Hinton's loss: soft targets at `temperature`, scaled by its square, mixed with the labels."""
    import torch.nn.functional as nn

    student_log = nn.log_softmax(logits_BC / temperature, dim=-1)
    teacher = nn.log_softmax(teacher_BC / temperature, dim=-1)
    divergence = nn.kl_div(student_log, teacher, reduction="batchmean", log_target=True) * temperature**2
    return soft * divergence + (1 - soft) * nn.cross_entropy(logits_BC, labels_B)


def take_layers(source: Path, layers: list[int]) -> Any:
    """A model that has only the named encoder layers of the one in `source`, weights copied. Raises: UserError."""
    import torch
    from transformers import AutoModelForSequenceClassification

    teacher = AutoModelForSequenceClassification.from_pretrained(source)
    found = _layer_list(teacher)
    if found is None:
        raise UserError(
            f"distil: expected an encoder with one list of layers, got {type(teacher).__name__}; "
            "leave distil out for this architecture"
        )
    name, stack = found
    if max(layers) >= len(stack) or min(layers) < 0 or sorted(set(layers)) != layers:
        raise UserError(
            f"distil.layers: expected rising numbers from 0 to {len(stack) - 1} (the teacher has {len(stack)} layers), "
            f"got {layers}"
        )
    parent = teacher.get_submodule(name.rpartition(".")[0])
    setattr(parent, name.rpartition(".")[2], torch.nn.ModuleList([stack[at] for at in layers]))
    for field in ("num_hidden_layers", "n_layers"):
        if field in teacher.config.to_dict():
            setattr(teacher.config, field, len(layers))
    return teacher


def _layer_list(model: Any) -> tuple[str, Any] | None:
    """Dotted name and module of the one ModuleList that is as long as the config says the encoder is deep."""
    import torch

    depth = model.config.num_hidden_layers
    found = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == depth
    ]
    return found[0] if len(found) == 1 else None
