"""From the request log to what a look compares: the champion's reference, the window, and the labelled rows."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from bento import settings
from bento.errors import UserError
from bento.manifest import Manifest, folder_sha256
from bento.predictor import Predictor
from bento.records import labelled_rows, read_window
from tasks.data import read_split
from tasks.monitor.config import MonitorConfig
from tasks.monitor.encoder import embed, export_encoder, packaged_encoder
from tasks.monitor.harm import Baseline, HarmEvidence, audit
from tasks.monitor.reference import Reference, fit_reference
from tasks.monitor.window import Window, describe, distinct_rows
from tasks.store import Step, load_artifact, run_step
from tasks.types import Artifact

COMPLETE = 0.9
"""From this share of labelled requests on, which ones are labelled hardly matters."""
OVERSAMPLE = 5
"""Logged rows that are read for each distinct text that a window may hold."""


@dataclass(frozen=True, kw_only=True)
class Watched:
    """A champion as the monitor knows it."""

    name: str
    folder: Path
    sha256: str
    labels: tuple[str, ...]
    data: Artifact
    """What it was built and evaluated on."""


def watch(name: str, folder: Path, sha256: str) -> Watched:
    """The champion with the data that it was evaluated on. Raises: UserError when those are gone from the store."""
    manifest = Manifest.read(folder)
    if manifest.target.task != "single_label":
        raise UserError(f"monitor: watches models of one class a text; {name} answers {manifest.target.task}")
    data = load_artifact(str(manifest.lineage.get("data")), kind="data", made_by="data")
    if data is None:
        raise UserError(
            f"monitor: expected the data of {name}'s champion in {settings.store_folder()}, but it is gone or altered; "
            "run its build again with `retort run`"
        )
    return Watched(name=name, folder=folder, sha256=sha256, labels=manifest.labels, data=data)


def make_encoder(config: MonitorConfig) -> Step:
    """The frozen encoder as ONNX, the same one for all time."""
    source = Path(config.encoder) if config.encoder else packaged_encoder()
    return run_step(
        "encoder",
        kind="encoder",
        inputs=[folder_sha256(source) if source.is_dir() else f"hub:{source}"],
        config={},
        code="tasks.monitor.encoder",
        make=lambda out, work: export_encoder(source, out),
    )


def make_reference(watched: Watched, encoder: Artifact, config: MonitorConfig) -> Step:
    """Embeddings, answers and descriptors of held-out rows, and how many of the test rows the champion got wrong."""
    return run_step(
        "reference",
        kind="features",
        inputs=(watched.data, watched.sha256, encoder),
        config={"components": config.components, "reference": config.reference},
        code="tasks.monitor.traffic",
        make=lambda out, work: _reference(watched, encoder.path, config, out),
    )


def _reference(watched: Watched, encoder: Path, config: MonitorConfig, out: Path) -> None:
    held_out = [read_split(watched.data.path, name) for name in ("validation", "test")]
    texts = [text for split in held_out for text in split.texts]
    truth = [label for split in held_out for label in split.labels]
    probabilities_NC = Predictor(watched.folder).predict(texts)
    index = {label: at for at, label in enumerate(watched.labels)}
    labels_N = np.array([index.get(label, -1) for label in truth])
    known = labels_N >= 0
    fit_reference(
        embed(encoder, texts)[known],
        probabilities_NC[known],
        {name: values[known] for name, values in describe(texts, encoder / "tokenizer.json").items()},
        labels_N=labels_N[known],
        class_names=watched.labels,
        num_components=config.components,
        max_rows=config.reference,
        rng=np.random.default_rng(0),
    ).save(out)
    num_test = len(held_out[1])
    wrong_N = probabilities_NC.argmax(axis=1)[-num_test:] != labels_N[-num_test:]
    baseline = {"num_errors": int(wrong_N.sum()), "num_rows": num_test}
    (out / "baseline.json").write_text(json.dumps(baseline), encoding="utf-8")


def read_reference(artifact: Artifact) -> tuple[Reference, Baseline]:
    """What `make_reference` stored."""
    baseline = json.loads((artifact.path / "baseline.json").read_text(encoding="utf-8"))
    return Reference.load(artifact.path), Baseline(**baseline)


def take_window(watched: Watched, encoder: Artifact, config: MonitorConfig) -> Window:
    """The newest distinct texts that this champion answered."""
    rows = _answered(watched, config)
    texts = [_text(row) for row in rows]
    kept = distinct_rows(texts, limit=config.window)
    chosen = [texts[at] for at in kept]
    num_classes = len(watched.labels)
    return Window(
        texts=chosen,
        embeddings_ND=embed(encoder.path, chosen) if chosen else np.empty((0, 1), dtype=np.float32),
        probabilities_NC=np.array([rows[at]["probabilities"] for at in kept]).reshape(len(kept), num_classes),
        descriptors=describe(chosen, encoder.path / "tokenizer.json"),
        timestamps_s_N=np.array([rows[at]["received_at"] for at in kept]),
    )


def _answered(watched: Watched, config: MonitorConfig) -> list[dict[str, Any]]:
    """Logged rows that this champion answered, oldest first."""
    rows = read_window(watched.name, 0.0, time.time() + 1, config.window * OVERSAMPLE)
    return [row for row in rows if row["model_sha256"] == watched.sha256 and row["arm"] == "champion"]


def judge_harm(watched: Watched, baseline: Baseline, config: MonitorConfig) -> HarmEvidence:
    """Audited accuracy of this champion from the newest labels.

    Labels that clients volunteer need not be a random sample. So the randomly drawn ones count alone where they are
    enough for a verdict, unless nearly all traffic is labelled, when there is nothing to select.
    """
    recent = _answered(watched, config)[-config.window :]
    labelled = [row for row in recent if row["true_label"] is not None]
    if len(labelled) < COMPLETE * len(recent):
        ever = [row for row in labelled_rows(watched.name, 0.0) if row["model_sha256"] == watched.sha256]
        drawn = [row for row in ever if row["audit"]]
        labelled = (drawn if len(drawn) >= config.min_labels else ever)[-config.window :]
    return audit(
        [row["true_label"] for row in labelled],
        [row["label"] for row in labelled],
        known_labels=watched.labels,
        baseline=baseline,
        config=config,
    )


def write_labelled(name: str) -> Path | None:
    """All labelled requests as a file of rows for a retrain, named by its content; None when there are none."""
    rows = [_training_row(row) for row in labelled_rows(name, 0.0)]
    if not rows:
        return None
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    folder = settings.home() / "feedback"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.jsonl"
    temporary = path.with_suffix(f".{uuid4().hex[:8]}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
    return path


def _training_row(row: Mapping[str, Any]) -> dict[str, Any]:
    fields = {"text": row["text"], "label": row["true_label"]}
    return fields | ({"text_pair": row["text_pair"]} if row["text_pair"] else {})


def _text(row: Mapping[str, Any]) -> Any:
    return (row["text"], row["text_pair"]) if row["text_pair"] else row["text"]


def label_mix(reference: Mapping[str, float], window: Mapping[str, float]) -> dict[str, Sequence[float]]:
    """Class -> its share in the reference and in the window."""
    return {label: (share, window[label]) for label, share in reference.items() if label in window}
