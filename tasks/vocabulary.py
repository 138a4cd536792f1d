"""Cutting a WordPiece vocabulary to the tokens that a text uses, and to those that its like will most probably use.

Characters and their continuation forms stay, so a word whose piece was cut falls back to smaller pieces and nothing
becomes unknown that was not. What tomorrow's text will bring is told from what the tokens mean: a logistic regression
of "occurs in the text" on a token's embedding and on its place in the vocabulary, which for WordPiece is its rank by
frequency in general text. On eight sets about half as many tokens keep as many new texts in one piece as the most
frequent words do.
"""

import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento.errors import RetortError, UserError

log = logging.getLogger("retort.vocabulary")

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MAX_NEWLY_UNKNOWN = 0.001
"""Share of held-out tokens that a cut may make unknown: characters stay, so it should be none."""
RANK_FROM, RANK_WEIGHT = 1_000, 3.0
"""The logarithm of the rank counts from the first words, and as much as some of the embedding's directions."""
INVERSE_PENALTY, MAX_ITERATIONS = 0.01, 500
"""Ten times less or ten times more covers new text as well."""


def cut_vocabulary(
    model: Any, tokenizer_folder: Path, texts: list[Any], *, held_out: list[Any], keep: float, likely: int, out: Path
) -> None:
    """Shrink `model`'s embedding in place and write the tokenizer that goes with it to `out`.

    Raises: UserError for tokenizers that are not WordPiece; RetortError when words of the `held_out` texts became
    unknown that were not.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder, use_fast=True)
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    require_wordpiece(state["model"]["type"], str(tokenizer_folder))
    embedding_VxH = model.get_input_embeddings().weight.detach().double().cpu().numpy()
    kept = _kept_tokens(tokenizer, state, embedding_VxH, texts, keep, likely)
    old_ids = [state["model"]["vocab"][token] for token in kept]
    new_ids = {token: at for at, token in enumerate(kept)}
    state["model"]["vocab"] = new_ids
    for added in state["added_tokens"]:
        added["id"] = new_ids[added["content"]]
    for special in (state["post_processor"] or {}).get("special_tokens", {}).values():
        special["ids"] = [new_ids[token] for token in special["tokens"]]
    _resize(model, old_ids, pad_id=new_ids[tokenizer.pad_token])
    _save_tokenizer(PreTrainedTokenizerFast, tokenizer, state, out)
    _check_unknown(tokenizer, AutoTokenizer.from_pretrained(out), held_out)


def unknown_id(tokenizer: Any) -> int | None:
    """The id of what a tokenizer of the `tokenizers` library does not know; None for those that know every byte."""
    model = json.loads(tokenizer.to_str())["model"]
    token = model.get("unk_token")
    found: int | None = tokenizer.token_to_id(token) if token is not None else model.get("unk_id")
    return found


def unknown_rate(tokenizer: Any, texts: list[Any]) -> float:
    """Share of the texts' tokens for which the vocabulary has no piece."""
    ids = _token_ids(tokenizer, texts)
    return ids.count(tokenizer.unk_token_id) / max(len(ids), 1)


def changed_rate(before: Any, after: Any, texts: list[Any]) -> float:
    """Share of the texts that are cut into other tokens than before."""
    old, new = (_encodings(tokenizer, texts) for tokenizer in (before, after))
    changed = [one.tokens != other.tokens for one, other in zip(old, new, strict=True)]
    return changed.count(True) / max(len(changed), 1)


def _check_unknown(before: Any, after: Any, texts: list[Any]) -> None:
    """The gate of a cut. Raises: RetortError."""
    old, new = unknown_rate(before, texts), unknown_rate(after, texts)
    log.info(
        "vocabulary cut from %d to %d tokens; of the validation text's unknown before %.3f %%, after %.3f %%; %.1f %% "
        "of its texts are cut into other tokens",
        len(before), len(after), 100 * old, 100 * new, 100 * changed_rate(before, after, texts),
    )  # fmt: skip
    if new - old > MAX_NEWLY_UNKNOWN:
        raise RetortError(
            f"prune_vocabulary: {100 * (new - old):.2f} % of the validation text's tokens became unknown, allowed are "
            f"{100 * MAX_NEWLY_UNKNOWN:g} %; raise keep or likely, or leave the vocabulary whole"
        )


def _token_ids(tokenizer: Any, texts: list[Any]) -> list[int]:
    """All tokens of the texts."""
    return [token for encoding in _encodings(tokenizer, texts) for token in encoding.ids]


def _encodings(tokenizer: Any, texts: list[Any]) -> list[Any]:
    """Of each text, or half of a pair: uncut, without special tokens and padding, which some add by themselves."""
    flat = [part for text in texts for part in ((text,) if isinstance(text, str) else text)]
    if not flat:
        return []
    encoded = tokenizer(flat, add_special_tokens=False, padding=False, truncation=False, verbose=False)
    found: list[Any] = encoded.encodings
    return found


def require_wordpiece(kind: str, where: str) -> None:
    """Raises: UserError for every other kind of tokenizer."""
    if kind != "WordPiece":
        raise UserError(
            f"prune_vocabulary: expected a WordPiece tokenizer, got {kind} in {where}; "
            "leave prune_vocabulary out of compress for this model"
        )


def _kept_tokens(
    tokenizer: Any, state: dict[str, Any], embedding_VxH: Floats, texts: list[Any], keep: float, likely: int
) -> list[str]:
    """The tokens to keep, in the order of their old ids."""
    vocabulary: dict[str, int] = state["model"]["vocab"]
    counts = Counter(_token_ids(tokenizer, texts))
    by_id = sorted(vocabulary, key=vocabulary.__getitem__)
    prefix = state["model"]["continuing_subword_prefix"]
    kept = {token for token in by_id if len(token.removeprefix(prefix)) == 1}
    kept |= {added["content"] for added in state["added_tokens"]}
    total, covered = sum(counts.values()), 0
    for token_id, count in counts.most_common():
        if covered >= keep * total:
            break
        kept.add(by_id[token_id])
        covered += count
    words = np.array([at for at, token in enumerate(by_id) if len(name := token.removeprefix(prefix)) > 1
                      and name.isalnum()], dtype=np.int64)  # fmt: skip
    order = by_likelihood(embedding_VxH[words], words, np.array([at in counts for at in words], dtype=bool))
    new = [token for token in (by_id[at] for at in words[order]) if token not in kept]
    kept |= set(new[:likely])
    return [token for token in by_id if token in kept]


def by_likelihood(embedding_NxH: Floats, rank_N: Ints, occurs_N: NDArray[np.bool_]) -> Ints:
    """Places of N tokens, the one first that most probably occurs in more of a text; by rank where nothing tells.

    `rank_N` is their place in a vocabulary that begins with the most frequent; `occurs_N` says which occur so far.
    """
    from sklearn.linear_model import LogisticRegression

    if occurs_N.all() or not occurs_N.any():
        return np.argsort(rank_N, kind="stable")
    direction_NxH = embedding_NxH / np.maximum(np.linalg.norm(embedding_NxH, axis=1, keepdims=True), 1e-12)
    features = np.column_stack([_standardised(direction_NxH), RANK_WEIGHT * _standardised(np.log(rank_N + RANK_FROM))])
    model = LogisticRegression(C=INVERSE_PENALTY, max_iter=MAX_ITERATIONS).fit(features, occurs_N)
    order: Ints = np.argsort(-model.decision_function(features), kind="stable")
    return order


def _standardised(values: Floats) -> Floats:
    """Mean 0 and deviation 1 of all of them together, each column's mean its own."""
    centred = values - values.mean(axis=0)
    scaled: Floats = centred / max(float(centred.std()), 1e-12)
    return scaled


def _resize(model: Any, old_ids: list[int], pad_id: int) -> None:
    """Keep the embedding rows `old_ids`, in that order."""
    import torch

    old = model.get_input_embeddings()
    new = torch.nn.Embedding(len(old_ids), old.embedding_dim, padding_idx=pad_id)
    with torch.no_grad():
        new.weight.copy_(old.weight[torch.tensor(old_ids)])
    model.set_input_embeddings(new)
    model.config.vocab_size = len(old_ids)
    model.config.pad_token_id = pad_id


def _save_tokenizer(fast_class: Any, tokenizer: Any, state: dict[str, Any], out: Path) -> None:
    import tokenizers

    names = ("unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
    fast_class(
        tokenizer_object=tokenizers.Tokenizer.from_str(json.dumps(state)),
        model_max_length=tokenizer.model_max_length,
        **{name: getattr(tokenizer, name) for name in names if getattr(tokenizer, name)},
        model_input_names=tokenizer.model_input_names,
    ).save_pretrained(out)
