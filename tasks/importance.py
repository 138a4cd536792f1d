"""How much an encoder's heads and neurons matter to its answers, from the gradients of masks over them.

A mask m multiplies what a unit gives to the rest, and is 1. From the gradients g of the loss of each row in m:

- Fisher information, mean of g^2: half of it is the loss when the mask falls to 0, to second order, with the first
  order left out since a trained model stands at a minimum (Kwon 2022, arXiv:2204.09656, eq. 5 to 8).
- First-order Taylor expansion, mean of |g| (Michel 2019, arXiv:1905.10650, eq. 2; Molchanov 2019, arXiv:1906.10771).

Shapes: N rows, B batch, T tokens, C classes, A heads, F feed-forward neurons, X either of the two.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from tasks.architecture import layer_list, part
from tasks.batches import Rows, collate
from tasks.structure import head_size
from tasks.training import forward

Method = Literal["fisher", "taylor"]
BATCH_SIZE = 32


@dataclass(frozen=True, kw_only=True)
class Importance:
    """A score a unit, in float64; the higher, the more is lost without it."""

    heads: list[Any]
    """heads_A of each layer."""
    neurons: list[Any]
    """neurons_F of each layer."""


def importance(model: Any, rows: Rows, pad_id: int, method: Method) -> Importance:
    """Scores over `rows`, whose targets hold the `label` of each; the model is left as it was."""
    depth = len(layer_list(model)[1])
    totals: list[Any] = []
    for gradients in _row_gradients(model.eval(), rows, pad_id):
        scores = [(g.double().pow(2) if method == "fisher" else g.double().abs()).sum(dim=0) for g in gradients]
        totals = [total + score for total, score in zip(totals, scores, strict=True)] if totals else scores
    means = [(total / len(rows)).numpy() for total in totals]
    return Importance(heads=means[:depth], neurons=means[depth:])


def _row_gradients(model: Any, rows: Rows, pad_id: int) -> Iterator[list[Any]]:
    """For each batch: every row's own gradients in its masks, heads_BA of all layers, then neurons_BF."""
    import torch
    import torch.nn.functional as nn

    for start in range(0, len(rows), BATCH_SIZE):
        batch = collate(rows, range(start, min(start + BATCH_SIZE, len(rows))), pad_id)
        with _Masks(model, len(batch["label"])) as masks, torch.enable_grad():
            loss = nn.cross_entropy(forward(model, batch), batch["label"], reduction="sum")
            yield [gradient.detach() for gradient in torch.autograd.grad(loss, masks.all)]


class _Masks:
    """While entered, each row's heads and neurons pass through masks of 1 of its own, so that one backward pass of
    the summed loss gives each row's gradients."""

    def __init__(self, model: Any, num_rows: int) -> None:
        import torch

        _, self.stack = layer_list(model)
        size = head_size(model)

        def ones(count: int) -> Any:
            return torch.ones(num_rows, count, requires_grad=True)

        self.heads = [ones(part(layer, "attention_output").in_features // size) for layer in self.stack]
        self.neurons = [ones(part(layer, "feed_forward_out").in_features) for layer in self.stack]
        self.all = [*self.heads, *self.neurons]
        self.size = size
        self.hooks: list[Any] = []

    def __enter__(self) -> "_Masks":
        for layer, heads_BA, neurons_BF in zip(self.stack, self.heads, self.neurons, strict=True):
            wide = heads_BA.repeat_interleave(self.size, dim=1)
            self.hooks += [
                part(layer, "attention_output").register_forward_pre_hook(_scaled(wide)),
                part(layer, "feed_forward_out").register_forward_pre_hook(_scaled(neurons_BF)),
            ]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()


def _scaled(mask_BX: Any) -> Any:
    return lambda _module, inputs: (inputs[0] * mask_BX[:, None, :],)
