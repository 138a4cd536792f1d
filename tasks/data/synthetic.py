"""A synthetic help desk: made-up messages in 14 intents, for trying the whole loop without any data or network.

It is honestly made up, and made not to be trivial: each split has sentence families, distracting remarks and some
words of its own; neighbouring intents (order, repair, return) share their vocabulary; and there are typos. A bag of
words therefore does clearly worse than a pretrained encoder. Later periods shift vocabulary (new products), mix
(which topics are frequent) and meaning (a topic belongs to another intent), so that yesterday's model loses accuracy.
"""

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bento.errors import DataError
from tasks.data.files import Table
from tasks.data.phrases import TOPICS
from tasks.data.words import CLOSERS, DISTRACTORS, OPENERS, TEST_WORDS, WORDS
from tasks.types import SPLITS

NEW_PRODUCTS = (
    {
        "device": ("Lumo 3", "Lumo Pad", "Visor X"),
        "app": ("Quillo", "Marbleboard", "Fennec"),
        "folder": ("the Orbit vault",),
    },
    {"device": ("Tesselo", "Nimbus bar"), "app": ("Peregrine", "Hollow Forge"), "folder": ("the Cobalt shelf",)},
    {"device": ("Kestrel ring", "Mossbook"), "app": ("Tandem Atlas", "Brindle"), "folder": ("the Juniper hall",)},
)
"""Products that appear with each later period; from then on most messages are about them."""
MOVED = (
    {"device_battery": "return_device", "install": "request_access", "locked_attempts": "reset_password"},
    {"device_broken": "return_device", "too_many_rights": "remove_software", "suspicious_mail": "account_hacked"},
    {"device_upgrade": "request_access", "free_space": "ticket_status", "update": "ticket_status"},
)
"""Topic -> the intent that it belongs to from each later period on: new devices are leased, so a tired one is swapped;
new programs are ordered as a right; a lock is only lifted by a new password; and so on."""

OLD_PRODUCT_SHARE = 0.1
MOVED_WEIGHT = 3.0
DISTRACTOR_SHARE = 0.5
OPENER_SHARE = 0.35
CLOSER_SHARE = 0.35
TEST_WORD_SHARE = 0.5
TYPO_SHARE = 0.35
MAX_TRIES_PER_ROW = 50


def intents(period: int = 0) -> tuple[str, ...]:
    """The labels that occur in `period`, sorted."""
    return tuple(sorted({intent_of(topic, period) for topic in TOPICS}))


def intent_of(topic: str, period: int) -> str:
    """The intent that `topic` belongs to in `period`."""
    for moved in reversed(MOVED[:period]):
        if topic in moved:
            return moved[topic]
    return TOPICS[topic].intent


def generate(num_rows: int, *, split: str, period: int, rng: np.random.Generator) -> list[tuple[str, str]]:
    """`num_rows` different (text, label) of one split and period.

    Raises: DataError where the sentences of the split do not give that many.
    """
    topics, weights = list(TOPICS), _topic_weights(period)
    rows: dict[str, str] = {}
    for _ in range(num_rows * MAX_TRIES_PER_ROW):
        if len(rows) == num_rows:
            break
        topic = topics[int(rng.choice(len(topics), p=weights))]
        rows.setdefault(_message(topic, split, period, rng), intent_of(topic, period))
    else:
        raise DataError(f"the generator has fewer than {num_rows} different {split} messages; ask for fewer")
    return list(rows.items())


def parts(*, rows: int, period: int, seed: int) -> dict[str, list[tuple[str, str]]]:
    """Split name -> (text, label) rows: `rows` to train, a sixth of it to validate, five sixths to test."""
    sizes = {"train": rows, "validation": rows // 6, "test": rows * 5 // 6}
    streams = np.random.default_rng([seed, period]).spawn(len(SPLITS))
    return {
        split: generate(sizes[split], split=split, period=period, rng=rng)
        for split, rng in zip(SPLITS, streams, strict=True)
    }


def tables(*, rows: int, period: int, seed: int) -> dict[str, list[Table]]:
    """The generated rows as the tables of a source."""
    return {
        split: [
            Table(
                file=f"synthetic/{split}",
                columns=("text", "label"),
                records=[(n, {"text": text, "label": label}) for n, (text, label) in enumerate(members, start=1)],
            )
        ]
        for split, members in parts(rows=rows, period=period, seed=seed).items()
    }


def write_files(folder: Path, *, rows: int, period: int, seed: int) -> list[Path]:
    """Write train.csv, validation.csv and test.csv to `folder`, for use as a source or as traffic of a period.

    Raises: DataError for a place that is no folder; where there are fewer messages nothing is left.
    """
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: expected a folder, new or not, got a file; name another one")
    found = parts(rows=rows, period=period, seed=seed)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: expected a folder, new or not, got: {error.strerror}; name another one") from error
    written = []
    for split, members in found.items():
        path = folder / f"{split}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *members])
        written.append(path)
    return written


def _topic_weights(period: int) -> Sequence[float]:
    """Probability of each topic: uneven, another unevenness in each period, and the moved topics frequent."""
    rng = np.random.default_rng(period)
    weights = np.exp(rng.normal(0.0, 0.35, size=len(TOPICS)))
    for at, topic in enumerate(TOPICS):
        if any(topic in moved for moved in MOVED[:period]):
            weights[at] *= MOVED_WEIGHT
    normalised: Sequence[float] = weights / weights.sum()
    return normalised


def _message(topic: str, split: str, period: int, rng: np.random.Generator) -> str:
    """One message: perhaps an opener, a distracting remark before or after, the sentence, a closer; perhaps typos."""
    core = _fill(_pick(TOPICS[topic].families[split], rng), split, period, rng)
    pieces = [core]
    if rng.random() < DISTRACTOR_SHARE:
        remark = _fill(_pick(DISTRACTORS[split], rng), split, 0, rng)
        pieces = [remark, core] if rng.random() < 0.5 else [f"{core}.", remark]
    if rng.random() < OPENER_SHARE:
        pieces.insert(0, _pick(OPENERS[split], rng))
    if rng.random() < CLOSER_SHARE:
        pieces.append(f"- {_pick(CLOSERS[split], rng)}")
    text = " ".join(pieces)
    return _with_typo(text, rng) if rng.random() < TYPO_SHARE else text


def _fill(template: str, split: str, period: int, rng: np.random.Generator) -> str:
    """Resolve the choices and put words into the slots."""
    text = template
    while (match := re.search(r"\[([^\[\]]*)\]", text)) is not None:
        text = text[: match.start()] + _pick(match.group(1).split("|"), rng) + text[match.end() :]
    text = re.sub(r"\{(\w+)\}", lambda slot: _pick(_words(slot.group(1), split, period, rng), rng), text)
    return " ".join(text.split())


def _words(slot: str, split: str, period: int, rng: np.random.Generator) -> Sequence[str]:
    """The words of one slot: new products in later periods, else the split's own words."""
    new: list[str] = [word for products in NEW_PRODUCTS[:period] for word in _of(products, slot)]
    if new and rng.random() >= OLD_PRODUCT_SHARE:
        return new
    return TEST_WORDS[slot] if split == "test" and rng.random() < TEST_WORD_SHARE else WORDS[slot]


def _of(products: Mapping[str, Sequence[str]], slot: str) -> Sequence[str]:
    return products.get(slot, ())


def _pick(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]


def _with_typo(text: str, rng: np.random.Generator) -> str:
    """Swap, drop or double one or two letters inside words."""
    letters = list(text)
    for _ in range(int(rng.integers(1, 3))):
        inside = [at for at in range(1, len(letters) - 2) if letters[at].isalpha() and letters[at + 1].isalpha()]
        at = inside[int(rng.integers(len(inside)))]
        kind = rng.integers(3)
        if kind == 0:
            letters[at], letters[at + 1] = letters[at + 1], letters[at]
        elif kind == 1:
            del letters[at]
        else:
            letters.insert(at, letters[at])
    return "".join(letters)
