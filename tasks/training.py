"""One training loop for teachers and students: length-grouped batches, warm-up, early stopping, resumable.

Accelerate decides the device, the precision and how many processes share the work.

Shapes: B batch, T tokens, C classes.
"""

import contextlib
import hashlib
import inspect
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from tasks.batches import Batch, Rows, collate, length_grouped
from tasks.first_token import first_token_only
from tasks.task_types import TaskType
from tasks.types import Section
from tasks.used_rows import used_rows_only

if TYPE_CHECKING:
    import torch

log = logging.getLogger("retort.training")

CHECKPOINT = "checkpoint.pt"
TELL_EVERY_S = 30.0
"""How often a model that answers many texts says how far it is."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How long and how fast to train."""

    epochs: int
    learning_rate: float
    batch_size: int
    warmup: float
    """Share of the steps over which the rate rises from 0."""
    weight_decay: float
    patience: int
    """Epochs without a better validation score before training stops."""
    seed: int


class RecipeConfig(Section):
    """The recipe as a config gives it; the base of everything that trains."""

    epochs: int = Field(default=8, ge=1, le=200)
    """Passes over the training rows, fewer when validation stops getting better."""
    learning_rate: float = Field(default=2e-4, gt=0, lt=1)
    """Peak of the warm-up."""
    batch_size: int = Field(default=32, ge=1, le=4096)
    """Rows a step, on each device."""
    warmup: float = Field(default=0.1, ge=0, le=1)
    """Share of the steps over which the learning rate rises."""
    weight_decay: float = Field(default=0.01, ge=0)
    """AdamW's decay of the matrices."""
    patience: int = Field(default=4, ge=1)
    """Epochs without a better validation score before training stops."""

    def recipe(self, seed: int) -> Recipe:
        """The training loop's part of this config."""
        return Recipe(**{name: getattr(self, name) for name in RecipeConfig.model_fields}, seed=seed)


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What one epoch brought."""

    epoch: int
    train_loss: float
    validation_score: float
    """Accuracy, or what the task has in its place."""
    sentences_per_s: float


def forward(model: Any, batch: Batch) -> "torch.Tensor":
    """logits_BC of a classifier of texts; logits_BWK of one of tokens, read at the words, NaN where there is none."""
    logits_BC: torch.Tensor = model(**model_inputs(model, batch)).logits
    if "words" not in batch:
        return logits_BC
    firsts_BW1 = batch["words"][..., None]
    logits_BWK = logits_BC.gather(1, firsts_BW1.clamp(min=0).expand(-1, -1, logits_BC.shape[-1]))
    return logits_BWK.masked_fill(firsts_BW1 < 0, float("nan"))


def model_inputs(model: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
    """What of `batch` the model takes: a tokenizer may give token types to a model that has none (DistilBERT)."""
    taken = inspect.signature(getattr(model, "module", model).forward).parameters
    names = ("input_ids", "attention_mask", "token_type_ids")
    return {name: batch[name] for name in names if name in batch and name in taken}


def predict_logits(model: Any, rows: Rows, *, pad_id: int, batch_size: int = 64) -> "np.ndarray[Any, Any]":
    """float32 logits_NC of all rows in order, in batches of similar length, in the precision of training."""
    import torch

    accelerator = make_accelerator()
    model = accelerator.unwrap_model(model).to(accelerator.device).eval()
    order = sorted(range(len(rows)), key=lambda row: len(rows.token_ids[row]))
    found: list[tuple[list[int], Any]] = []
    started = told = time.monotonic()
    with torch.inference_mode(), accelerator.autocast(), first_token_only(model):
        for start in range(0, len(order), batch_size):
            indices = order[start : start + batch_size]
            batch = {name: value.to(accelerator.device) for name, value in collate(rows, indices, pad_id).items()}
            found.append((indices, forward(model, batch).float().cpu().numpy()))
            if (now := time.monotonic()) - told >= TELL_EVERY_S:
                told, done = now, start + len(indices)
                log.info("%d of %d texts answered, %.0f/s", done, len(rows), done / (now - started))
    logits_NC = np.empty((len(rows), *found[0][1].shape[1:]), dtype=np.float32)
    for indices, part in found:
        logits_NC[indices] = part
    return logits_NC


def make_accelerator() -> Any:
    """Device, precision and processes as Accelerate finds them; told of a machine without a GPU, where it would not
    join several processes."""
    import torch
    from accelerate import Accelerator

    # cuDNN plans its attention anew for each shape of a batch, and batches of similar length come in as many shapes as
    # there are lengths: a quarter of a second each on an H200, where a step takes 16 ms.
    torch.backends.cuda.enable_cudnn_sdp(enabled=False)
    return Accelerator(mixed_precision=precision(), cpu=not torch.accelerator.is_available())


def precision() -> str:
    """`bf16` where the machine multiplies it in hardware, else `no`."""
    import torch

    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "no"
    fast = (
        getattr(torch.cpu, "_is_avx512_bf16_supported", bool)() or getattr(torch.cpu, "_is_amx_tile_supported", bool)()
    )
    return "bf16" if fast else "no"


def fit(
    model: Any,
    train: Rows,
    validation: Rows,
    *,
    task: TaskType,
    recipe: Recipe,
    pad_id: int,
    loss: Callable[["torch.Tensor", Batch], "torch.Tensor"],
    work: Path,
    name: str,
    beside: "torch.nn.Module | None" = None,
    after_step: Callable[[int, int], None] | None = None,
    first_kept_epoch: int = 1,
    every_token: bool = False,
    dropout: bool = True,
) -> list[Epoch]:
    """Train `model` in place and leave the weights of the best validation epoch in it.

    `loss(logits_BC, batch)` is a scalar; `validation.targets["label"]` is the truth, as the task has it. `beside` holds
    more weights that the loss trains. `after_step(step, num_steps)` is called after each optimiser step, counted from
    1, and may change any weight. The best epoch is looked for from `first_kept_epoch` on, where a schedule has reached
    its end. `every_token` says that the loss reads more of the last layer than the head does. `dropout` is that of the
    model's config, or none. A checkpoint a whole epoch lies in `work`, so a killed run goes on from there with the same
    result.
    """
    import torch

    with contextlib.ExitStack() as stack:
        if after_step is None:
            stack.enter_context(used_rows_only(model, [train.token_ids, validation.token_ids], pad_id))
        if not every_token:
            stack.enter_context(first_token_only(model))
        accelerator = make_accelerator()
        lengths = [len(ids) for ids in train.token_ids]
        steps_per_epoch = math.ceil(len(train) / recipe.batch_size) // accelerator.num_processes
        num_steps = steps_per_epoch * recipe.epochs
        model, state = _prepare(accelerator, model, beside or torch.nn.Module(), recipe, num_steps)
        history, best = state.resume(work)
        for number in range(len(history) + 1, recipe.epochs + 1):
            if _stalled(history[first_kept_epoch - 1 :], recipe.patience):
                break
            torch.manual_seed(recipe.seed * 1_000 + number)
            share = _epoch_batches(lengths, recipe, number, accelerator)
            start = time.perf_counter()
            mean_loss = _train_epoch(
                accelerator,
                model,
                state,
                (collate(train, rows, pad_id) for rows in share),
                loss,
                len(share),
                f"{name} epoch {number}/{recipe.epochs}",
                _numbered(after_step, (number - 1) * steps_per_epoch, num_steps),
                dropout=dropout,
            )
            speed = len(train) / (time.perf_counter() - start)
            logits_NC = predict_logits(model, validation, pad_id=pad_id)
            score = task.quality(logits_NC, validation.targets["label"])
            history.append(Epoch(epoch=number, train_loss=mean_loss, validation_score=score, sentences_per_s=speed))
            if number < first_kept_epoch or score >= max(_kept_scores(history, first_kept_epoch)):
                best = _copy(state.model)
            if accelerator.is_main_process:
                _tell(name, history[-1], recipe.epochs, task.quality_name)
                state.save(work, history, best)
        state.model.load_state_dict(best)
        return history


def _prepare(accelerator: Any, model: Any, beside: Any, recipe: Recipe, num_steps: int) -> tuple[Any, "_State"]:
    """The model as the accelerator runs it, and all that training changes."""
    import torch

    torch.manual_seed(recipe.seed)
    beside = beside.to(accelerator.device)
    groups = _parameter_groups([*model.parameters(), *beside.parameters()], recipe)
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _linear_warmup(recipe, num_steps))
    model, optimizer = accelerator.prepare(model, optimizer)
    state = _State(model=accelerator.unwrap_model(model), beside=beside, optimizer=optimizer, schedule=schedule)
    return model, state


def _tell(name: str, epoch: Epoch, num_epochs: int, what: str) -> None:
    log.info(
        "%s: epoch %d/%d, loss %.4f, validation %s %.4f, %.0f sentences/s",
        name, epoch.epoch, num_epochs, epoch.train_loss, what, epoch.validation_score, epoch.sentences_per_s,
    )  # fmt: skip


def _copy(model: Any) -> dict[str, Any]:
    """The weights as they are now, on the CPU."""
    return {key: value.detach().cpu().clone() for key, value in model.state_dict().items()}


def write_history(history: Sequence[Epoch], out: Path) -> None:
    """Store the epochs as `history.json`, which tracking logs step by step; without the speed, so that bytes repeat."""
    rows = [{key: value for key, value in asdict(epoch).items() if key != "sentences_per_s"} for epoch in history]
    (out / "history.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")


def _train_epoch(
    accelerator: Any,
    model: Any,
    state: "_State",
    batches: Iterator[Batch],
    loss: Callable[["torch.Tensor", Batch], "torch.Tensor"],
    num_batches: int,
    title: str,
    after_step: Callable[[int], None],
    *,
    dropout: bool,
) -> float:
    """One pass over the batches; the mean loss."""
    from tqdm import tqdm

    model.train(dropout)
    total = 0.0
    progress = tqdm(batches, total=num_batches, desc=title, mininterval=1.0, leave=False, disable=not _interactive())
    for number, batch in enumerate(progress, start=1):
        batch = {key: value.to(accelerator.device, non_blocking=True) for key, value in batch.items()}
        with accelerator.autocast():
            logits_BC = forward(model, batch)
        value = loss(logits_BC.float(), batch)
        accelerator.backward(value)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        state.optimizer.step()
        state.schedule.step()
        state.optimizer.zero_grad(set_to_none=True)
        after_step(number)
        total += float(value.detach())
    if not math.isfinite(total):
        raise FloatingPointError(f"{title}: the loss became {total}; lower the learning rate")
    return total / max(num_batches, 1)


class _State:
    """Model, optimiser and schedule, saved after each epoch and found again after a kill."""

    def __init__(self, *, model: Any, beside: Any, optimizer: Any, schedule: Any) -> None:
        self.model, self.beside, self.optimizer, self.schedule = model, beside, optimizer, schedule

    def save(self, work: Path, history: list[Epoch], best: dict[str, Any]) -> None:
        import torch

        temporary = work / f"{CHECKPOINT}.tmp"
        parts = {
            "model": self.model.state_dict(),
            "beside": self.beside.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "history": [asdict(epoch) for epoch in history],
            "best": best,
        }
        torch.save(parts, temporary)
        digest = hashlib.sha256(temporary.read_bytes()).hexdigest()
        temporary.replace(work / CHECKPOINT)
        (work / f"{CHECKPOINT}.sha256").write_text(digest, encoding="utf-8")

    def resume(self, work: Path) -> tuple[list[Epoch], dict[str, Any]]:
        import torch

        checkpoint, digest = work / CHECKPOINT, work / f"{CHECKPOINT}.sha256"
        start = _copy(self.model)
        if not (checkpoint.is_file() and digest.is_file()):
            return [], start
        if hashlib.sha256(checkpoint.read_bytes()).hexdigest() != digest.read_text(encoding="utf-8"):
            log.warning("%s is not whole or was altered; training starts again", checkpoint)
            return [], start
        parts = torch.load(checkpoint, weights_only=True, map_location="cpu")
        self.model.load_state_dict(parts["model"])
        self.beside.load_state_dict(parts["beside"])
        self.optimizer.load_state_dict(parts["optimizer"])
        self.schedule.load_state_dict(parts["schedule"])
        history = [Epoch(**epoch) for epoch in parts["history"]]
        log.info("resuming after epoch %d", len(history))
        return history, parts["best"]


def _epoch_batches(lengths: Sequence[int], recipe: Recipe, number: int, accelerator: Any) -> list[list[int]]:
    """This process's batches of one epoch; each process gets equally many, since they step together."""
    batches = length_grouped(lengths, recipe.batch_size, np.random.default_rng((recipe.seed, number)))
    num_each = len(batches) // accelerator.num_processes
    return batches[accelerator.process_index :: accelerator.num_processes][:num_each]


def _numbered(after_step: Callable[[int, int], None] | None, num_before: int, num_steps: int) -> Callable[[int], None]:
    """`after_step` with the step counted over all epochs."""
    return lambda step: after_step(num_before + step, num_steps) if after_step is not None else None


def _kept_scores(history: Sequence[Epoch], first_kept_epoch: int) -> list[float]:
    return [epoch.validation_score for epoch in history[first_kept_epoch - 1 :]]


def _parameter_groups(parameters: Sequence[Any], recipe: Recipe) -> list[dict[str, Any]]:
    """Weight decay on matrices only, as BERT does (Devlin 2019, appendix A.2)."""
    decayed = [weight for weight in parameters if weight.requires_grad and weight.ndim >= 2]
    free = [weight for weight in parameters if weight.requires_grad and weight.ndim < 2]
    return [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": free, "weight_decay": 0.0}]


def _linear_warmup(recipe: Recipe, num_steps: int) -> Callable[[int], float]:
    """The rate's factor at a step: up linearly over the warm-up, then down linearly to 0."""
    num_warmup = max(1, round(recipe.warmup * num_steps))

    def factor(step: int) -> float:
        if step < num_warmup:
            return (step + 1) / num_warmup
        return max(0.0, (num_steps - step) / max(1, num_steps - num_warmup))

    return factor


def _stalled(history: Sequence[Epoch], patience: int) -> bool:
    best_epoch = max(range(len(history)), key=lambda at: history[at].validation_score, default=0)
    return len(history) - 1 - best_epoch >= patience


def _interactive() -> bool:
    import sys

    return sys.stderr.isatty()
