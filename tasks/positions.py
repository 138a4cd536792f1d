"""Position embeddings for texts that are longer, or never as long, as those that a model was pretrained on.

Shapes: P positions, H hidden size.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def extend_positions(model: Any, max_tokens: int) -> None:
    """Give a model with a learnt table of positions `max_tokens` of them, in place; a larger table is left alone.

    The table is copied one after the other until it is long enough, as Longformer starts (Beltagy 2020,
    arXiv:2004.05150, section 5): attention to near tokens works at once wherever the text is cut. Models without such a
    table (relative or rotary positions) need no change.
    """
    for module, table, offset in _tables(model):
        size = max_tokens + offset
        if table.num_embeddings < size:
            _extend(table, offset, size)
            _resize_buffers(model, module, size)


def cut_positions(model: Any, max_tokens: int) -> None:
    """Drop the position embeddings beyond `max_tokens`, in place; they are never looked up."""
    import torch

    for module, table, offset in _tables(model):
        size = max_tokens + offset
        if table.num_embeddings > size:
            table.weight = torch.nn.Parameter(table.weight[:size].detach().clone())
            table.num_embeddings = size
            _resize_buffers(model, module, size)


def num_positions(model: Any) -> int | None:
    """Tokens of the longest text for which the learnt table has positions; None for a model without one."""
    return min((table.num_embeddings - offset for _, table, offset in _tables(model)), default=None)


def _tables(model: Any) -> "list[tuple[Any, torch.nn.Embedding, int]]":
    """Modules with a learnt table of positions, the table, and how many of its first rows are reserved."""
    import torch

    return [
        (module, module.position_embeddings, _num_reserved(module.position_embeddings))
        for name, module in model.named_modules()
        if name.endswith("embeddings") and isinstance(getattr(module, "position_embeddings", None), torch.nn.Embedding)
    ]


def _num_reserved(table: "torch.nn.Embedding") -> int:
    """RoBERTa's family counts positions from behind its padding index."""
    return 0 if table.padding_idx is None else table.padding_idx + 1


def _extend(table: "torch.nn.Embedding", offset: int, size: int) -> None:
    """The first `offset` rows, which are reserved, stay; those behind repeat."""
    import torch

    old_PH = table.weight.detach()
    at_P = torch.arange(size - offset) % (len(old_PH) - offset) + offset
    table.weight = torch.nn.Parameter(torch.cat([old_PH[:offset], old_PH[at_P]]))
    table.num_embeddings = size


def _resize_buffers(model: Any, embeddings: Any, size: int) -> None:
    import torch

    model.config.max_position_embeddings = size
    if hasattr(embeddings, "position_ids"):
        embeddings.register_buffer("position_ids", torch.arange(size).expand((1, -1)), persistent=False)
    if hasattr(embeddings, "token_type_ids"):
        zeros = torch.zeros((1, size), dtype=torch.long)
        embeddings.register_buffer("token_type_ids", zeros, persistent=False)
