"""A served model that is right about its own chances, and traffic of the same classes in any mix.

The texts are random words, and the labels are drawn from the model's own probabilities; so the model is calibrated, and
a mix is drawn by keeping texts of the wanted labels.
"""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bento.manifest import Manifest, folder_files
from bento.predictor import Predictor
from tasks.data import DataConfig, fingerprint, prepare
from tasks.release import ledger
from tasks.release.ledger import Champion
from tasks.store import run_step
from tasks.types import Artifact
from tests.logged import row, store
from tests.tiny import WORDS, write_tiny_model

LABELS = ("card_lost", "refund", "transfer")
NUM_WORDS = 10


@dataclass(frozen=True, kw_only=True)
class World:
    """Model and data in the store."""

    data: Artifact
    base: Artifact
    rng: np.random.Generator

    def texts(self, n: int, shares: tuple[float, ...] | None = None) -> tuple[list[str], list[str]]:
        """Texts with their labels, in the model's own mix or in another."""
        return _draw(Predictor(self.base.path), n, self.rng, shares)

    def send(self, n: int, shares: tuple[float, ...] | None = None, *, audited: int = 0) -> tuple[list[str], list[str]]:
        """Traffic that the present champion answered, in the log; the first `audited` have their labels."""
        from bento.records import add_feedback

        champion = ledger.read_champion("tiny")
        assert champion is not None
        texts, labels = self.texts(n, shares)
        answers_NC = Predictor(champion.model_path).predict(texts).round(6).tolist()
        name = champion.model_sha256[:8]
        store(
            *(
                row(
                    f"{name}-{at}",
                    text=text,
                    model_sha256=champion.model_sha256,
                    probabilities=answer,
                    received_at=1_000.0 + 30 * at,
                    audit=at < audited,
                )
                for at, (text, answer) in enumerate(zip(texts, answers_NC, strict=True))
            )
        )
        for at in range(audited):
            add_feedback("tiny", f"{name}-{at}", 0, labels[at], 1e6)
        return texts, labels


def _draw(predictor: Predictor, n: int, rng: np.random.Generator, shares: Any = None) -> tuple[list[str], list[str]]:
    words = [word for word in WORDS if not word.startswith("#")]
    texts = [" ".join(rng.choice(words, NUM_WORDS)) for _ in range(n if shares is None else 5 * n)]
    chances_NC = predictor.predict(texts, batch_size=256)
    labels_N = np.array([rng.choice(len(row), p=row / row.sum()) for row in chances_NC.astype(np.float64)])
    if shares is not None:
        wanted = [
            np.flatnonzero(labels_N == at)[:count]
            for at, count in enumerate(np.round(n * np.array(shares)).astype(int))
        ]
        kept = rng.permutation(np.concatenate(wanted))
        texts, labels_N = [texts[at] for at in kept], labels_N[kept]
    return texts, [LABELS[at] for at in labels_N]


def make_world(folder: Path, *, rows: int = 3_000) -> World:
    """Data and model as `retort run` leaves them in the store, made in seconds."""
    rng = np.random.default_rng(0)
    plain = write_tiny_model(folder / "plain", labels=LABELS, seed=0)
    source = folder / "rows"
    source.mkdir()
    for split, num in (("train", 300), ("validation", rows // 2), ("test", rows)):
        with (source / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            writer.writerows(zip(*_draw(Predictor(plain), num, rng), strict=True))
    config = DataConfig(source=str(source))
    data = run_step(
        "data", kind="data", inputs=fingerprint(config, None), config={}, code="tasks.types",
        make=lambda out, work: prepare(config, out),
    ).artifact  # fmt: skip
    base = run_step(
        "calibrate", kind="onnx", inputs=[data], config={}, code="tasks.types",
        make=lambda out, work: _model(out, data),
    ).artifact  # fmt: skip
    return World(data=data, base=base, rng=rng)


def _model(out: Path, data: Artifact) -> None:
    write_tiny_model(out, labels=LABELS, seed=0)
    manifest = Manifest.read(out)
    files = {path: digest for path, digest in folder_files(out).items() if path != "retort.json"}
    manifest.model_copy(update={"lineage": {"data": data.sha256}, "files": files}).write(out)


def serve(model: Artifact, version: str) -> Champion:
    """Bless this model and make it the champion."""
    entry = bless(model, version)
    assert ledger.swap_champion(
        entry, expected=ledger.read_champion("tiny"), action="promote", who="ada", why="first", evidence={}
    )
    return entry


def bless(model: Artifact, version: str) -> Champion:
    """The ledger entry of a version that passed its boot check."""
    entry = Champion(
        name="tiny", version=version, model_sha256=model.sha256, model_path=model.path, bento=f"tiny:{version}"
    )
    ledger.record(entry, action="bless", who="retort", why="boot check passed", evidence={})
    return entry
