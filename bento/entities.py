"""Entities in a text: its words, the token that carries each word's tag, and the spans that the tags make.

A word is a run of letters and digits, or any other sign alone; a sign of Chinese or Japanese script is a word of its
own. Words come from the text and not from a vocabulary, so that teacher and student answer for the same words however
their vocabularies cut them, and so that "London." in running text is read as the "London ." of a data set. A word's
tag is read at its first token (Devlin 2019, arXiv:1810.04805, section 5.3).

Shapes: N texts, T tokens, W words (as many as there can be tokens, NaN behind the last), K tags.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding

OUTSIDE = "O"
WORD = re.compile(r"[^\W\u2e80-\u9fff\uf900-\ufaff]+|\S")
Span = tuple[int, int]
"""First character and the one behind the last."""
Entity = tuple[int, int, str]
"""Its span and its type."""


@dataclass(frozen=True, kw_only=True)
class Tagged:
    """An entity as a run of words."""

    type: str
    words: tuple[int, ...]


def words_of(text: str) -> list[Span]:
    """The words of a text, in order."""
    return [found.span() for found in WORD.finditer(text)]


def entity_tags(types: Sequence[str]) -> list[str]:
    """The outputs of a model of these types: outside, and of each type its begin and its inside (BIO)."""
    return [OUTSIDE, *(f"{prefix}-{name}" for name in types for prefix in "BI")]


def entity_types(tags: Sequence[str]) -> list[str]:
    """The types that `entity_tags` made these of."""
    return [tag[2:] for tag in tags if tag.startswith("B-")]


def first_tokens(encoding: Encoding, words: Sequence[Span]) -> list[int]:
    """The token at which each word's tag is read: the first that has a part of it; -1 for a word that was cut off."""
    found = [-1] * len(words)
    at = 0
    for token, ((start, end), special) in enumerate(zip(encoding.offsets, encoding.special_tokens_mask, strict=True)):
        if special or end <= start:
            continue
        while at < len(words) and words[at][1] <= start:
            at += 1
        here = at
        while here < len(words) and words[here][0] < end:
            found[here] = token if found[here] < 0 else found[here]
            here += 1
    return found


def at_words(logits_TK: NDArray[np.float32], firsts: Sequence[int], num_words: int) -> NDArray[np.float32]:
    """logits_WK of `num_words` words; NaN for those that have no token."""
    logits_WK = np.full((num_words, logits_TK.shape[-1]), np.nan, dtype=np.float32)
    for word, token in enumerate(firsts[:num_words]):
        if token >= 0:
            logits_WK[word] = logits_TK[token]
    return logits_WK


def group_tags(tags: Sequence[str | None]) -> Iterator[Tagged]:
    """The entities that tags make, by the rules of CoNLL's evaluation (Tjong Kim Sang 2003, arXiv:cs/0306050; seqeval).

    An inside tag without its begin before it begins an entity. A word without a tag, such as one of signs that the
    tokenizer drops, belongs to what it stands in.
    """
    kind, members = "", list[int]()
    for at, tag in enumerate(tags):
        if tag is None:
            continue
        prefix, _, name = tag.partition("-")
        if prefix == "I" and members and name == kind:
            members.append(at)
            continue
        if members:
            yield Tagged(type=kind, words=tuple(members))
        kind, members = name, [] if prefix == OUTSIDE else [at]
    if members:
        yield Tagged(type=kind, words=tuple(members))


def tags_of(words: Sequence[Span], entities: Sequence[Entity]) -> list[str]:
    """The tag of each word."""
    tags = [OUTSIDE] * len(words)
    for start, end, name in entities:
        inside = [at for at, word in enumerate(words) if start <= word[0] < end]
        for at in inside:
            tags[at] = f"{'B' if at == inside[0] else 'I'}-{name}"
    return tags


def find_entities(
    text: str, words: Sequence[Span], probabilities_WK: NDArray[np.float32], tags: Sequence[str]
) -> list[dict[str, object]]:
    """The entities of one text of these words: its part, type, span, and score, the mean probability of its words'
    tags."""
    words = words[: len(probabilities_WK)]
    known_W = ~np.isnan(probabilities_WK[: len(words), 0])
    best_W = probabilities_WK[: len(words)].argmax(axis=1)
    found = []
    for entity in group_tags([tags[best] if known else None for best, known in zip(best_W, known_W, strict=True)]):
        members = list(entity.words)
        start, end = words[members[0]][0], words[members[-1]][1]
        score = float(probabilities_WK[members, best_W[members]].mean())
        found.append({"text": text[start:end], "label": entity.type, "start": start, "end": end, "score": score})
    return found
