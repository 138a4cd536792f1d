"""Masked-token replacement: words of the training text exchanged for what the teacher's own encoder expects there.

TinyBERT (Jiao 2020, arXiv:1909.10351, algorithm 1) takes a masked language model for it. Encoders for sentences come
without that head, so a small one, tied to the word embeddings, is fitted to the training text on the frozen encoder.

Shapes: B batch, T tokens, M masked tokens, H hidden size, V vocabulary.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bento.errors import UserError
from tasks.architecture import load_classifier
from tasks.batches import Rows, collate, length_grouped, tokenize
from tasks.training import make_accelerator, model_inputs

if TYPE_CHECKING:
    from tasks.compress.context import Context

log = logging.getLogger("retort.masked")

NUM_STEPS = 400
BATCH_SIZE = 32
LEARNING_RATE = 1e-3
MASKED_SHARE = 0.15
TOP_K = 20
IGNORED = -100


def replaced_words(texts: Sequence[Any], context: "Context", *, share: float, versions: int) -> Iterator[list[Any]]:
    """`versions` times all texts (or pairs), each with about `share` of its one-token words drawn anew.

    Each version draws its own, so that no word is lost from all of them. Raises: UserError for tokenizers without a
    mask token.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(context.teacher.path)
    if tokenizer.mask_token_id is None:
        raise UserError("transfer.replace: expected a tokenizer with a mask token, got none; set replace to 0")
    pairs = not isinstance(texts[0], str)
    flat = [half for text in texts for half in text] if pairs else list(texts)
    replacer = _Replacer(flat, tokenizer, context)

    def version(number: int) -> list[Any]:
        found = replacer.draw(flat, share, seed=context.seed + number)
        log.info("masked words drawn, %d of %d times", number, versions)
        return list(zip(found[::2], found[1::2], strict=True)) if pairs else found

    return map(version, range(1, versions + 1))


class _Replacer:
    """The teacher's encoder with a head that says which words it expects where a mask stands."""

    def __init__(self, texts: Sequence[str], tokenizer: Any, context: "Context") -> None:
        self.tokenizer, self.max_tokens = tokenizer, context.max_tokens
        self.model = load_classifier(context.teacher.path)
        self.head = _fit_head(
            self.model, tokenize(tokenizer, texts, max_tokens=self.max_tokens), tokenizer, context.seed
        )
        self.allowed_V = _whole_words(tokenizer, self.model.config.vocab_size)

    def draw(self, texts: Sequence[str], share: float, seed: int) -> list[str]:
        """Draw each chosen word once from the `TOP_K` likeliest whole words."""
        import torch

        rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
        found = list(texts)
        by_length = sorted(range(len(texts)), key=lambda at: len(texts[at]))
        for start in range(0, len(texts), BATCH_SIZE):
            chosen = by_length[start : start + BATCH_SIZE]
            for at, text in zip(chosen, self._drawn([texts[at] for at in chosen], share, rng, generator), strict=True):
                found[at] = text
        return found

    def _drawn(self, texts: list[str], share: float, rng: np.random.Generator, generator: Any) -> list[str]:
        import torch

        encoded = self.tokenizer(
            texts, padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt",
            return_offsets_mapping=True,
        )  # fmt: skip
        batch = {name: encoded[name] for name in encoded if name != "offset_mapping"}
        words = [encoded.word_ids(at) for at in range(len(texts))]
        targets_BT = _mask(batch, self.tokenizer, share, rng, words=words)
        with torch.inference_mode():
            states_BTH = _states(self.model, batch, make_accelerator())
            scores_MV = self.head(states_BTH[targets_BT != IGNORED]).float().cpu()
        drawn = iter(_pick(scores_MV + self.allowed_V, generator))
        return [
            _spliced(text, [(spans[at], next(drawn)) for at in _chosen(targets)], self.tokenizer)
            for text, spans, targets in zip(texts, encoded["offset_mapping"].tolist(), targets_BT, strict=True)
        ]


def _fit_head(model: Any, rows: Rows, tokenizer: Any, seed: int) -> Any:
    """Train the language model head on masked tokens, the encoder frozen."""
    import torch
    from torch.nn.functional import cross_entropy

    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    accelerator = make_accelerator()
    head = _make_head(model).to(accelerator.device)
    optimizer = torch.optim.AdamW(head.parameters(), lr=LEARNING_RATE)
    lengths = [len(ids) for ids in rows.token_ids]
    batches: list[list[int]] = []
    total = 0.0
    for _ in range(NUM_STEPS):
        batches = batches or length_grouped(lengths, BATCH_SIZE, rng)
        batch = collate(rows, batches.pop(), tokenizer.pad_token_id)
        targets_BT = _mask(batch, tokenizer, MASKED_SHARE, rng)
        chosen_BT = targets_BT != IGNORED
        if not chosen_BT.any():
            continue
        scores_MV = head(_states(model, batch, accelerator)[chosen_BT])
        loss = cross_entropy(scores_MV, targets_BT[chosen_BT].to(scores_MV.device))
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        total = 0.98 * total + 0.02 * float(loss.detach())
    log.info("masked-token head: loss %.2f after %d steps", total, NUM_STEPS)
    return head.eval()


def _states(model: Any, batch: dict[str, Any], accelerator: Any) -> Any:
    """Last hidden states_BTH without gradients."""
    import torch

    base = model.base_model.to(accelerator.device)
    inputs = {name: value.to(accelerator.device) for name, value in batch.items()}
    with torch.no_grad(), accelerator.autocast():
        return base(**model_inputs(base, inputs)).last_hidden_state.float()


def _mask(
    batch: dict[str, Any], tokenizer: Any, share: float, rng: np.random.Generator, words: list[Any] | None = None
) -> Any:
    """Put the mask token on about `share` of the tokens, in place; targets_BT has what was there, IGNORED elsewhere.

    With `words`, the word of each token, only tokens that are a whole word are taken.
    """
    import torch

    ids_BT = batch["input_ids"]
    special_BT = torch.isin(ids_BT, torch.tensor(tokenizer.all_special_ids))
    eligible_BT = ~special_BT & batch["attention_mask"].bool()
    if words is not None:
        eligible_BT &= torch.tensor([[_alone(row, at) for at in range(len(row))] for row in words])
    chosen_BT = eligible_BT & torch.from_numpy(rng.random(tuple(ids_BT.shape)) < share)
    targets_BT = torch.where(chosen_BT, ids_BT, torch.full_like(ids_BT, IGNORED))
    ids_BT[chosen_BT] = tokenizer.mask_token_id
    return targets_BT


def _alone(words: list[Any], at: int) -> bool:
    return words[at] is not None and words.count(words[at]) == 1


def _chosen(targets_T: Any) -> list[int]:
    return [at for at, target in enumerate(targets_T.tolist()) if target != IGNORED]


def _pick(scores_MV: Any, generator: Any) -> list[int]:
    import torch

    if not len(scores_MV):
        return []
    best = scores_MV.topk(min(TOP_K, scores_MV.shape[1]), dim=1)
    picked = torch.multinomial(best.values.softmax(dim=1), 1, generator=generator)
    drawn: list[int] = best.indices.gather(1, picked)[:, 0].tolist()
    return drawn


def _spliced(text: str, changes: list[tuple[list[int], int]], tokenizer: Any) -> str:
    """`text` with the spans of characters exchanged for the drawn tokens, from the last to the first."""
    for (start, end), token in reversed(changes):
        text = text[:start] + tokenizer.decode([token]) + text[end:]
    return text


def _whole_words(tokenizer: Any, vocab_size: int) -> Any:
    """0 for tokens that are a word by themselves, minus infinity for pieces, marks and special tokens."""
    import torch

    allowed_V, special = torch.full((vocab_size,), -torch.inf), set(tokenizer.all_special_ids)
    for token, at in tokenizer.get_vocab().items():
        if token.lstrip("Ġ▁").isalpha() and at not in special:
            allowed_V[at] = 0.0
    return allowed_V


def _make_head(model: Any) -> Any:
    """Transform, normalisation and word embeddings with a bias, as BERT's (Devlin 2019)."""
    import torch

    class Head(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            embeddings = model.get_input_embeddings().weight.detach()
            size = model.config.hidden_size
            self.transform = torch.nn.Sequential(
                torch.nn.Linear(size, embeddings.shape[1]), torch.nn.GELU(), torch.nn.LayerNorm(embeddings.shape[1])
            )
            self.register_buffer("embeddings", embeddings)
            self.bias = torch.nn.Parameter(torch.zeros(embeddings.shape[0]))

        def forward(self, states_MH: Any) -> Any:
            return self.transform(states_MH) @ self.embeddings.T + self.bias

    return Head()
