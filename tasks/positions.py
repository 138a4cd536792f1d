"""Position embeddings for longer texts than a model was pretrained on.

Shapes: P positions, H hidden size.
"""

from typing import Any

import torch


def extend_positions(model: Any, max_tokens: int) -> None:
    """Give a model with a learnt table of positions `max_tokens` of them, in place; a larger table is left alone.

    The table is copied one after the other until it is long enough, as Longformer starts (Beltagy 2020,
    arXiv:2004.05150, section 5): attention to near tokens works at once wherever the text is cut. Models without such a
    table (relative or rotary positions) need no change.
    """
    for name, module in model.named_modules():
        table = getattr(module, "position_embeddings", None)
        if not (name.endswith("embeddings") and isinstance(table, torch.nn.Embedding)):
            continue
        offset = table.padding_idx + 1 if table.padding_idx is not None else 0
        size = max_tokens + offset
        if table.num_embeddings < size:
            _extend(table, offset, size)
            model.config.max_position_embeddings = size
            _extend_buffers(module, size)


def _extend(table: torch.nn.Embedding, offset: int, size: int) -> None:
    """The first `offset` rows, which are reserved, stay; those behind repeat."""
    old_PH = table.weight.detach()
    at_P = torch.arange(size - offset) % (len(old_PH) - offset) + offset
    table.weight = torch.nn.Parameter(torch.cat([old_PH[:offset], old_PH[at_P]]))
    table.num_embeddings = size


def _extend_buffers(embeddings: Any, size: int) -> None:
    if hasattr(embeddings, "position_ids"):
        embeddings.register_buffer("position_ids", torch.arange(size).expand((1, -1)), persistent=False)
    if hasattr(embeddings, "token_type_ids"):
        zeros = torch.zeros((1, size), dtype=torch.long)
        embeddings.register_buffer("token_type_ids", zeros, persistent=False)
