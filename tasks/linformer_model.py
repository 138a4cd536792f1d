"""A BERT whose self-attention is Linformer's: n tokens are projected to at most k slots, which the queries look at.

    softmax(Q (E X W_K)^T / sqrt(D) + log c) (F X W_V)        Wang 2020, arXiv:2006.04768, eq. 7

so that time and memory are O(n k) instead of O(n^2). Three things are said nowhere in the paper and hold here:

- E X is computed before W_K and W_V, which is the same product for less: the two linear maps see k rows, not n. The
  biases come after the projection, so that a key and a value keep theirs whatever the rows of E sum to.
- Padding is zeroed before E, whose columns are positions, and a slot whose positions are all padding is masked: a
  text's answer depends neither on how far it is padded nor on the texts beside it.
- E starts as the mean over windows of positions, one token wide at the front and wider behind; c is how many real
  tokens a slot's window holds. A slot of equal keys then weighs as much as its c tokens would (Bolya 2023,
  arXiv:2210.09461, eq. 1), so an untrained student answers nearly as its teacher, and exactly so where k >= n.

`tasks.architecture.load_classifier` loads what `save_pretrained` stores.

Shapes: B batch, T tokens of the batch, N tokens of the longest text, S slots, H hidden size, A heads, D head size.
"""

import math
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, BertConfig, BertForSequenceClassification

GROWTH = 3.0
"""How steeply windows widen; 1 would make all alike, and give a text of n/10 tokens only k/10 slots."""


class LinformerConfig(BertConfig):  # type: ignore[misc]
    """BERT's sizes and those of the projections; `config.json` says which."""

    model_type = "linformer"

    def __init__(
        self, *, projected_length: int = 128, sharing: str = "layerwise", longest: int = 512, **sizes: Any
    ) -> None:
        """`projected_length` is k; `longest` is N, how many tokens the projections have columns for."""
        super().__init__(**sizes)
        self.projected_length, self.sharing, self.longest = projected_length, sharing, longest


class Projection(torch.nn.Module):
    """E (or F): the weight_SN that maps the states of up to N positions to at most S slots."""

    starts_S: torch.Tensor

    def __init__(self, config: LinformerConfig) -> None:
        super().__init__()
        starts = window_starts(config.projected_length, config.longest)
        self.register_buffer("starts_S", torch.tensor(starts), persistent=False)
        self.weight = torch.nn.Parameter(window_means(starts, config.longest))

    def forward(self, states_BTH: torch.Tensor) -> torch.Tensor:
        """projected_BSH; of the slots, only those that T positions can reach."""
        num_tokens = states_BTH.shape[1]
        num_slots = (self.starts_S < num_tokens).sum()
        projected_BSH: torch.Tensor = self.weight[:num_slots, :num_tokens] @ states_BTH
        return projected_BSH


class LinformerSelfAttention(torch.nn.Module):
    """Takes the place of BERT's, with its names: query, key, value."""

    ends_S: torch.Tensor
    starts_S: torch.Tensor

    def __init__(self, config: LinformerConfig, shared: Projection | None) -> None:
        super().__init__()
        self.num_attention_heads = config.num_attention_heads
        self.attention_head_size = config.hidden_size // config.num_attention_heads
        self.all_head_size = config.hidden_size
        self.query, self.key, self.value = (
            torch.nn.Linear(config.hidden_size, config.hidden_size) for _ in ("query", "key", "value")
        )
        self.dropout = torch.nn.Dropout(config.attention_probs_dropout_prob)
        self._shared = (shared,)  # in a tuple, so that the encoder alone owns it and it is saved once
        self.key_projection = None if shared is not None else Projection(config)
        self.value_projection = Projection(config) if config.sharing == "headwise" else None
        starts = window_starts(config.projected_length, config.longest)
        self.register_buffer("starts_S", torch.tensor(starts), persistent=False)
        self.register_buffer("ends_S", torch.tensor([*starts[1:], config.longest]), persistent=False)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor,
        head_mask: torch.Tensor | None = None,
        **_unused: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """context_BTH and probabilities_BATS; `attention_mask` is BERT's additive one of shape B11T."""
        live_BT = (attention_mask[:, 0, 0] == 0).to(hidden_states.dtype)
        states_BTH = hidden_states * live_BT[..., None]
        keys_BSH, values_BSH = self._keys_and_values(states_BTH)
        keys_BADS = self._heads(keys_BSH / math.sqrt(self.attention_head_size)).transpose(-1, -2)
        log_count_BS = self._log_counts(live_BT, keys_BSH.shape[1])
        scores_BATS = self._heads(self.query(hidden_states)) @ keys_BADS + log_count_BS[:, None, None]
        probabilities_BATS = self.dropout(scores_BATS.softmax(dim=-1))
        if head_mask is not None:
            probabilities_BATS = probabilities_BATS * head_mask
        context_BATD = probabilities_BATS @ self._heads(values_BSH)
        return context_BATD.transpose(1, 2).flatten(2), probabilities_BATS

    def _keys_and_values(self, states_BTH: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        project: Any = self.key_projection or self._shared[0]
        projected_BSH = project(states_BTH)
        others_BSH = projected_BSH if self.value_projection is None else self.value_projection(states_BTH)
        return self.key(projected_BSH), self.value(others_BSH)

    def _log_counts(self, live_BT: torch.Tensor, num_slots: int) -> torch.Tensor:
        """log c_BS, the lowest number where c is 0; real tokens are the first of their row."""
        starts_S, ends_S = self.starts_S[:num_slots], self.ends_S[:num_slots]
        length_B1 = live_BT.sum(dim=1, keepdim=True)
        count_BS = torch.minimum(length_B1, ends_S.to(live_BT.dtype)) - starts_S.to(live_BT.dtype)
        return count_BS.clamp(min=0).log().clamp(min=torch.finfo(live_BT.dtype).min)

    def _heads(self, states_BXH: torch.Tensor) -> torch.Tensor:
        """states_BAXD."""
        num_rows = states_BXH.shape[0]
        return states_BXH.view(num_rows, -1, self.num_attention_heads, self.attention_head_size).transpose(1, 2)


class LinformerForSequenceClassification(BertForSequenceClassification):  # type: ignore[misc]
    """BERT's classifier with Linformer's attention in each layer."""

    config_class = LinformerConfig
    _supports_sdpa = False  # BERT's mask for it has T^2 entries

    def __init__(self, config: LinformerConfig) -> None:
        super().__init__(config)
        shared = Projection(config) if config.sharing == "layerwise" else None
        if shared is not None:
            self.bert.encoder.projection = shared
        for layer in self.bert.encoder.layer:
            layer.attention.self = LinformerSelfAttention(config, shared)
        self.post_init()


def window_starts(projected_length: int, longest: int) -> list[int]:
    """First position of each slot's window: j + (N - k) (j / k)^GROWTH, rounded down, which rises by at least 1.

    Where k >= N each window is one token, and attention is full.
    """
    num_slots = min(projected_length, longest)
    rest = longest - num_slots
    return [at + math.floor(rest * (at / num_slots) ** GROWTH) for at in range(num_slots)]


def window_means(starts: list[int], longest: int) -> torch.Tensor:
    """The weight_SN that takes the mean of each window."""
    weight_SN = torch.zeros(len(starts), longest)
    for slot, (start, end) in enumerate(zip(starts, [*starts[1:], longest], strict=True)):
        weight_SN[slot, start:end] = 1 / (end - start)
    return weight_SN


def to_linformer(
    model: Any, *, projected_length: int, sharing: str, longest: int
) -> LinformerForSequenceClassification:
    """A Linformer with all weights of a BERT classifier, and projections that take means of windows."""
    sizes = {
        name: value for name, value in model.config.to_dict().items() if name not in ("model_type", "architectures")
    }
    config = LinformerConfig(**sizes | {"projected_length": projected_length, "sharing": sharing, "longest": longest})
    student = LinformerForSequenceClassification(config)
    new = {name: weight for name, weight in student.state_dict().items() if "projection" in name}
    student.load_state_dict(model.state_dict() | new)
    student.eval()
    return student


def register() -> None:
    """Let `Auto...from_pretrained` load Linformer folders in this process, with no code from the folder."""
    AutoConfig.register(LinformerConfig.model_type, LinformerConfig, exist_ok=True)
    AutoModelForSequenceClassification.register(LinformerConfig, LinformerForSequenceClassification, exist_ok=True)
