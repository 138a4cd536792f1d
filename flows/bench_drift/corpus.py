"""The sets of real text that the streams are cut from, each embedded once and kept in the store.

A set is a folder with `train`, `validation` and `test` as CSV or JSON Lines, whose rows have `text` and `label`, and
where known `domain` and `timestamp`. Shapes: N rows, D embedding dimensions.
"""

import csv
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento.errors import DataError, UserError
from tasks.data.rows import row_id
from tasks.monitor.encoder import embed
from tasks.monitor.window import describe
from tasks.store import run_step
from tasks.types import SPLITS, Artifact

log = logging.getLogger("retort.bench")

SETS = ("angular_cli_commits", "health_news_tweets", "crisislex_t26", "clinc150", "sentiment_sentences", "snips",
        "banking77")  # fmt: skip
MAX_ROWS = 14_000
"""Of a larger set every so many rows are taken, evenly, so that the order in time stays."""
FEATURES = "features.npz"


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """One set, in order of time where that is known."""

    name: str
    texts: tuple[str, ...]
    labels_N: NDArray[np.str_]
    domains_N: NDArray[np.str_]
    """Empty where the set has none."""
    timed: bool
    """Whether the rows are in order of time; else files may be ordered by class."""
    embeddings_ND: NDArray[np.float32]
    """By the frozen encoder, of length 1."""
    descriptors: Mapping[str, NDArray[np.float32]]

    def __len__(self) -> int:
        return len(self.texts)


def read_corpora(folder: Path, encoder: Artifact) -> dict[str, Corpus]:
    """The sets that `folder` has, by name; a missing one is said. Raises: UserError when it has none."""
    present = [name for name in SETS if (folder / name).is_dir()]
    missing = [name for name in SETS if name not in present]
    if not present:
        raise UserError(
            f"bench drift: expected folders such as {SETS[0]} in {folder}, got none; name the folder that has them "
            "with --data"
        )
    if missing:
        log.warning("not measured, since %s lacks them: %s", folder, ", ".join(missing))
    return {name: read_corpus(folder / name, encoder) for name in present}


def read_corpus(folder: Path, encoder: Artifact) -> Corpus:
    """One set with its embeddings, from the store where they are there. Raises: DataError."""
    rows = [row for split in SPLITS for row in _read_split(folder, split)]
    if not rows:
        raise DataError(f"{folder}: expected train.csv or train.jsonl with rows, got none")
    rows.sort(key=lambda row: row["timestamp"])  # stable: without times the files' order stays
    rows = [rows[at] for at in np.linspace(0, len(rows) - 1, min(len(rows), MAX_ROWS)).astype(int)]
    texts = tuple(row["text"] for row in rows)
    features = _features(folder.name, texts, encoder)
    return Corpus(
        name=folder.name,
        texts=texts,
        labels_N=np.array([row["label"] for row in rows]),
        domains_N=np.array([row["domain"] for row in rows]),
        timed=all(row["timestamp"] for row in rows),
        embeddings_ND=features.pop("embeddings"),
        descriptors=features,
    )


def _read_split(folder: Path, split: str) -> Iterator[dict[str, str]]:
    for path, read in ((folder / f"{split}.csv", _read_csv), (folder / f"{split}.jsonl", _read_lines)):
        if path.is_file():
            for row in read(path):
                if not row.get("text") or not row.get("label"):
                    raise DataError(f"{path}: expected `text` and `label` in each row, got {row}")
                yield {key: str(row.get(key) or "") for key in ("text", "label", "domain", "timestamp")}


def _read_csv(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        yield from (json.loads(line) for line in file)


def _features(name: str, texts: tuple[str, ...], encoder: Artifact) -> dict[str, Any]:
    """Embeddings and descriptors of all texts."""

    def make_embeddings() -> dict[str, Any]:
        log.info("%s: embedding %s texts", name, f"{len(texts):,}")
        return {"embeddings": embed(encoder.path, texts)}

    def make_descriptors() -> dict[str, Any]:
        return dict(describe(texts, encoder.path / "tokenizer.json"))

    digest = hashlib.sha256("\n".join(row_id(text) for text in texts).encode()).hexdigest()
    made = ((make_embeddings, "tasks.monitor.encoder"), (make_descriptors, "tasks.monitor.window"))
    return {key: values for make, code in made for key, values in _stored(name, make, code, [digest, encoder]).items()}


def _stored(name: str, make: Callable[[], dict[str, Any]], code: str, inputs: list[Artifact | str]) -> dict[str, Any]:
    """The arrays that `make` gives, made once."""
    step = run_step(
        f"{code.rpartition('.')[2]} of {name}", kind="features", inputs=inputs, config={}, code=code,
        make=lambda out, work: np.savez(out / FEATURES, **make()),
    )  # fmt: skip
    with np.load(step.artifact.path / FEATURES, allow_pickle=False) as stored:
        return {key: stored[key] for key in stored.files}
