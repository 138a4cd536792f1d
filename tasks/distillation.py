"""What every technique that trains shares: the teacher's knowledge as losses, and the run that passes it on.

- Soft answers at a temperature (Hinton 2015, arXiv:1503.02531).
- Hidden states, layer by layer, through a learnt projection where the student is narrower (TinyBERT, Jiao 2020,
  arXiv:1909.10351, eq. 8 and 9).
- Relations between the tokens' queries, keys and values in one layer, which fit any width and number of heads
  (MiniLMv2, Wang 2021, arXiv:2012.15828, eq. 4 and 5).

Teacher logits are computed once and read from the store; the teacher runs beside the student only where its hidden
states or relations are asked for.

Shapes: B batch, T tokens, C classes, H hidden size, R relation heads, D size of a relation head.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from bento.errors import UserError
from tasks.architecture import (
    Architecture,
    Part,
    layer_list,
    load_classifier,
    part,
    reads_every_token,
    require_parts,
)
from tasks.batches import Batch, Rows, repeated, tokenize
from tasks.data import read_labels, read_split, read_times
from tasks.task_types import UNLABELLED, TaskType
from tasks.training import Epoch, RecipeConfig, fit, forward
from tasks.transfer import TransferConfig, check_transfer, chosen_transfer, read_transfer, whole_words

if TYPE_CHECKING:
    from tasks.compress.context import Context

RELATIONS: tuple[Part, ...] = ("query", "key", "value")


class Training(RecipeConfig):
    """How long, how fast and from what a technique trains; the base of every one that does."""

    temperature: float = Field(default=2.0, gt=0, le=100)
    """Softens both answers before they are compared."""
    soft: float = Field(default=0.9, ge=0, le=1)
    """Weight of the teacher's answers; the rest is the labels'."""
    hidden: float = Field(default=0.0, ge=0)
    """Weight of the distance between the layers' hidden states and the teacher's."""
    relations: float = Field(default=0.0, ge=0)
    """Weight of the divergence between the token relations of the last layer and the teacher's."""
    relation_heads: int = Field(default=12, ge=1, le=128)
    """Into how many heads queries, keys and values are cut for the relations; has to divide both hidden sizes."""
    epochs: int = Field(default=8, ge=1, le=200)
    """Passes over the training split and the transfer text."""
    learning_rate: float = Field(default=2e-4, gt=0, lt=1)
    """Peak of the warm-up; a lower rate keeps more of what the teacher's layers knew before they were fine-tuned."""
    transfer: TransferConfig | None = None
    """Text without labels, found or made, on which the teacher is copied too."""


def check_training(settings: Training, shape: Architecture, technique: str) -> None:
    """See that `technique` can train a model of `shape` as `settings` say. Raises: UserError naming what would work."""
    check_transfer(settings.transfer)
    if (settings.hidden > 0 or settings.relations > 0) and shape.model_type != "linformer":
        require_parts(shape, f"{technique} with hidden or relations")
    if settings.relations > 0:
        _check_relations(settings, shape, technique)


def _check_relations(settings: Training, shape: Architecture, technique: str) -> None:
    """Raises: UserError unless the last layer's queries and the teacher's both split into the relation heads."""
    if shape.model_type == "linformer":
        raise UserError(
            f"{technique}.relations: expected 0, got {settings.relations}: a Linformer's keys and values are slots, so "
            f"tokens have no relations to compare; use {technique}.hidden"
        )
    if "heads" in shape.searched:
        raise UserError(
            f"{technique}.relations: expected 0 behind a prune_structure that searches how many heads stay, got "
            f"{settings.relations}; set it to 0, or put {technique} in front"
        )
    sizes = (shape.query_size, shape.teacher_hidden_size)
    if any(size % settings.relation_heads for size in sizes):
        fitting = [count for count in range(1, 129) if not any(size % count for size in sizes)]
        raise UserError(
            f"{technique}.relation_heads: expected a divisor of the sizes {sizes[0]} and {sizes[1]} of the student's "
            f"and the teacher's queries, got {settings.relation_heads}; choose from {', '.join(map(str, fitting))}"
        )


def distil_into(
    student: Any,
    tokenizer: Any,
    settings: Training,
    context: "Context",
    *,
    work: Path,
    name: str,
    layers: Sequence[int] | None = None,
    after_step: Callable[[int, int], None] | None = None,
    first_kept_epoch: int = 1,
) -> list[Epoch]:
    """Train `student` in place on what the teacher knows and leave its best epoch in it.

    With transfer text there is no dropout: the student has to give the teacher's answer for one and the same input
    (Beyer 2022, arXiv:2106.05237), and the other inputs keep it from learning the training text by heart, as dropout
    does where there are none.

    `layers` are the teacher's layers that the student's stand for, spread evenly when not given. `after_step(step,
    num_steps)` is called after each optimiser step, counted from 1. The best epoch is looked for from
    `first_kept_epoch` on, where a schedule has reached its end.
    """
    data = context.data.path
    labels, validation, task = read_labels(data), read_split(data, "validation"), context.task
    knowledge = _Knowledge(student, tokenizer, settings, context, layers, task)
    truth, words = {"label": task.targets(validation, labels)}, reads_every_token(student)
    return fit(
        student,
        _training_rows(tokenizer, settings, context, task, words=words),
        tokenize(tokenizer, validation.texts, max_tokens=context.max_tokens, targets=truth, words=words),
        task=task,
        recipe=settings.recipe(context.seed),
        pad_id=tokenizer.pad_token_id,
        loss=knowledge.loss,
        work=work,
        name=name,
        beside=knowledge.projection,
        after_step=after_step,
        first_kept_epoch=first_kept_epoch,
        every_token=settings.hidden > 0,
        dropout=settings.transfer is None,
    )


def distillation_loss(
    logits_BC: Any, teacher_BC: Any, truth: Any, *, task: TaskType, temperature: float, soft: float
) -> Any:
    """Hinton's loss: `soft * T^2 * KL(teacher || student at T) + (1 - soft) * cross entropy`.

    Rows whose truth is UNLABELLED count only in the first part.
    """
    divergence = task.soft_loss(logits_BC, teacher_BC, temperature) * temperature**2
    return soft * divergence + (1 - soft) * task.loss(logits_BC, truth)


def relation_loss(student_BTH: Any, teacher_BTH: Any, mask_BT: Any, num_heads: int) -> Any:
    """MiniLMv2's loss of one kind: KL of the teacher's token relations from the student's, over real tokens."""
    import torch.nn.functional as nn

    student_BRTT = nn.log_softmax(_relations(student_BTH, mask_BT, num_heads), dim=-1)
    teacher_BRTT = nn.log_softmax(_relations(teacher_BTH, mask_BT, num_heads), dim=-1)
    divergence_BRT = (teacher_BRTT.exp() * (teacher_BRTT - student_BRTT)).sum(dim=-1)
    return (divergence_BRT * mask_BT[:, None]).sum() / (mask_BT.sum() * num_heads)


def hidden_loss(student_BTH: Any, teacher_BTH: Any, mask_BT: Any) -> Any:
    """TinyBERT's loss of one layer: mean squared distance of the hidden states, over real tokens."""
    squared_BT = (student_BTH - teacher_BTH).pow(2).mean(dim=-1)
    return (squared_BT * mask_BT).sum() / mask_BT.sum()


def spread(num_student: int, num_teacher: int) -> list[int]:
    """Teacher layers, evenly spread and the last one among them, for each of the student's."""
    if num_student == 1:
        return [num_teacher - 1]
    return [round(at * (num_teacher - 1) / (num_student - 1)) for at in range(num_student)]


def _relations(states_BTH: Any, mask_BT: Any, num_heads: int) -> Any:
    """Scaled products A A^T / sqrt(D) of each relation head, padding excluded by its mask."""
    batch, length, size = states_BTH.shape
    heads_BRTD = states_BTH.view(batch, length, num_heads, size // num_heads).transpose(1, 2)
    scores_BRTT = heads_BRTD @ heads_BRTD.transpose(-1, -2) / (size // num_heads) ** 0.5
    return scores_BRTT.masked_fill(~mask_BT.bool()[:, None, None, :], -1e4)


def _training_rows(tokenizer: Any, settings: Training, context: "Context", task: TaskType, *, words: bool) -> Rows:
    """The labelled rows with the teacher's logits, each as often as it counts, and the transfer text behind them."""
    data = context.data.path
    train = read_split(data, "train")
    texts = list(train.texts)
    truth = task.targets(train, read_labels(data))
    teacher_NC = np.load(context.teacher_logits.path / "train.npy")
    times_N = read_times(data)
    transfer = chosen_transfer(settings.transfer, data)
    if transfer is not None:
        more, more_NC = read_transfer(transfer, context, whole_words(tokenizer) if transfer.random > 0 else ())
        texts += more
        truth = np.concatenate([truth, np.full((len(more), *truth.shape[1:]), UNLABELLED, dtype=truth.dtype)])
        width = min(teacher_NC.shape[1], more_NC.shape[1])
        teacher_NC = np.concatenate([teacher_NC[:, :width], more_NC[:, :width]])
        times_N = np.concatenate([times_N, np.ones(len(more), dtype=np.int64)])
    targets = {"label": truth, "teacher": teacher_NC}
    rows = tokenize(tokenizer, texts, max_tokens=context.max_tokens, targets=targets, words=words)
    return repeated(rows, times_N)


def _teacher_ids(tokenizer: Any, teacher: Path) -> Any:
    """The teacher's id of each of the student's tokens: a cut vocabulary has other numbers for the same tokens."""
    from transformers import AutoTokenizer

    its = AutoTokenizer.from_pretrained(teacher).get_vocab()
    ids_V = np.zeros(len(tokenizer), dtype=np.int64)
    for token, at in tokenizer.get_vocab().items():
        ids_V[at] = its[token]
    return ids_V


class _Knowledge:
    """The loss of one distillation, with the teacher beside the student where its inner states are asked for."""

    def __init__(
        self,
        student: Any,
        tokenizer: Any,
        settings: Training,
        context: "Context",
        layers: Sequence[int] | None,
        task: TaskType,
    ) -> None:
        self.settings, self.task = settings, task
        self.inner = settings.hidden > 0 or settings.relations > 0
        self.projection: Any = None
        if not self.inner:
            return
        self.teacher = load_classifier(context.teacher.path).requires_grad_(requires_grad=False)
        self.teacher_ids_V = _teacher_ids(tokenizer, context.teacher.path)
        depth, teacher_depth = student.config.num_hidden_layers, self.teacher.config.num_hidden_layers
        self.layers = list(layers) if layers is not None else spread(depth, teacher_depth)
        self.student_states = _Recorder(student, list(range(depth)))
        self.teacher_states = _Recorder(self.teacher, self.layers)
        self.projection = self._projection(student)

    def loss(self, logits_BC: Any, batch: Batch) -> Any:
        """The weighted sum of what is asked for."""
        settings = self.settings
        total = distillation_loss(
            logits_BC,
            batch["teacher"],
            batch["label"],
            task=self.task,
            temperature=settings.temperature,
            soft=settings.soft,
        )
        if not self.inner:
            return total
        self._ask_teacher(batch)
        mask_BT = batch["attention_mask"].float()
        if settings.hidden > 0:
            total = total + settings.hidden * self._hidden(mask_BT)
        if settings.relations > 0:
            total = total + settings.relations * self._relations(mask_BT)
        return total

    def _projection(self, student: Any) -> Any:
        import torch

        mine, its = student.config.hidden_size, self.teacher.config.hidden_size
        return None if mine == its else torch.nn.Linear(mine, its, bias=False).to(student.device)

    def _ask_teacher(self, batch: Batch) -> None:
        import torch

        from tasks.training import make_accelerator

        accelerator = make_accelerator()
        self.teacher.to(accelerator.device)
        ids_BT = torch.from_numpy(self.teacher_ids_V).to(batch["input_ids"].device)[batch["input_ids"]]
        with torch.no_grad(), accelerator.autocast():
            forward(self.teacher, batch | {"input_ids": ids_BT})

    def _hidden(self, mask_BT: Any) -> Any:
        pairs = zip(self.student_states.hidden, self.teacher_states.hidden, strict=True)
        project = self.projection or (lambda states_BTH: states_BTH)
        losses = [hidden_loss(project(mine.float()), its.float(), mask_BT) for mine, its in pairs]
        return sum(losses) / len(losses)

    def _relations(self, mask_BT: Any) -> Any:
        heads = self.settings.relation_heads
        mine, its = self.student_states.relations, self.teacher_states.relations
        losses = [relation_loss(mine[role].float(), its[role].float(), mask_BT, heads) for role in RELATIONS]
        return sum(losses) / len(losses)


class _Recorder:
    """Keeps what the named layers of a model put out in its last forward pass, and the last one's relations."""

    def __init__(self, model: Any, layers: Sequence[int]) -> None:
        _, stack = layer_list(model)
        self.hidden: list[Any] = [None] * len(layers)
        self.relations: dict[Part, Any] = {}
        for at, number in enumerate(layers):
            stack[number].register_forward_hook(self._keep_hidden(at))
        for role in RELATIONS:
            part(stack[layers[-1]], role).register_forward_hook(self._keep_relation(role))

    def _keep_hidden(self, at: int) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            self.hidden[at] = output[0] if isinstance(output, tuple) else output

        return hook

    def _keep_relation(self, role: Part) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            self.relations[role] = output

        return hook
