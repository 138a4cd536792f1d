"""Making a student from a teacher: which layers it starts from, and how its matrices become smaller.

Shapes: N rows, B batch, T tokens, H hidden size, F feed-forward size, A heads, C classes.
"""

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bento.errors import UserError
from tasks.architecture import HEADS_STAY, layer_list, part, set_layers
from tasks.batches import Rows, collate
from tasks.training import model_inputs

log = logging.getLogger("retort.students")

NUM_PROBE_ROWS = 512
RIDGE = 1.0
SHARED_BIAS = "relative_attention_bias.weight"
"""How MPNet ends the name of the table of a bias for each distance and head, which all layers add."""


def check_layers(layers: list[int], depth: int) -> None:
    """Raises: UserError unless `layers` are rising numbers of the teacher's `depth` layers."""
    if not layers or max(layers) >= depth or min(layers) < 0 or sorted(set(layers)) != layers:
        raise UserError(
            f"distil.layers: expected rising numbers from 0 to {depth - 1} (the teacher has {depth} layers), "
            f"got {layers}"
        )


def check_widths(hidden: int, feed: int, *, old_hidden: int, old_feed: int, head_size: int) -> int:
    """Number of heads of a student of these widths. Raises: UserError naming what would work."""
    if hidden > old_hidden or hidden % head_size:
        raise UserError(
            f"distil.hidden_size: expected a multiple of the head size {head_size} up to the teacher's {old_hidden}, "
            f"got {hidden}"
        )
    if feed > old_feed:
        raise UserError(f"distil.intermediate_size: expected at most the teacher's {old_feed}, got {feed}")
    return hidden // head_size


def keep_layers(model: Any, layers: list[int]) -> Any:
    """`model` with only the named encoder layers. Raises: UserError when one does not exist."""
    check_layers(layers, model.config.num_hidden_layers)
    set_layers(model, layers)
    return model


def search_layers(model: Any, rows: Rows, teacher_NC: Any, num_layers: int, pad_id: int) -> list[int]:
    """The `num_layers` layers that together keep most of what the teacher answers, by backward elimination.

    A subset is scored without training: how well a ridge regression on what the truncated encoder puts out predicts
    the teacher's logits on rows that it was not fitted to.
    """
    kept = list(range(model.config.num_hidden_layers))
    while len(kept) > num_layers:
        subsets = [[layer for layer in kept if layer != left_out] for left_out in kept]
        scores = [probe_score(_truncated(model, subset), rows, teacher_NC, pad_id) for subset in subsets]
        kept = subsets[int(np.argmax(scores))]
        log.info("layers %s explain %.3f of the teacher's logits", kept, max(scores))
    return kept


def narrow(model: Any, rows: Rows, pad_id: int, *, hidden_size: int | None, intermediate_size: int | None) -> Any:
    """A smaller copy of `model`: the hidden dimensions, heads and feed-forward neurons that carry most.

    What is kept is what has the largest variance (hidden dimensions) or the largest mean contribution to the layer's
    output (heads, neurons; the activation-aware magnitude of Sun 2023, arXiv:2306.11695) on training text.
    Raises: UserError for sizes that cannot be.
    """
    old_hidden, old_feed = _sizes(model.config)
    hidden, feed = hidden_size or old_hidden, intermediate_size or old_feed
    head_size = old_hidden // model.config.num_attention_heads
    num_heads = check_widths(hidden, feed, old_hidden=old_hidden, old_feed=old_feed, head_size=head_size)
    if (hidden, feed) == (old_hidden, old_feed):
        return model
    if getattr(model.config, "pruned_heads", None):
        raise UserError(
            "distil.hidden_size, distil.intermediate_size: expected a model with all its heads, got one that lost "
            "some; put distil in front of prune_structure"
        )
    kept = _choose(model, rows, pad_id, hidden=hidden, feed=feed, num_heads=num_heads)
    return _copy_smaller(model, kept, hidden=hidden, feed=feed, num_heads=num_heads)


def use_relu(model: Any) -> None:
    """Exchange the activation of all feed-forward parts for ReLU, in place."""
    import torch

    _, stack = layer_list(model)
    for layer in stack:
        holder, name = (
            (layer.ffn, "activation") if hasattr(layer, "ffn") else (layer.intermediate, "intermediate_act_fn")
        )
        setattr(holder, name, torch.nn.ReLU())
    setattr(model.config, "activation" if hasattr(model.config, "activation") else "hidden_act", "relu")


def run_rows(model: Any, rows: Rows, pad_id: int, *, batch_size: int = 64, num_rows: int = NUM_PROBE_ROWS) -> list[Any]:
    """Forward the first rows without gradients, for what hooks record; the masks_BT of the batches."""
    import torch

    masks = []
    with torch.inference_mode():
        for start in range(0, min(num_rows, len(rows)), batch_size):
            batch = collate(rows, range(start, min(start + batch_size, num_rows, len(rows))), pad_id)
            masks.append(batch["attention_mask"])
            model(**model_inputs(model, batch))
    return masks


@dataclass
class _Kept:
    """Indices of what stays: hidden dimensions of the whole model, head dimensions and neurons of each layer."""

    hidden: Any
    heads: list[Any] = field(default_factory=list)
    shared_heads: Any = None
    """Numbers of the heads that all layers keep, where they share a bias of each head."""
    neurons: list[Any] = field(default_factory=list)


def _sizes(config: Any) -> tuple[int, int]:
    return config.hidden_size, getattr(config, "intermediate_size", None) or config.hidden_dim


def _choose(model: Any, rows: Rows, pad_id: int, *, hidden: int, feed: int, num_heads: int) -> _Kept:
    """Record the activations of some rows and keep the strongest."""
    _, stack = layer_list(model)
    spread_H = _Sum()
    heads, neurons = [_Sum() for _ in stack], [_Sum() for _ in stack]
    hooks = [layer.register_forward_hook(spread_H.of_output) for layer in stack]
    for at, layer in enumerate(stack):
        hooks.append(part(layer, "attention_output").register_forward_hook(heads[at].of_input))
        hooks.append(part(layer, "feed_forward_out").register_forward_hook(neurons[at].of_input))
    run_rows(model, rows, pad_id)
    for hook in hooks:
        hook.remove()
    kept = _Kept(hidden=_top(spread_H.variance(), hidden))
    head_size = model.config.hidden_size // model.config.num_attention_heads
    scores = [_head_scores(part(layer, "attention_output"), heads[at], head_size) for at, layer in enumerate(stack)]
    if model.config.model_type in HEADS_STAY:
        scores = [sum(score_A / score_A.sum() for score_A in scores)] * len(stack)
        kept.shared_heads = _top(scores[0], num_heads)
    for at, layer in enumerate(stack):
        best = _top(scores[at], num_heads)
        kept.heads.append((best[:, None] * head_size + _range(head_size)[None, :]).flatten())
        weight = part(layer, "feed_forward_out").weight.pow(2).sum(dim=0)
        kept.neurons.append(_top(neurons[at].square() * weight, feed))
    return kept


def _head_scores(output: Any, inputs: "_Sum", head_size: int) -> Any:
    """scores_A of the heads that the linear module `output` reads: mean squares of what it makes of each."""
    by_dimension = inputs.square() * output.weight.pow(2).sum(dim=0)
    return by_dimension.view(-1, head_size).sum(dim=1)


class _Sum:
    """Running first and second moments of the last axis."""

    def __init__(self) -> None:
        self.count, self.first, self.second = 0, 0.0, 0.0  # type: int, Any, Any

    def of_output(self, _module: Any, _inputs: Any, output: Any) -> None:
        """Hook: add what a layer puts out."""
        self.add(output[0] if isinstance(output, tuple) else output)

    def of_input(self, _module: Any, inputs: Any, _output: Any) -> None:
        """Hook: add what a layer is given."""
        self.add(inputs[0])

    def add(self, values: Any) -> None:
        flat = values.detach().float().flatten(0, -2)
        self.count += flat.shape[0]
        self.first, self.second = self.first + flat.sum(dim=0), self.second + flat.pow(2).sum(dim=0)

    def square(self) -> Any:
        return self.second / self.count

    def variance(self) -> Any:
        return self.second / self.count - (self.first / self.count) ** 2


def _copy_smaller(model: Any, kept: _Kept, *, hidden: int, feed: int, num_heads: int) -> Any:
    """A new model of the smaller config whose parameters are slices of the old ones."""
    import torch

    config = copy.deepcopy(model.config)
    config.hidden_size, config.num_attention_heads = hidden, num_heads
    for name in ("intermediate_size", "hidden_dim"):
        if name in config.to_dict():
            setattr(config, name, feed)
    if "embedding_size" in config.to_dict():
        config.embedding_size = min(config.embedding_size, hidden)
    smaller = type(model)(config)
    choices = _axes(model, kept)
    with torch.no_grad():
        new = dict(smaller.named_parameters())
        for name, weight in model.named_parameters():
            new[name].copy_(_sliced(weight, new[name].shape, choices.get(name), kept.hidden))
    return smaller.eval()


def _axes(model: Any, kept: _Kept) -> dict[str, tuple[Any, ...]]:
    """Parameter name -> kept indices of each axis, for the parts whose axes are not all the hidden size."""
    names = {id(weight): name for name, weight in model.named_parameters()}
    found: dict[str, tuple[Any, ...]] = {}
    _, stack = layer_list(model)
    if kept.shared_heads is not None:
        biases = [(name, weight) for name, weight in model.named_parameters() if name.endswith(SHARED_BIAS)]
        found |= {name: (_range(len(weight)), kept.shared_heads) for name, weight in biases}
    for at, layer in enumerate(stack):
        heads, neurons = kept.heads[at], kept.neurons[at]
        into = {"query": heads, "key": heads, "value": heads, "feed_forward_in": neurons}
        for role, indices in into.items():
            module = part(layer, role)  # type: ignore[arg-type]
            found[names[id(module.weight)]] = (indices, kept.hidden)
            found[names[id(module.bias)]] = (indices,)
        found[names[id(part(layer, "attention_output").weight)]] = (kept.hidden, heads)
        found[names[id(part(layer, "feed_forward_out").weight)]] = (kept.hidden, neurons)
    return found


def _sliced(weight: Any, shape: Sequence[int], axes: tuple[Any, ...] | None, hidden: Any) -> Any:
    """`weight` cut to `shape`: by `axes`, or by the hidden dimensions wherever an axis became smaller."""
    for axis, size in enumerate(shape):
        if axes is not None:
            weight = weight.index_select(axis, axes[axis])
        elif weight.shape[axis] != size:
            weight = weight.index_select(axis, hidden)
    return weight


def _top(scores: Any, count: int) -> Any:
    """Indices of the `count` largest, in their old order."""
    return scores.topk(count).indices.sort().values


def _range(size: int) -> Any:
    import torch

    return torch.arange(size)


def probe_score(model: Any, rows: Rows, teacher_NC: Any, pad_id: int) -> float:
    """Share of the variance of the teacher's logits that a ridge regression on the encoder's output explains.

    Fitted to half of the first rows and scored on the other; 0 at best for an encoder that tells nothing.
    """
    features: list[Any] = []
    _, stack = layer_list(model)
    hook = stack[-1].register_forward_hook(_collect(features))
    masks = run_rows(model, rows, pad_id)
    hook.remove()
    X = np.concatenate([_pooled(states, mask) for states, mask in zip(features, masks, strict=True)])
    Y = teacher_NC[: len(X)] - teacher_NC[: len(X)].mean(axis=0)
    half = len(X) // 2
    X = np.concatenate([X, np.ones((len(X), 1))], axis=1)
    W = np.linalg.solve(X[:half].T @ X[:half] + RIDGE * np.eye(X.shape[1]), X[:half].T @ Y[:half])
    residual = Y[half:] - X[half:] @ W
    return float(1 - (residual**2).sum() / (Y[half:] ** 2).sum())


def _truncated(model: Any, layers: list[int]) -> Any:
    return keep_layers(copy.deepcopy(model), layers)


def _collect(features: list[Any]) -> Callable[..., None]:
    def hook(_module: Any, _inputs: Any, output: Any) -> None:
        features.append(output[0] if isinstance(output, tuple) else output)

    return hook


def _pooled(states_BTH: Any, mask_BT: Any) -> Any:
    """First token and mean of the real tokens, side by side."""
    import torch

    mask_BT1 = mask_BT[..., None]
    mean_BH = (states_BTH * mask_BT1).sum(dim=1) / mask_BT1.sum(dim=1)
    return torch.cat([states_BTH[:, 0], mean_BH], dim=1).double().numpy()
