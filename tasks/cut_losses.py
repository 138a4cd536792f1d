"""What it costs the answers to cut one layer's heads, or its neurons, to some number, or to lose the layer: measured.

Importance ranks the units within a layer, but its sums do not compare across parts: what is left is refitted, and half
of a layer's neurons may go for next to nothing. So each part is cut alone to a few sizes, and the divergence of the
answers from the uncut model's is read between them (the loss priors of ZipLM's search, Kurtic 2023, arXiv:2302.04089,
section 3.2, taken at the output).

Shapes: N rows, C classes, A heads, F feed-forward neurons, L layers.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.architecture import layer_list, part, set_layers
from tasks.batches import Rows
from tasks.importance import Importance
from tasks.structure import Kept, LayerSize, Moments, OutputRole, input_indices, layer_sizes, refit_part
from tasks.training import predict_logits

SHARES = (1 / 24, 1 / 8, 1 / 4, 1 / 2, 3 / 4)
"""Of its heads or neurons, to which a layer is cut."""
TEMPERATURE = 2.0
"""Softens the answers that are compared, as a distillation does; the divergence would else see the first class only."""


@dataclass(frozen=True, kw_only=True)
class CutLosses:
    """Divergences in nats."""

    heads: list[Any]
    """Of each layer, an array over the number of heads that stay, from 0."""
    neurons: list[Any]
    """Of each layer, an array over the number of neurons that stay, from 0."""
    layers_L: Any
    """Of the model without the layer."""


def strongest(scores: Importance, at: int, size: LayerSize) -> Kept:
    """The most important heads and neurons of layer `at`, as many as `size` says."""

    def top(values: Any, count: int) -> list[int]:
        return sorted(int(index) for index in np.argsort(-values, kind="stable")[:count])

    return Kept(heads=top(scores.heads[at], size.num_heads), neurons=top(scores.neurons[at], size.num_neurons))


def cut_losses(model: Any, scores: Importance, moments: Moments, rows: Rows, pad_id: int) -> CutLosses:
    """Measure every layer's parts, and the model without the layer, over `rows`. The model is left as it was."""
    probe = _Probe(model, rows, pad_id)
    sizes = layer_sizes(model)

    def curve(at: int, role: OutputRole, count: int) -> Any:
        return _curve(count, lambda left: probe.cut(at, role, scores, moments, left))

    return CutLosses(
        heads=[curve(at, "attention_output", size.num_heads) for at, size in enumerate(sizes)],
        neurons=[curve(at, "feed_forward_out", size.num_neurons) for at, size in enumerate(sizes)],
        layers_L=layer_losses(model, rows, pad_id),
    )


def layer_losses(model: Any, rows: Rows, pad_id: int) -> Any:
    """losses_L of the model without each of its layers; infinite where it has but one."""
    probe = _Probe(model, rows, pad_id)
    depth = len(layer_list(model)[1])
    return np.array([probe.without(at) if depth > 1 else np.inf for at in range(depth)])


def _curve(count: int, loss: Callable[[int], float]) -> Any:
    """Losses with 0 to `count` left: measured at SHARES, straight in between, never falling the more go."""
    counts = sorted({max(1, round(share * count)) for share in SHARES} - {count})
    measured = [loss(left) for left in counts]
    losses = np.maximum.accumulate([0.0, *measured[::-1]])[::-1]
    return np.interp(np.arange(count + 1), [*counts, count], losses)


def divergence(logits_NC: Any, changed_NC: Any) -> float:
    """Mean KL of the softened answers from those before, times the squared temperature, as distillation weighs it."""
    before, after = (_log_softmax(each.astype(np.float64) / TEMPERATURE) for each in (logits_NC, changed_NC))
    return float((np.exp(before) * (before - after)).sum(axis=1).mean() * TEMPERATURE**2)


class _Probe:
    """A model, rows and its answers to them as it is."""

    def __init__(self, model: Any, rows: Rows, pad_id: int) -> None:
        self.model, self.rows, self.pad_id = model, rows, pad_id
        self.logits_NC = predict_logits(model, rows, pad_id=pad_id)

    def without(self, at: int) -> float:
        """Loss of the model without layer `at`."""
        smaller = copy.deepcopy(self.model)
        set_layers(smaller, [layer for layer in range(len(layer_list(self.model)[1])) if layer != at])
        return self._loss(smaller)

    def cut(self, at: int, role: OutputRole, scores: Importance, moments: Moments, left: int) -> float:
        """Loss with only the `left` strongest inputs of one output matrix, refitted."""
        import torch

        module = part(layer_list(self.model)[1][at], role)
        old = module.weight.detach().clone(), module.bias.detach().clone()
        kept = strongest(scores, at, LayerSize(num_heads=left, num_neurons=left))
        refit_part(module, moments[at, role], input_indices(self.model, kept, role))
        loss = self._loss(self.model)
        with torch.no_grad():
            module.weight.copy_(old[0])
            module.bias.copy_(old[1])
        return loss

    def _loss(self, model: Any) -> float:
        return divergence(self.logits_NC, predict_logits(model, self.rows, pad_id=self.pad_id))


def _log_softmax(logits_NC: Any) -> Any:
    shifted_NC = logits_NC - logits_NC.max(axis=1, keepdims=True)
    return shifted_NC - np.log(np.exp(shifted_NC).sum(axis=1, keepdims=True))


def first_rows(rows: Rows, count: int) -> Rows:
    """The first `count` rows."""
    types = rows.type_ids[:count] if rows.type_ids is not None else None
    targets = {name: values[:count] for name, values in rows.targets.items()}
    return Rows(token_ids=rows.token_ids[:count], type_ids=types, targets=targets)
