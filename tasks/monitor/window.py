"""A window of traffic: which rows a look compares, and what can be told of their text without a model.

Shapes: N rows, D embedding dimensions, C classes.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.data.rows import row_id

URL = re.compile(r"https?://|www\.", re.IGNORECASE)
WORD = re.compile(r"[^\W\d_]+")
FUNCTION_WORDS = frozenset(
    [
        "the", "of", "and", "to", "a", "in", "is", "it", "you", "that", "he", "was", "for", "on", "are", "with", "as",
        "i", "his", "they", "be", "at", "one", "have", "this", "from", "or", "had", "by", "not", "but", "what", "all",
        "were", "we", "when", "your", "can", "said", "there", "an", "which", "she", "do", "how", "their", "if", "will",
        "my", "me", "our", "us", "has", "its", "am", "so", "been", "who", "would",
    ]
)  # fmt: skip
"""The commonest words of English: about half of any English text, and hardly any of another language."""
UNKNOWN_TOKENS = ("[UNK]", "<unk>")


@dataclass(frozen=True, kw_only=True)
class Window:
    """Distinct texts in order of time, with the champion's answers and what was measured of them."""

    texts: Sequence[Any]
    """A string a row, or a pair of strings."""
    embeddings_ND: NDArray[np.floating]
    """By the frozen encoder."""
    probabilities_NC: NDArray[np.floating]
    """By the champion, classes in the reference's order."""
    descriptors: Mapping[str, NDArray[np.floating]]
    timestamps_s_N: NDArray[np.float64] | None = None
    """When each row came; rows of one hour are then exchanged together."""
    items: Sequence[tuple[str, int]] = ()
    """Request id and item of each row, as the log has them."""
    num_unreadable: int = 0
    """Requests beside these whose texts were hashed or dropped, so that nothing can be said of them."""
    num_damaged: int = 0
    """Logged answers beside these that are none, or that a wrong clock stamped later than now."""

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def sha256(self) -> str:
        """Digest of the rows' ids, in order."""
        return hashlib.sha256("\n".join(text_id(text) for text in self.texts).encode()).hexdigest()


def text_id(text: Any) -> str:
    """The id of a text or pair, the same for texts that differ in case or spaces only."""
    return row_id(text) if isinstance(text, str) else row_id(text[0], text[1])


def distinct_rows(texts: Sequence[Any], *, limit: int) -> list[int]:
    """Where the newest `limit` distinct texts are, in order of time, given texts in order of time.

    Of a repeated text the newest occurrence counts: one that everybody sends must not look like drift by its number.
    """
    newest: dict[str, int] = {}
    for at in range(len(texts) - 1, -1, -1):
        if len(newest) == limit:
            break
        newest.setdefault(text_id(texts[at]), at)
    return sorted(newest.values())


def _share(found: Sequence[bool]) -> float:
    return sum(found) / max(len(found), 1)


def describe(texts: Sequence[Any], tokenizer_file: Path) -> dict[str, NDArray[np.float32]]:
    """Length, shares of unknown and of split words, URLs and language: one value a text by descriptor name.

    Language is measured and not named: the share of letters beyond ASCII, which tells scripts and most alphabets apart,
    and the share of words that are among the commonest of English, which tells English from what else is written with
    ASCII letters. Both need no model, no download and no threshold, and a look only asks whether they moved.

    `tokenizer_file` is a `tokenizer.json`; take the frozen encoder's, so that the meaning does not change.
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    joined = [text if isinstance(text, str) else " ".join(text) for text in texts]
    encodings = tokenizer.encode_batch(joined, add_special_tokens=False)
    num_tokens = np.array([max(len(encoding.ids), 1) for encoding in encodings])
    num_words = np.array([max(len(text.split()), 1) for text in joined])
    unknown = {tokenizer.token_to_id(token) for token in UNKNOWN_TOKENS} - {None}
    num_unknown = np.array([sum(token in unknown for token in encoding.ids) for encoding in encodings])
    columns = {
        "length": np.log1p([len(text) for text in joined]),
        "unknown_tokens": num_unknown / num_tokens,
        "tokens_per_word": num_tokens / num_words,
        "non_ascii_letters": np.array(
            [_share([not letter.isascii() for letter in text if letter.isalpha()]) for text in joined]
        ),
        "function_words": np.array(
            [_share([word in FUNCTION_WORDS for word in WORD.findall(text.lower())]) for text in joined]
        ),
        "url": np.array([URL.search(text) is not None for text in joined]),
    }
    return {name: np.asarray(values, dtype=np.float32) for name, values in columns.items()}
