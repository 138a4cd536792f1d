"""BERT's uncased tokenizer in two steps: a text into words, and words, one by one, into pieces that are remembered.

WordPiece (Wu 2016, section 4.1) cuts a word without a look at its neighbours, so the ids of a plain text are those of
its words one after the other, and of words that were seen before a look-up finds them in a fraction of the time.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from tokenizers import Tokenizer

PLAIN = re.compile(r"[\t\n\r -Z\\-~]*")
"""ASCII without control characters, which are no spaces to BERT though they are to Python, and without the bracket that
special tokens begin with."""
WORD = re.compile(r"[0-9a-z]+|[^0-9a-z\s]")
"""BERT's words of such a text: runs of letters and digits, and other signs alone."""
SPACES = re.compile(r"[\t\n\r ]+")
MAX_CHARACTERS = 4_000
"""Longer texts are left to the tokenizer, which cuts them without Python's lock."""
MAX_WORDS = 1 << 15
"""Words that are remembered; then all are forgotten, else rare ones might keep the place of frequent ones for ever."""
MAX_WORD_CHARACTERS = 32


class Encoded(Protocol):
    """What a model reads of a text: a `tokenizers.Encoding`, or `Tokens`."""

    @property
    def ids(self) -> list[int]:
        """One a token."""

    @property
    def type_ids(self) -> list[int]:
        """0, and 1 in the second text of a pair."""

    def __len__(self) -> int:
        """How many there are."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of one text, or of two."""

    ids: list[int]
    type_ids: list[int]

    def __len__(self) -> int:
        """How many there are."""
        return len(self.ids)


class Uncased:
    """One tokenizer with the words that it has cut; for any number of threads."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """`tokenizer` is one that `is_uncased`."""
        self.tokenizer = tokenizer
        self.max_tokens = int(tokenizer.truncation["max_length"])
        self.begin, self.end = tokenizer.encode("").ids
        self._known: dict[str, tuple[int, ...]] = {}

    def normalized(self, text: str) -> str:
        """One of all plain texts that have these very tokens; any other text as it is."""
        return " ".join(text.lower().split()) if PLAIN.fullmatch(text) else text

    def tokens(self, text: str, pair: str | None = None) -> Tokens | None:
        """What the tokenizer makes of a text, or of two; None of long texts, and of two that have to be cut."""
        if len(text) + len(pair or "") > MAX_CHARACTERS:
            return None
        ids = [self.begin, *self._pieces(text)]
        if pair is None:
            del ids[self.max_tokens - 1 :]
            ids.append(self.end)
            return Tokens(ids, [0] * len(ids))
        ids.append(self.end)
        more = [*self._pieces(pair), self.end]
        if len(ids) + len(more) > self.max_tokens:
            return None
        return Tokens(ids + more, [0] * len(ids) + [1] * len(more))

    def _pieces(self, text: str) -> list[int]:
        ids: list[int] = []
        for word in _words(text):
            ids += self._known.get(word) or self._cut(word)
            if len(ids) > self.max_tokens:
                break
        return ids

    def _cut(self, word: str) -> Iterable[int]:
        pieces = tuple(self.tokenizer.encode(word, add_special_tokens=False).ids)
        if len(word) <= MAX_WORD_CHARACTERS:
            if len(self._known) >= MAX_WORDS:
                self._known.clear()
            self._known[word] = pieces
        return pieces


def _words(text: str) -> list[str]:
    """What is cut by itself: words, and where there is more than plain text, what stands between spaces."""
    if PLAIN.fullmatch(text):
        return WORD.findall(text.lower())
    parts = SPACES.split(text)
    return [word for part in parts for word in (WORD.findall(part.lower()) if PLAIN.fullmatch(part) else [part])]


def is_uncased(tokenizer: Tokenizer) -> bool:
    """Whether this is BERT's uncased tokenizer."""
    stages = json.loads(tokenizer.to_str())
    normalizer, splitter = stages["normalizer"] or {}, stages["pre_tokenizer"] or {}
    special = [token["content"] for token in stages["added_tokens"]]
    return (
        (normalizer.get("type"), normalizer.get("lowercase")) == ("BertNormalizer", True)
        and normalizer.get("clean_text") is True
        and splitter.get("type") == "BertPreTokenizer"
        and stages["model"]["type"] == "WordPiece"
        and all(token.startswith("[") and len(token.split()) == 1 for token in special)
        and _is_framed(tokenizer)
    )


def _is_framed(tokenizer: Tokenizer) -> bool:
    """Whether a text stands between two special tokens, and a second one behind it with types of its own."""
    frame, pair = tokenizer.encode(""), tokenizer.encode("a", "b")
    if len(frame) != 2:
        return False
    begin, end = frame.ids
    first, second = (tokenizer.encode(part, add_special_tokens=False).ids for part in "ab")
    expected = [begin, *first, end, *second, end]
    types = [0] * (len(first) + 2) + [1] * (len(second) + 1)
    return (pair.ids, pair.type_ids) == (expected, types)
