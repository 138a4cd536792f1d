"""What the tests of exports share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bento.abstention import Abstention
from bento.entities import entity_tags
from bento.manifest import Manifest, folder_sha256
from bento.prior import PriorCorrection
from bento.task_types import Target, Task
from tasks.edge import Export
from tasks.release.ledger import Champion
from tests.tiny import write_tiny_model

LABELS = ("card_lost", "refund", "transfer")
Exporting = Callable[[Path, Path], Export]


def champion_of(model: Path, version: str = "1") -> Champion:
    name = Manifest.read(model).name
    return Champion(
        name=name, version=version, model_sha256=folder_sha256(model), model_path=model, bento=f"{name}:tag"
    )  # fmt: skip


def change_manifest(model: Path, **values: Any) -> Path:
    Manifest.read(model).model_copy(update=values).write(model)
    return model


def tiny(folder: Path, task: Task = "single_label", *, pairs: bool = False) -> Path:
    """A model that uses whatever its task's answers depend on."""
    labels = {"score": LABELS[:1], "entities": tuple(entity_tags(["LOC", "PER"]))}.get(task, LABELS)
    target = Target(task=task, low=1, high=5) if task == "score" else Target(task=task)
    write_tiny_model(folder, labels=labels, target=target, pairs=pairs, seed=3)
    abstain = Abstention(threshold=0.6, labels=("refund",)) if task == "single_label" else None
    prior = PriorCorrection(before=(0.5, 0.5, 0.0), after=(0.2, 0.8, 0.0), num_rows=9) if abstain else None
    return change_manifest(folder, temperature=1.7, threshold=0.4, pad_multiple=8, abstain=abstain, prior=prior)
