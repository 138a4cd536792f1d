"""Knowledge distillation: a shallower, perhaps narrower student, started from the teacher's weights, learns from it.

Layers are copied from the teacher as in DistilBERT (Sanh 2019, arXiv:1910.01108); what is learnt from the teacher, and
from which text, is said in `tasks/distillation.py` (Hinton 2015, TinyBERT, MiniLMv2) and `tasks/transfer.py`.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from bento.errors import UserError
from tasks.architecture import Architecture, load_classifier, require_head_pruning, require_layers, require_parts
from tasks.batches import Rows, tokenize
from tasks.compress.context import Context
from tasks.cut_losses import first_rows
from tasks.data import read_split
from tasks.distillation import Training, check_training, distil_into, spread
from tasks.positions import cut_positions
from tasks.store import Step, run_step
from tasks.structure import keep_heads
from tasks.students import NUM_PROBE_ROWS, check_layers, check_widths, keep_layers, narrow, search_layers, use_relu
from tasks.training import write_history
from tasks.transfer import TransferConfig
from tasks.types import Artifact


class Distil(Training):
    """Train a student with some of the teacher's layers, and perhaps narrower ones, on what the teacher knows."""

    kind: Literal["distil"] = "distil"
    layers: list[int] | Literal["spread", "top", "searched"] = "spread"
    """Which teacher layers the student starts from: numbers from 0, rising; evenly spread; the last ones; or those
    whose output explains the teacher's answers best before any training."""
    num_layers: int | None = Field(default=None, ge=1)
    """How many layers, where `layers` is a word; half of the teacher's by default."""
    hidden_size: int | None = Field(default=None, ge=8)
    """Width of the student where it is narrower; a multiple of the teacher's head size."""
    intermediate_size: int | None = Field(default=None, ge=8)
    """Feed-forward neurons of each layer, where there are fewer."""
    num_heads: int | None = Field(default=None, ge=1)
    """Attention heads of each layer, where there are fewer than fit the width."""
    activation: Literal["relu"] | None = None
    """ReLU in place of the teacher's activation, as in MobileBERT (Sun 2020, arXiv:2004.02984): a static int8 product
    cuts off what is below zero anyway, so it takes no time, where GELU takes a twentieth of a small model's."""
    epochs: int = Field(default=2, ge=1, le=200)
    """Passes over the training split and the transfer text; many more where `transfer` is null."""
    transfer: TransferConfig | None = TransferConfig()
    """Text without labels, found or made, on which the teacher is copied too."""

    consumes: ClassVar[str] = "torch"
    produces: ClassVar[str] = "torch"

    @model_validator(mode="after")
    def _layers_are_named_once(self) -> Self:
        if isinstance(self.layers, list) and not self.layers:
            raise ValueError("distil.layers: expected at least one layer, got none; write [0, 2, 5] or spread")
        if isinstance(self.layers, list) and self.num_layers not in (None, len(self.layers)):
            raise ValueError(
                f"distil.num_layers: expected nothing beside a list of {len(self.layers)} layers, got {self.num_layers}"
            )
        return self

    def check(self, shape: Architecture) -> Architecture:
        """The student's sizes. Raises: UserError for what this teacher does not have."""
        return check_student(self, shape)

    def run(self, artifact: Artifact, context: Context) -> Step:
        """The student of `artifact`. Raises: UserError when a layer does not exist."""
        return context.step(self, artifact, lambda out, work: self._make(artifact.path, context, out, work))

    def sketch(self, artifact: Artifact, context: Context) -> Step:
        """The student before any training, for its size, its speed and what is left in it."""
        names = ("layers", "num_layers", "hidden_size", "intermediate_size", "num_heads", "activation")
        return run_step(
            "sketch",
            kind="torch",
            inputs=(artifact, context.data, context.teacher_logits),
            config={name: getattr(self, name) for name in names} | {"max_tokens": context.max_tokens},
            code="tasks.compress.distil",
            make=lambda out, work: self._draw(artifact.path, context, out),
        )

    def _draw(self, source: Path, context: Context, out: Path) -> None:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(source)
        student, _ = self._student(source, tokenizer, context)
        student.save_pretrained(out)
        tokenizer.save_pretrained(out)

    def _make(self, source: Path, context: Context, out: Path, work: Path) -> None:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(source)
        student, layers = self._student(source, tokenizer, context)
        history = distil_into(student, tokenizer, self, context, work=work, name="distil", layers=layers)
        student.save_pretrained(out)
        tokenizer.save_pretrained(out)
        write_history(history, out)

    def _student(self, source: Path, tokenizer: Any, context: Context) -> tuple[Any, list[int]]:
        """The untrained student, and the teacher layers that its own stand for."""
        model = load_classifier(source)
        rows = tokenize(tokenizer, read_split(context.data.path, "train").texts, max_tokens=context.max_tokens)
        layers = self._chosen(model, rows, context, tokenizer.pad_token_id)
        student = keep_layers(model, layers)
        student = narrow(
            student, rows, tokenizer.pad_token_id,
            hidden_size=self.hidden_size, intermediate_size=self.intermediate_size,
        )  # fmt: skip
        if self.num_heads is not None:
            keep_heads(student, first_rows(rows, NUM_PROBE_ROWS), tokenizer.pad_token_id, self.num_heads)
        if self.activation is not None:
            use_relu(student)
        cut_positions(student, context.max_tokens)
        return student, layers

    def _chosen(self, model: Any, rows: Rows, context: Context, pad_id: int) -> list[int]:
        if isinstance(self.layers, list):
            return self.layers
        depth = model.config.num_hidden_layers
        wanted = num_student_layers(self, depth)
        if self.layers == "spread":
            return spread(wanted, depth)
        if self.layers == "top":
            return list(range(depth - wanted, depth))
        return search_layers(model, rows, np.load(context.teacher_logits.path / "train.npy"), wanted, pad_id)


def num_student_layers(settings: Distil, depth: int) -> int:
    """How many layers the student of a teacher of `depth` layers has."""
    if isinstance(settings.layers, list):
        return len(settings.layers)
    return settings.num_layers or max(1, depth // 2)


def check_student(settings: Distil, shape: Architecture) -> Architecture:
    """Sizes of the student of `shape`. Raises: UserError naming what would work."""
    require_layers(shape, "distil")
    _check_known_sizes(settings, shape)
    wanted = num_student_layers(settings, shape.num_layers)
    check_layers(settings.layers if isinstance(settings.layers, list) else list(range(wanted)), shape.num_layers)
    if any((settings.hidden_size, settings.intermediate_size, settings.num_heads, settings.activation)):
        require_parts(shape, "distil with hidden_size, intermediate_size, num_heads or activation")
    hidden = settings.hidden_size or shape.hidden_size
    feed = settings.intermediate_size or shape.intermediate_size
    heads = check_widths(
        hidden, feed, old_hidden=shape.hidden_size, old_feed=shape.intermediate_size, head_size=shape.head_size
    )
    narrower = (hidden, feed) != (shape.hidden_size, shape.intermediate_size)
    if narrower and shape.lost_heads:
        raise UserError(
            "distil.hidden_size, distil.intermediate_size: expected a model with all its heads, got one that lost "
            "some; put distil in front of prune_structure, or leave them out"
        )
    heads = min(heads, shape.num_heads)
    if settings.num_heads is not None:
        heads = _check_heads(settings, shape, heads)
    student = replace(shape, num_layers=wanted, hidden_size=hidden, intermediate_size=feed, num_heads=heads)
    check_training(settings, student, "distil")
    return student


def _check_known_sizes(settings: Distil, shape: Architecture) -> None:
    """Raises: UserError for a size that has to fit one that is chosen only while `shape` is pruned."""
    asked: dict[str, dict[str, Any]] = {
        "heads": {"num_heads": settings.num_heads},
        "neurons": {"intermediate_size": settings.intermediate_size},
        "layers": {
            "layers": settings.layers if isinstance(settings.layers, list) else None,
            "num_layers": settings.num_layers if settings.num_layers != 1 else None,
        },
    }
    for unit in sorted(shape.searched):
        for name, value in asked[unit].items():
            if value is not None:
                raise UserError(
                    f"distil.{name}: expected nothing behind a prune_structure that searches how many {unit} stay, got "
                    f"{value}; put distil in front of it, or leave {name} out"
                )


def _check_heads(settings: Distil, shape: Architecture, heads: int) -> int:
    """How many of the `heads` that fit its width the student has. Raises: UserError."""
    wanted = settings.num_heads or heads
    if wanted > heads:
        raise UserError(f"distil.num_heads: expected 1 to {heads}, as many as the student can have, got {wanted}")
    require_head_pruning(shape, "distil.num_heads", "leave num_heads out")
    if settings.relations > 0 and wanted < heads:
        raise UserError(
            f"distil.relations: expected 0 with {wanted} of {heads} heads, since a layer's queries no longer split "
            f"into {settings.relation_heads} relation heads; set relations to 0, or leave num_heads out"
        )
    return wanted
