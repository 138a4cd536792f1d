"""Transfer text: sentences without labels, from a file or altered from the training text, that the teacher labels.

The teacher's logits are computed once for a set of settings and shared by every technique that trains on them.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Sequence
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from bento.errors import DataError
from bento.manifest import file_sha256
from tasks.augment import Alteration, altered_copies
from tasks.data import read_split, read_unlabelled
from tasks.data.files import read_table
from tasks.ensemble import ensemble_logits
from tasks.store import run_step
from tasks.types import Artifact, Section

if TYPE_CHECKING:
    from tasks.compress.context import Context

log = logging.getLogger("retort.transfer")

NUM_TEXTS = 100_000
"""How many texts the copies come to where their number is left open."""
MOST_COPIES = 16
"""No more copies of each text are made then; further ones say little new."""


class TransferConfig(Section):
    """Where text without labels comes from."""

    file: str | None = None
    """Unlabelled text: a .txt file with a sentence a line, or a csv, tsv, jsonl or parquet file."""
    column: str = "text"
    """Column of the text in a file that has columns."""
    copies: int | None = Field(default=None, ge=0, le=100)
    """Altered copies of each training text; as many as come to 100,000 texts, at least 1 and at most 16, where not
    given. Many copies seen twice teach more than few seen often."""
    drop: float = Field(default=0.1, ge=0, lt=1)
    """Share of the words that an altered copy leaves out."""
    typos: float = Field(default=0.05, ge=0, le=1)
    """Share of the words that get a wrong letter."""
    mix: float = Field(default=0.3, ge=0, le=1)
    """Share of the copies that splice the beginning of one text with the end of another."""
    random: float = Field(default=0.0, ge=0, le=1)
    """Largest share of a copy's words that become random ones of the student's vocabulary; each copy draws its own.
    Shows the student what the teacher says of text about something else, and of words that the training text lacks."""
    replace: float = Field(default=0.0, ge=0, lt=1)
    """Share of the words that the teacher's encoder replaces by what it would expect there, others in each copy."""


RECENT_ONLY = TransferConfig(copies=0)
"""The text without labels that a retrain took from the traffic, and no other."""


def chosen_transfer(config: TransferConfig | None, data: Path) -> TransferConfig | None:
    """What the config asks for; where it asks for nothing, recent traffic alone if the data has some."""
    return config or (RECENT_ONLY if read_unlabelled(data) else None)


def check_transfer(config: TransferConfig | None) -> None:
    """Before any compute. Raises: DataError for a file that is not there, or no text at all."""
    if config is None:
        return
    if config.file is not None:
        _existing(config.file)
    elif config.copies == 0:
        raise DataError(
            "transfer: expected a file or copies >= 1, got neither; give one, or write transfer: null, with which a "
            "retrain still takes its recent texts"
        )


def read_transfer(config: TransferConfig, context: "Context", words: Sequence[str] = ()) -> tuple[list[Any], Any]:
    """Texts and the teacher's logits_NC on them, made once; random words are drawn from `words`. Raises: DataError."""
    inputs: list[Artifact | str] = [context.data, *context.teachers]
    if config.file is not None:
        inputs.append(file_sha256(_existing(config.file)))
    if config.random > 0:
        inputs.append(hashlib.sha256(json.dumps(words).encode()).hexdigest())
    step = run_step(
        "transfer",
        kind="logits",
        inputs=inputs,
        config=config.model_dump(exclude={"file"}) | {"max_tokens": context.max_tokens, "seed": context.seed},
        code="tasks.transfer",
        make=lambda out, work: _make(config, context, words, out),
    )
    lines = (step.artifact.path / "texts.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [value if isinstance(value, str) else tuple(value) for value in map(json.loads, lines)]
    return texts, np.load(step.artifact.path / "logits.npy")


def _make(config: TransferConfig, context: "Context", words: Sequence[str], out: Path) -> None:
    train = list(read_split(context.data.path, "train").texts)
    rng = np.random.default_rng(context.seed)
    copies = num_copies(len(train)) if config.copies is None else config.copies
    versions: Iterable[list[Any]] = repeat(train, copies)
    if config.replace > 0 and copies:
        from tasks.masked import replaced_words

        versions = replaced_words(train, context, share=config.replace, versions=copies)
    texts = read_unlabelled(context.data.path) + _file_texts(config, train)
    how = Alteration(drop=config.drop, typos=config.typos, mix=config.mix, random=config.random, vocabulary=words)
    texts += altered_copies(train, versions, how, rng=rng)
    if not texts:
        raise DataError("transfer: expected a file or copies >= 1, got neither; give one, or leave transfer out")
    log.info("the teacher answers %d texts without labels", len(texts))
    folders = [teacher.path for teacher in context.teachers]
    np.save(out / "logits.npy", ensemble_logits(folders, texts, context.max_tokens, context.task))
    lines = (json.dumps(text, ensure_ascii=False) for text in texts)
    (out / "texts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def num_copies(num_train: int) -> int:
    """Altered copies of each of the training texts, where the config leaves their number open."""
    return min(MOST_COPIES, max(1, NUM_TEXTS // max(1, num_train)))


def whole_words(tokenizer: Any) -> list[str]:
    """The whole words of a vocabulary in its order, without pieces, numbers and single letters."""
    tokens = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    marks = "".join(mark for mark in "Ġ▁" if any(token.startswith(mark) for token in tokens))
    words = [token[1:] for token in tokens if token[0] in marks] if marks else tokens
    return [word for word in words if word.isalpha() and len(word) > 1]


def _file_texts(config: TransferConfig, train: list[Any]) -> list[Any]:
    """The file's texts that are not in training. Raises: DataError."""
    if config.file is None:
        return []
    path = _existing(config.file)
    if not isinstance(train[0], str):
        raise DataError("transfer.file: expected single texts in training, got pairs; use copies instead")
    if path.suffix.lower() == ".txt":
        found = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    else:
        table = read_table(path, [config.column])
        if config.column not in table.columns:
            raise DataError(
                f"{path}: expected a column {config.column!r}, got {', '.join(table.columns)}; set transfer.column"
            )
        found = [str(values[config.column]).strip() for _, values in table.records]
    known = set(train)
    return [text for text in dict.fromkeys(found) if text and text not in known]


def _existing(name: str) -> Path:
    path = Path(name).expanduser()
    if not path.is_file():
        raise DataError(f"transfer.file: expected a file of unlabelled text, but there is no {path}")
    return path
