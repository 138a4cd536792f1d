"""A small real chain: a three-layer BERT with random weights on a few dozen sentences."""

from pathlib import Path

import numpy as np
import pytest

from tasks.compress.context import Context
from tasks.data import DataConfig, fingerprint, prepare
from tasks.ensemble import ensemble_logits
from tasks.store import run_step
from tasks.task_types import SingleLabel
from tasks.types import Artifact
from tests.small import write_bert, write_colours


@pytest.fixture(scope="session")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    monkeypatch = pytest.MonkeyPatch()
    root = tmp_path_factory.mktemp("compress")
    monkeypatch.setenv("RETORT_HOME", str(root / "home"))
    config = DataConfig(source=str(write_colours(root / "rows")), validation=0.3)
    data = run_step(
        "data", kind="data", inputs=fingerprint(config, None), config={}, code="tasks.types",
        make=lambda out, work: prepare(config, out),
    ).artifact  # fmt: skip
    teacher = run_step("teacher", kind="torch", inputs=[], config={}, code="tasks.types", make=_bert).artifact
    logits = run_step(
        "logits", kind="logits", inputs=[teacher], config={}, code="tasks.types",
        make=lambda out, work: _logits(teacher, data, out),
    ).artifact  # fmt: skip
    yield Context(name="tiny", data=data, teacher=teacher, teacher_logits=logits, max_tokens=16, seed=0)
    monkeypatch.undo()


def _bert(out: Path, work: Path) -> None:
    write_bert(out)


def _logits(teacher: Artifact, data: Artifact, out: Path) -> None:
    from tasks.data import read_split

    for name in ("train", "validation"):
        np.save(
            out / f"{name}.npy", ensemble_logits([teacher.path], read_split(data.path, name).texts, 16, SingleLabel())
        )


@pytest.fixture(scope="session")
def exported(context: Context) -> Artifact:
    from tasks.compress.export import Export

    return Export().run(context.teacher, context).artifact
