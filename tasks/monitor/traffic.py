"""From the request log to what a look compares: the champion's reference and the window."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento import settings
from bento.errors import UserError
from bento.manifest import Manifest, folder_sha256
from bento.predictor import Predictor
from bento.prior import PriorCorrection
from bento.records import read_window
from bento.redaction import is_readable
from tasks.data import read_split
from tasks.monitor.config import MonitorConfig
from tasks.monitor.encoder import embed, export_encoder, packaged_encoder
from tasks.monitor.harm import Baseline, baseline_of
from tasks.monitor.reference import Reference, fit_reference
from tasks.monitor.triage import HeldOut, sureness
from tasks.monitor.window import Window, describe, distinct_rows
from tasks.stats.permutation import time_blocks
from tasks.stats.prior import thin_to_mix
from tasks.store import Step, load_artifact, run_step
from tasks.types import Artifact

LARGEST_GAP = 0.05
"""By how much the probabilities of a logged answer may miss a sum of 1; they are stored rounded."""
HELD_OUT = ("validation", "test")
"""Splits that the reference is made of, in this order."""
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
    prior: PriorCorrection | None = None
    """The mix that its answers are corrected for, if they are."""


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
    return Watched(name=name, folder=folder, sha256=sha256, labels=manifest.labels, data=data, prior=manifest.prior)


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
    held_out = [read_split(watched.data.path, name) for name in HELD_OUT]
    texts = [text for split in held_out for text in split.texts]
    truth = [label for split in held_out for label in split.labels]
    probabilities_NC = Predictor(watched.folder).predict(texts)
    index = {label: at for at, label in enumerate(watched.labels)}
    labels_N = np.array([index.get(label, -1) for label in truth])
    rows, rng = np.flatnonzero(labels_N >= 0), np.random.default_rng(0)
    shares_C = np.bincount(labels_N[rows], minlength=len(watched.labels)) / len(rows)
    most = config.reference
    plain_NC: NDArray[np.floating] = probabilities_NC
    if watched.prior:  # what it was corrected for is no drift; what it was estimated from bounds how well that is known
        rows = rows[thin_to_mix(labels_N[rows], np.array(watched.prior.after), rng)]
        most, plain_NC = min(most, watched.prior.num_rows), watched.prior.undo(probabilities_NC)
    fit_reference(
        embed(encoder, texts)[rows],
        plain_NC[rows],
        {name: values[rows] for name, values in describe(texts, encoder / "tokenizer.json").items()},
        labels_N=labels_N[rows],
        class_names=watched.labels,
        num_components=config.components,
        max_rows=most,
        prior_C=shares_C,
        rows_N=rows,
        rng=rng,
    ).save(out)
    first_test = len(held_out[0])
    judged = rows[rows >= first_test] if watched.prior else np.arange(first_test, len(texts))
    correct_N = probabilities_NC.argmax(axis=1)[judged] == labels_N[judged]
    HeldOut(sureness=sureness(probabilities_NC[judged]), correct_N=correct_N).save(out)


def read_reference(artifact: Artifact) -> tuple[Reference, Baseline]:
    """What `make_reference` stored."""
    return Reference.load(artifact.path), baseline_of(HeldOut.load(artifact.path))


def reference_texts(watched: Watched, reference: Reference) -> list[Any]:
    """The text, or pair, of each reference row."""
    texts = [text for name in HELD_OUT for text in read_split(watched.data.path, name).texts]
    return [texts[row] for row in reference.rows_M]


def take_window(watched: Watched, encoder: Artifact, config: MonitorConfig) -> Window:
    """The newest distinct texts that this champion answered."""
    logged = answered(watched, config)
    sound = [row for row in logged if is_sound(row["probabilities"], len(watched.labels))]
    rows = [row for row in sound if is_readable(row["text"])]
    texts = [_text(row) for row in rows]
    kept = distinct_rows(texts, limit=config.window)
    chosen = [texts[at] for at in kept]
    probabilities_NC = np.array([rows[at]["probabilities"] for at in kept]).reshape(len(kept), len(watched.labels))
    return Window(
        texts=chosen,
        embeddings_ND=embed(encoder.path, chosen) if chosen else np.empty((0, 1), dtype=np.float32),
        probabilities_NC=watched.prior.undo(probabilities_NC) if watched.prior else probabilities_NC,
        descriptors=describe(chosen, encoder.path / "tokenizer.json"),
        timestamps_s_N=np.array([rows[at]["received_at"] for at in kept]),
        items=[(rows[at]["request_id"], rows[at]["item"]) for at in kept],
        num_unreadable=len(sound) - len(rows),
        num_damaged=len(logged) - len(sound) + len(_from_the_future(watched, config)),
    )


def is_sound(probabilities: Any, num_classes: int) -> bool:
    """Whether a logged answer is one: a finite number for each class, which sum to about 1."""
    if not isinstance(probabilities, list) or len(probabilities) != num_classes:
        return False
    if not all(isinstance(share, int | float) and not isinstance(share, bool) for share in probabilities):
        return False
    return bool(np.isfinite(probabilities).all()) and abs(sum(probabilities) - 1) <= LARGEST_GAP


def _from_the_future(watched: Watched, config: MonitorConfig) -> list[dict[str, Any]]:
    """Rows that a clock, since set back, stamped later than now: no order in time can be made of them."""
    return read_window(watched.name, time.time() + 1, float("inf"), config.window)


def answered(watched: Watched, config: MonitorConfig) -> list[dict[str, Any]]:
    """Logged rows that this champion answered, oldest first."""
    rows = read_window(watched.name, 0.0, time.time() + 1, config.window * OVERSAMPLE)
    return [row for row in rows if row["model_sha256"] == watched.sha256 and row["arm"] == "champion"]


def _text(row: Mapping[str, Any]) -> Any:
    return (row["text"], row["text_pair"]) if row["text_pair"] else row["text"]


@dataclass(frozen=True, kw_only=True)
class Answered:
    """The window's distinct texts as a prior correction needs them: N rows, C classes."""

    probabilities_NC: NDArray[np.float64]
    """Without a prior correction."""
    audited_N: NDArray[np.int64]
    """Class index of rows that were drawn for audit and labelled; -1 of the others."""
    blocks_N: NDArray[np.int64]
    """Which rows came together."""


def answered_window(watched: Watched, config: MonitorConfig) -> Answered:
    """What `take_window` takes, with the labels of the random audit and without embeddings."""
    sound = [row for row in answered(watched, config) if is_sound(row["probabilities"], len(watched.labels))]
    rows = [row for row in sound if is_readable(row["text"])]
    kept = [rows[at] for at in distinct_rows([_text(row) for row in rows], limit=config.window)]
    probabilities_NC = np.array([row["probabilities"] for row in kept]).reshape(len(kept), len(watched.labels))
    index = {label: at for at, label in enumerate(watched.labels)}
    audited = [index.get(row["true_label"], -1) if row["audit"] else -1 for row in kept]
    return Answered(
        probabilities_NC=watched.prior.undo(probabilities_NC) if watched.prior else probabilities_NC,
        audited_N=np.array(audited, dtype=np.int64),
        blocks_N=time_blocks(np.array([row["received_at"] for row in kept])),
    )
