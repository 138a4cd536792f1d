"""Where the labelled text comes from: files, a folder, a hub data set, or the synthetic generator."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from bento.errors import DataError
from bento.manifest import file_sha256
from bento.task_types import Task
from tasks.data.files import SUFFIXES, Table, check_file, read_table
from tasks.data.rows import Findings, listed
from tasks.types import SPLITS, Section

SYNTHETIC = "synthetic"
NAMES = {"train": ("train", "training"), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}
"""What a split may be called, as a file in a folder or as a part of a hub data set."""


class DataConfig(Section):
    """The labelled text and how it is divided."""

    source: str = Field(min_length=1)
    """A folder with train/validation/test files (csv, tsv, jsonl, parquet), one such file, a Hugging Face hub id, or
    `synthetic`."""
    validation_file: str | None = None
    """Only beside a `source` that is one file: the validation part."""
    test_file: str | None = None
    """Only beside a `source` that is one file: the test part."""
    text: str = "text"
    """Column of the text."""
    label: str = "label"
    """Column of the truth: a class name (whole numbers are taken as names), a list of them, or a score."""
    task: Task = "single_label"
    """What a text has: one class of several; any number of them (multi_label); a number on a scale (score); or parts
    with a type (entities), given as a list of words in the text column and one of their BIO tags in the label
    column."""
    text_pair: str | None = None
    """Column of the second text, for sentence pairs."""
    revision: str | None = None
    """Commit, tag or branch of a hub data set."""
    subset: str | None = None
    """Configuration name of a hub data set that has several."""
    validation: float = Field(default=0.1, gt=0, le=0.4)
    """Share of the training rows that becomes the validation split where the source has none."""
    test: float = Field(default=0.2, gt=0, le=0.4)
    """Share of the rows that becomes the test split where the source has none."""
    unseen_labels: Literal["error", "drop"] = "error"
    """What becomes of validation and test rows whose label never occurs in training."""
    feedback_test: float = Field(default=0.3, ge=0, lt=1)
    """Share of the newly labelled rows of a retrain that is held out, as the most recent part of the test."""
    max_rows: int | None = Field(default=None, ge=2)
    """At most this many rows a split, stratified by label; for quick trials."""
    rows: int = Field(default=3000, ge=100, le=1_000_000)
    """Only for `synthetic`: training rows; validation gets a sixth of it, test five sixths."""
    period: int = Field(default=0, ge=0, le=3)
    """Only for `synthetic`: 0 is today; each later period shifts vocabulary, mix and meaning further."""
    seed: int = Field(default=0, ge=0)
    """Only for `synthetic`: the generator's seed."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        check_columns(self.text, self.label, self.text_pair, self.task)
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that every part must have."""
        return tuple(name for name in (self.text, self.label, self.text_pair) if name is not None)

    @property
    def kind(self) -> Literal["synthetic", "file", "folder", "hub"]:
        """Which of the four sources it is. Raises: DataError where it can be none of them."""
        path = Path(self.source).expanduser()
        if self.source == SYNTHETIC:
            return "synthetic"
        if path.is_dir():
            return "folder"
        if path.is_file():
            return "file"
        if re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", self.source) and path.suffix.lower() not in SUFFIXES:
            return "hub"
        raise DataError(
            f"data.source {self.source}: looked for a file or folder {path.absolute()}, but there is none, and it is "
            f"no hub id such as mteb/banking77; give a folder with train files, one *{', *'.join(SUFFIXES)} file, a "
            f"hub id, or `{SYNTHETIC}`"
        )


def check_columns(text: str, label: str, text_pair: str | None, task: Task | None) -> None:
    """Raises: DataError, which is a ValueError, for columns that are the same, or of pairs that have entities."""
    columns = [name for name in (text, label, text_pair) if name is not None]
    if len(set(columns)) < len(columns):
        raise DataError(f"data: text, label and text_pair must be different columns, got {', '.join(columns)}")
    if task == "entities" and text_pair is not None:
        raise DataError(f"data: entities are found in one text, got the second text_pair {text_pair}")


def fingerprint(config: DataConfig, extra: Path | None) -> list[str]:
    """Digests of everything outside that decides the data, for the step's cache key.

    Files give `split:sha256`, a hub data set its commit, the synthetic source nothing beyond its config.
    Raises: DataError.
    """
    found: list[str] = []
    if config.kind == "hub":
        found.append(f"hub:{config.source}@{_hub_commit(config)}")
    elif config.kind != "synthetic":
        for split, paths in locate(config).items():
            for path in paths:
                check_file(path)
                found.append(f"{split}:{file_sha256(path)}")
    if extra is not None:
        check_file(extra)
        found.append(f"extra:{file_sha256(extra)}")
    return found


def locate(config: DataConfig) -> dict[str, list[Path]]:
    """Split name -> its files, for a source of local files. Raises: DataError saying what was looked for."""
    source = Path(config.source).expanduser()
    if config.kind == "folder":
        if config.validation_file or config.test_file:
            raise DataError("data.validation_file and data.test_file go with a source that is one file, not a folder")
        return _locate_in_folder(source)
    named = {"train": config.source, "validation": config.validation_file, "test": config.test_file}
    return {split: [Path(name).expanduser()] for split, name in named.items() if name is not None}


def _locate_in_folder(folder: Path) -> dict[str, list[Path]]:
    present = sorted(path for path in folder.iterdir() if path.is_file())
    parts: dict[str, list[Path]] = {}
    for split in SPLITS:
        stem = rf"(?i)({'|'.join(NAMES[split])})(-\d+-of-\d+)?"
        paths = [path for path in present if path.suffix.lower() in SUFFIXES and re.fullmatch(stem, path.stem)]
        shards = [path for path in paths if "-of-" in path.stem]
        if len(paths) > 1 and len(shards) < len(paths):
            raise DataError(f"{folder}: several files for the {split} split: {listed(p.name for p in paths)}; keep one")
        if paths:
            parts[split] = paths
    if "train" not in parts:
        raise DataError(
            f"{folder}: looked for a file named train with one of the endings {', '.join(SUFFIXES)}; the folder has "
            f"{listed(path.name for path in present) or 'no files'}. Rename the training file, or make it data.source"
        )
    return parts


def read_tables(config: DataConfig, findings: Findings) -> dict[str, list[Table]]:
    """Split name -> its tables; faults of any file are collected in `findings`."""
    if config.kind == "hub":
        return {split: [table] for split, table in _read_hub(config).items()}
    if config.kind == "synthetic":
        from tasks.data.synthetic import tables

        return tables(rows=config.rows, period=config.period, seed=config.seed)
    return {split: _read_files(paths, config, findings) for split, paths in locate(config).items()}


def _read_files(paths: list[Path], config: DataConfig, findings: Findings) -> list[Table]:
    tables = []
    for path in paths:
        try:
            tables.append(read_table(path, config.columns))
        except DataError as error:
            findings.add("unreadable_file", "error", str(error), count=1)
    return tables


def _read_hub(config: DataConfig) -> dict[str, Table]:
    import datasets

    errors = (OSError, ValueError, KeyError, RuntimeError, datasets.exceptions.DatasetsError)
    load: Callable[..., Any] = datasets.load_dataset
    try:
        loaded = load(config.source, name=config.subset, revision=config.revision)
    except errors as error:
        raise _unreachable(config, error) from error
    parts = {name: part for name, part in loaded.items() if isinstance(name, str)}
    found = {split: next((name for name in NAMES[split] if name in parts), None) for split in SPLITS}
    if found["train"] is None:
        raise DataError(f"{config.source} has no train split; it has {listed(parts)}")
    return {split: _hub_table(config, name, parts[name]) for split, name in found.items() if name is not None}


def _hub_table(config: DataConfig, name: str, part: Any) -> Table:
    """One hub split as records; class numbers become the names that the data set declares for them."""
    feature = part.features.get(config.label)
    class_names = getattr(getattr(feature, "feature", feature), "names", None)
    records = []
    for number, values in enumerate(part, start=1):
        label = values.get(config.label)
        if class_names and isinstance(label, int):
            # -1 is the hub's mark for "no label".
            values = values | {config.label: class_names[label] if 0 <= label < len(class_names) else None}
        elif class_names and isinstance(label, list):
            values = values | {config.label: [class_names[at] for at in label]}
        records.append((number, dict(values)))
    return Table(file=f"{config.source}/{name}", columns=tuple(part.column_names), records=records)


def _hub_commit(config: DataConfig) -> str:
    """The commit that the hub's revision points at now; offline, the one in the local cache of `datasets`."""
    from huggingface_hub import HfApi

    try:
        info = HfApi().dataset_info(config.source, revision=config.revision, timeout=10)
        return str(info.sha)
    except (OSError, ValueError) as error:
        cached = _cached_commits(config)
        if not cached:
            raise _unreachable(config, error) from error
        return cached[-1]


def _cached_commits(config: DataConfig) -> list[str]:
    """Commits of this data set in the cache (`ORG___NAME/SUBSET/VERSION/COMMIT`), the one written last at the end."""
    import datasets

    folder = Path(datasets.config.HF_DATASETS_CACHE) / config.source.replace("/", "___")
    found = [path for path in folder.glob(f"{config.subset or '*'}/*/*") if path.is_dir() and "_tmp" not in path.name]
    if config.revision is not None and any(path.name == config.revision for path in found):
        return [config.revision]
    return [path.name for path in sorted(found, key=lambda path: path.stat().st_mtime)]


def _unreachable(config: DataConfig, error: Exception) -> DataError:
    offline = " HF_HUB_OFFLINE is set, so only the local cache was tried." if os.environ.get("HF_HUB_OFFLINE") else ""
    reason = f"{type(error).__name__}: {(str(error).splitlines() or ['no text'])[0][:200]}"
    return DataError(
        f"data.source {config.source}: there is no file or folder {Path(config.source).absolute()}, and loading it "
        f"from the Hugging Face hub failed ({reason}).{offline} Check the id and the network, or point to local files: "
        f"--set data.source=FOLDER, where FOLDER has train and test files (*{', *'.join(SUFFIXES)}), "
        "and name their columns with data.text and data.label"
    )
