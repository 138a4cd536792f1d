"""Tokenised rows, and padded batches of them in which lengths are alike.

Shapes: N rows, B batch, T tokens, W words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bento.entities import first_tokens, words_of

if TYPE_CHECKING:
    import torch

Batch = dict[str, "torch.Tensor"]
MEGABATCH = 50  # batches that are sorted by length together: little padding, still shuffled


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Tokenised rows with whatever targets the loss needs, one array a target."""

    token_ids: Sequence[Sequence[int]]
    type_ids: Sequence[Sequence[int]] | None
    targets: dict[str, "np.ndarray[Any, Any]"]

    def __len__(self) -> int:
        return len(self.token_ids)


def tokenize(
    tokenizer: Any,
    texts: Sequence[Any],
    *,
    max_tokens: int,
    targets: dict[str, Any] | None = None,
    words: bool = False,
) -> Rows:
    """Encode texts, or pairs of them, once, unpadded; padding is by batch.

    With `words` there is one target more, `words`: firsts_NW, the token at which each word is answered, -1 for none.
    """
    pairs = bool(texts) and not isinstance(texts[0], str)
    first = [text[0] for text in texts] if pairs else list(texts)
    second = [text[1] for text in texts] if pairs else None
    encoded = tokenizer(first, second, truncation=True, max_length=max_tokens)
    targets = dict(targets or {})
    if words:
        found = [first_tokens(one, words_of(text)) for one, text in zip(encoded.encodings, texts, strict=True)]
        targets["words"] = np.full((len(texts), max_tokens), -1, dtype=np.int64)
        for row, firsts in enumerate(found):
            targets["words"][row, : len(firsts)] = firsts[:max_tokens]
    return Rows(token_ids=encoded["input_ids"], type_ids=encoded.get("token_type_ids"), targets=targets)


def repeated(rows: Rows, times_N: "np.ndarray[Any, Any]") -> Rows:
    """The rows with each as often as it is to be seen in a pass; the rows themselves where that is once each."""
    if (times_N == 1).all():
        return rows
    at_M = np.repeat(np.arange(len(rows)), times_N)
    order = at_M.tolist()
    return Rows(
        token_ids=[rows.token_ids[at] for at in order],
        type_ids=None if rows.type_ids is None else [rows.type_ids[at] for at in order],
        targets={name: values[at_M] for name, values in rows.targets.items()},
    )


def length_grouped(lengths: Sequence[int], batch_size: int, rng: np.random.Generator) -> list[list[int]]:
    """Shuffled batches of row numbers in which lengths are alike, so that little is padded."""
    order = rng.permutation(len(lengths))
    chunk = batch_size * MEGABATCH
    batches = []
    for start in range(0, len(order), chunk):
        rows = sorted(order[start : start + chunk].tolist(), key=lambda row: -lengths[row])
        batches += [rows[at : at + batch_size] for at in range(0, len(rows), batch_size)]
    return [batches[at] for at in rng.permutation(len(batches))]


def collate(rows: Rows, indices: Sequence[int], pad_id: int) -> Batch:
    """Pad the named rows to the longest of them: input_ids_BT, attention_mask_BT, token_type_ids_BT, targets."""
    import torch

    length = max(len(rows.token_ids[index]) for index in indices)
    ids_BT = np.full((len(indices), length), pad_id, dtype=np.int64)
    mask_BT = np.zeros_like(ids_BT)
    types_BT = np.zeros_like(ids_BT)
    for at, index in enumerate(indices):
        num_tokens = len(rows.token_ids[index])
        ids_BT[at, :num_tokens] = rows.token_ids[index]
        mask_BT[at, :num_tokens] = 1
        if rows.type_ids is not None:
            types_BT[at, :num_tokens] = rows.type_ids[index]
    batch = {"input_ids": torch.from_numpy(ids_BT), "attention_mask": torch.from_numpy(mask_BT)}
    if rows.type_ids is not None:
        batch["token_type_ids"] = torch.from_numpy(types_BT)
    return batch | {name: torch.from_numpy(values[list(indices)]) for name, values in rows.targets.items()}
