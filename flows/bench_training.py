"""Training speed beside the Trainer of `transformers`, in blocks of steps that take turns on the same machine.

Retort trains the config's first student with its cut vocabulary, in the precision that the machine multiplies in
hardware, on batches of similar length and without dropout, as `distil` does. The Trainer trains the same layers on the
same rows in the same batch size with its own defaults, once with the full vocabulary and once with the cut one, which
tells the two effects apart. Retort with the full vocabulary tells what cutting it before the training would save, and
Retort with `torch.compile` what compiling the student would, and after how many sentences it has paid for itself.
"""

import contextlib
import copy
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flows.bench import row
from flows.chain import prepare_data
from flows.config import Config
from tasks.batches import Rows, tokenize
from tasks.compress.distil import Distil, num_student_layers
from tasks.compress.prune_vocabulary import PruneVocabulary
from tasks.data import read_labels, read_split
from tasks.distillation import spread
from tasks.structure import keep_heads
from tasks.students import keep_layers, narrow
from tasks.task_types import SingleLabel
from tasks.train import load_base
from tasks.training import Recipe, fit
from tasks.types import Split
from tasks.vocabulary import cut_vocabulary

NUM_STEPS = 40
NUM_ROUNDS = 4
FASTER = 2.5
RETORT, FULL, CUT = "Retort", "Trainer, full vocabulary", "Trainer, same vocabulary"
RETORT_FULL = "Retort, full vocabulary"
BACKEND = "inductor"
"""What `torch.compile` makes code with; it needs a C++ compiler."""


@dataclass(frozen=True, kw_only=True)
class Student:
    """An untrained model with its tokenised rows."""

    model: Any
    tokenizer: Any
    rows: Rows


def bench_training(chosen: Config) -> dict[str, Any]:
    """Sentences per second of Retort's training loop and of the Trainer, medians of blocks that take turns."""
    data = prepare_data(chosen, None).artifact
    with tempfile.TemporaryDirectory() as folder:
        full, cut = make_students(chosen, data.path, Path(folder))
        batch_size = _batch_size(chosen)
        trainers = {
            RETORT: lambda: retort_per_s(cut, batch_size, chosen.teacher.learning_rate, Path(folder)),
            FULL: lambda: trainer_per_s(full, batch_size, chosen.teacher.learning_rate, Path(folder)),
            CUT: lambda: trainer_per_s(cut, batch_size, chosen.teacher.learning_rate, Path(folder)),
            RETORT_FULL: lambda: retort_per_s(full, batch_size, chosen.teacher.learning_rate, Path(folder)),
        }
        per_s = take_turns(trainers, NUM_ROUNDS)
        compiled = compiled_row(cut, batch_size, chosen.teacher.learning_rate, Path(folder))
    rows = [*_rows(per_s), compiled]
    return {"title": f"Training of {chosen.name}", "rows": rows, "blocks": per_s}


def compiled_row(student: Student, batch_size: int, learning_rate: float, folder: Path) -> dict[str, Any]:
    """The student compiled and not, one after the other, each in one training whose first block does not count: it is
    what compiles."""
    what = "training, compiled"
    if not can_compile():
        return row(what, None, "", "not measured: no C++ compiler; apt-get install g++")
    speeds = []
    for backend in (None, BACKEND):
        model = copy.deepcopy(student.model)
        if backend is not None:
            model.compile(dynamic=True, backend=backend)
        speeds.append(blocks_per_s(model, student, batch_size, learning_rate, folder, num_blocks=NUM_ROUNDS + 1))
    plain, compiled = (float(np.median(each[1:])) for each in speeds)
    num_rows = len(student.rows)
    compiling_s, saved_s = max(0.0, num_rows / speeds[1][0] - num_rows / compiled), 1 / plain - 1 / compiled
    paid = f"paid back after {compiling_s / saved_s:,.0f} sentences" if saved_s > 0 else "never paid back"
    against = f"not compiled: {plain:,.0f}/s; compiling takes {compiling_s:.0f} s, {paid}"
    return row(what, compiled, "sentences/s", against, compiled / plain)


def can_compile() -> bool:
    """Whether there is a C++ compiler."""
    return any(shutil.which(name) for name in ("g++", "clang++"))


def make_students(chosen: Config, data: Path, folder: Path) -> tuple[Student, Student]:
    """The first student of the chain with the base model's whole vocabulary, and with the cut one."""
    from transformers import AutoTokenizer

    labels, train = read_labels(data), _some_rows(read_split(data, "train"), chosen)
    model, tokenizer, source = load_base(chosen.teacher, labels)
    model = _shrunk(model, tokenizer, train, chosen)
    full = _student(model, tokenizer, train, labels, chosen)
    smaller, pruning = copy.deepcopy(model), _pruning(chosen)
    if pruning is not None:
        texts = list(read_split(data, "train").texts)
        cut_vocabulary(
            smaller, Path(source), texts, held_out=texts, keep=pruning.keep, likely=pruning.likely, out=folder
        )
        tokenizer = AutoTokenizer.from_pretrained(folder)
    return full, _student(smaller, tokenizer, train, labels, chosen)


def retort_per_s(student: Student, batch_size: int, learning_rate: float, folder: Path) -> float:
    """Sentences per second of one block in Retort's loop."""
    model = copy.deepcopy(student.model)
    (speed,) = blocks_per_s(model, student, batch_size, learning_rate, folder, num_blocks=1)
    return speed


def blocks_per_s(
    model: Any, student: Student, batch_size: int, learning_rate: float, folder: Path, *, num_blocks: int
) -> list[float]:
    """Sentences per second of each block of one training in Retort's loop."""
    import torch.nn.functional as nn

    recipe = Recipe(
        epochs=num_blocks, learning_rate=learning_rate, batch_size=batch_size, warmup=0.1, weight_decay=0.01,
        patience=num_blocks, seed=0,
    )  # fmt: skip
    few = Rows(
        token_ids=student.rows.token_ids[:batch_size],
        type_ids=student.rows.type_ids[:batch_size] if student.rows.type_ids is not None else None,
        targets={"label": student.rows.targets["label"][:batch_size]},
    )
    with _fresh_accelerate(), tempfile.TemporaryDirectory(dir=folder) as work:
        epochs = fit(
            model, student.rows, few, task=SingleLabel(), recipe=recipe, pad_id=student.tokenizer.pad_token_id,
            loss=lambda logits_BC, batch: nn.cross_entropy(logits_BC, batch["label"]), work=Path(work), name="bench",
            dropout=False,
        )  # fmt: skip
    return [epoch.sentences_per_s for epoch in epochs]


def trainer_per_s(student: Student, batch_size: int, learning_rate: float, folder: Path) -> float:
    """Sentences per second of one block in the Trainer with its default settings, without its start and its files."""
    from transformers import DataCollatorWithPadding, PrinterCallback, Trainer, TrainingArguments

    clock = _clock()
    with _fresh_accelerate(), tempfile.TemporaryDirectory(dir=folder) as out:
        arguments = TrainingArguments(
            output_dir=out, per_device_train_batch_size=batch_size, num_train_epochs=1, learning_rate=learning_rate,
            report_to=[], save_strategy="no", disable_tqdm=True, dataloader_pin_memory=False,
        )  # fmt: skip
        trainer = Trainer(
            model=copy.deepcopy(student.model), args=arguments, train_dataset=_examples(student.rows),
            data_collator=DataCollatorWithPadding(student.tokenizer), callbacks=[clock],
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return len(student.rows) / float(clock.seconds)


def take_turns(blocks: dict[str, Callable[[], float]], num_rounds: int) -> dict[str, list[float]]:
    """What each block returns, `num_rounds` times in turn, after one round that warms up and does not count."""
    for block in blocks.values():
        block()
    found: dict[str, list[float]] = {name: [] for name in blocks}
    for _ in range(num_rounds):
        for name, block in blocks.items():
            found[name].append(block())
    return found


def _rows(per_s: dict[str, list[float]]) -> list[dict[str, Any]]:
    median = {name: float(np.median(values)) for name, values in per_s.items()}
    found = []
    for name in (FULL, CUT, RETORT_FULL):
        ratio = median[RETORT] / median[name]
        asked = name == FULL
        found.append(
            row("training", median[RETORT], "sentences/s", f"{name}: {median[name]:,.0f}/s", ratio,
                f">= {FASTER} times" if asked else "", ratio >= FASTER if asked else None)
        )  # fmt: skip
    return found


def _student(model: Any, tokenizer: Any, train: Split, labels: tuple[str, ...], chosen: Config) -> Student:
    targets = {"label": SingleLabel().targets(train, labels)}
    rows = tokenize(tokenizer, train.texts, max_tokens=chosen.teacher.max_tokens, targets=targets)
    return Student(model=model, tokenizer=tokenizer, rows=rows)


def _some_rows(train: Split, chosen: Config) -> Split:
    """Rows of one block, the same for all; a small split repeats."""
    number = NUM_STEPS * _batch_size(chosen)
    order = np.resize(np.random.default_rng(chosen.teacher.seed).permutation(len(train)), number)
    texts, labels, ids = ([values[row] for row in order] for values in (train.texts, train.labels, train.ids))
    return Split(name=train.name, ids=tuple(ids), texts=tuple(texts), labels=tuple(labels))


def _first_distil(chosen: Config) -> Distil | None:
    return next((technique for technique in chosen.compress if isinstance(technique, Distil)), None)


def _batch_size(chosen: Config) -> int:
    return (_first_distil(chosen) or chosen.teacher).batch_size


def _shrunk(model: Any, tokenizer: Any, train: Split, chosen: Config) -> Any:
    """`model` with the layers and sizes of the config's first student; layers to be searched for are spread here."""
    distil = _first_distil(chosen)
    if distil is None:
        return model
    depth = model.config.num_hidden_layers
    spread_layers = spread(num_student_layers(distil, depth), depth)
    model = keep_layers(model, distil.layers if isinstance(distil.layers, list) else spread_layers)
    rows = tokenize(tokenizer, train.texts, max_tokens=chosen.teacher.max_tokens)
    sizes = {"hidden_size": distil.hidden_size, "intermediate_size": distil.intermediate_size}
    model = narrow(model.eval(), rows, tokenizer.pad_token_id, **sizes)
    if distil.num_heads is not None:
        keep_heads(model, rows, tokenizer.pad_token_id, distil.num_heads)
    return model


def _pruning(chosen: Config) -> PruneVocabulary | None:
    """How the config cuts the vocabulary."""
    return next((technique for technique in chosen.compress if isinstance(technique, PruneVocabulary)), None)


def _examples(rows: Rows) -> list[dict[str, Any]]:
    """Rows as the Trainer's users have them after tokenising."""
    found = []
    for at, ids in enumerate(rows.token_ids):
        example = {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": int(rows.targets["label"][at])}
        if rows.type_ids is not None:
            example["token_type_ids"] = rows.type_ids[at]
        found.append(example)
    return found


def _clock() -> Any:
    """A Trainer callback that holds the seconds of its one epoch."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):  # type: ignore[misc]
        seconds = float("nan")

        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            self.seconds = -time.perf_counter()

        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            self.seconds += time.perf_counter()

    return Clock()


@contextlib.contextmanager
def _fresh_accelerate() -> Iterator[None]:
    """Accelerate holds one precision a process; both loops must find theirs, and leave none behind."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        yield
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
