"""Embedding rows that no text of a training looks up rest while the others train.

Their gradient is zero at every step, yet the optimiser would read and write them each time: half of MiniLM's weights
are word embeddings, and a few thousand sentences use a tenth of them. The model learns the same without them, but for
the weight decay of rows that nothing teaches, which keep their pretrained values.

Shapes: B batch, T tokens, H hidden size, V rows of the whole table, U rows in use.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

LARGEST_SHARE = 0.75
"""Of the rows in use, above which they all stay."""


@contextlib.contextmanager
def used_rows_only(model: Any, token_ids: Sequence[Sequence[Sequence[int]]], pad_id: int) -> Iterator[None]:
    """Within, `model` has the embedding rows of these tokens alone; afterwards the whole table, with those as trained.

    `token_ids` are the rows of each split that the model will see. A table that something else works on, such as
    rounding, is left as it is.
    """
    import torch

    table = model.get_input_embeddings()
    used = sorted({token for split in token_ids for ids in split for token in ids} | {pad_id})
    if type(table) is not torch.nn.Embedding or len(used) > LARGEST_SHARE * table.num_embeddings:
        yield
        return
    few = _make_few(table, torch.tensor(used))
    model.set_input_embeddings(few)
    try:
        yield
    finally:
        with torch.no_grad():
            table.weight[used] = few.weight.to(table.weight)
        model.set_input_embeddings(table.to(few.weight.device))


def _make_few(table: Any, used_U: Any) -> Any:
    import torch
    from torch.nn import functional

    class FewRows(torch.nn.Module):
        """Looks up the ids of the whole table in the rows in use. Raises: IndexError for any other."""

        row_V: Any

        def __init__(self) -> None:
            super().__init__()
            row_V = torch.full((table.num_embeddings,), -1)
            row_V[used_U] = torch.arange(len(used_U))
            self.register_buffer("row_V", row_V, persistent=False)
            self.weight = torch.nn.Parameter(table.weight.detach()[used_U].clone())
            self.padding = int(row_V[table.padding_idx]) if table.padding_idx is not None else None

        def forward(self, ids_BT: Any) -> Any:
            return functional.embedding(self.row_V[ids_BT], self.weight, padding_idx=self.padding)

    return FewRows()
