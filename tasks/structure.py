"""Taking heads, neurons and layers out of an encoder: its matrices become smaller, and plain transformers loads it.

`config.pruned_heads` says which heads each layer lost, but one `intermediate_size` holds for all layers: a layer with
fewer neurons is stored with zeros up to the widest, which no training moves since both its gradients vanish, and the
export cuts them off again.

Shapes: B batch, T tokens, H hidden size, D dimensions of a layer's heads together, F feed-forward neurons, X inputs of
a linear layer and one for its bias.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tasks.architecture import layer_list, part, set_layers
from tasks.batches import Rows
from tasks.students import run_rows

OutputRole = Literal["attention_output", "feed_forward_out"]
OUTPUT_ROLES: tuple[OutputRole, ...] = ("attention_output", "feed_forward_out")
Moments = dict[tuple[int, OutputRole], Any]
"""Layer and role -> sum_XX of the outer products of the inputs."""

RIDGE = 1e-3
"""Added to the inputs' second moments, as a share of their mean."""


@dataclass(frozen=True, kw_only=True)
class LayerSize:
    """What one encoder layer has."""

    num_heads: int
    num_neurons: int


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What stays of one layer: the indices of its heads and neurons, of those that it has."""

    heads: list[int]
    neurons: list[int]


def layer_sizes(model: Any) -> list[LayerSize]:
    """Heads and live neurons of each layer."""
    _, stack = layer_list(model)
    return [
        LayerSize(
            num_heads=part(layer, "attention_output").in_features // head_size(model),
            num_neurons=len(live_neurons(layer)),
        )
        for layer in stack
    ]


def head_size(model: Any) -> int:
    """Dimensions of one head."""
    return int(model.config.hidden_size // model.config.num_attention_heads)


def keep_heads(model: Any, rows: Rows, pad_id: int, count: int) -> None:
    """Cut every layer to its `count` heads that contribute most to its output on `rows`, refitted, in place.

    A head's contribution is the mean square of what it is read as: of its dimensions, times that of their weights.
    """
    _, stack = layer_list(model)
    moments = input_moments(model, rows, pad_id)
    size = head_size(model)
    kept = {}
    for at, layer in enumerate(stack):
        of_input_D = moments[at, "attention_output"].diagonal()[:-1]
        of_weight_D = part(layer, "attention_output").weight.detach().pow(2).sum(dim=0)
        best = (of_input_D * of_weight_D).view(-1, size).sum(dim=1).topk(count).indices.sort().values
        kept[at] = Kept(heads=best.tolist(), neurons=list(range(part(layer, "feed_forward_out").in_features)))
    refit(model, kept, moments)
    cut(model, kept)


def live_neurons(layer: Any) -> list[int]:
    """Neurons of one layer that its output reads, and one where it reads none."""
    live: list[int] = part(layer, "feed_forward_out").weight.detach().abs().sum(dim=0).nonzero().flatten().tolist()
    return live or [0]


def cut(model: Any, kept: dict[int, Kept]) -> None:
    """Keep the layers that `kept` names, and of each only its heads and neurons, in place."""
    _, stack = layer_list(model)
    for at, chosen in kept.items():
        _keep_heads(model, at, chosen.heads)
        keep_neurons(stack[at], chosen.neurons)
    if len(kept) < len(stack):
        set_layers(model, sorted(kept))
    _, stack = layer_list(model)
    lost = {at: sorted(int(head) for head in _attention(layer).pruned_heads) for at, layer in enumerate(stack)}
    model.config.pruned_heads = {at: heads for at, heads in lost.items() if heads}


def keep_neurons(layer: Any, neurons: Sequence[int]) -> None:
    """Cut a layer's feed-forward matrices to the named neurons, in place."""
    import torch

    into, out = part(layer, "feed_forward_in"), part(layer, "feed_forward_out")
    index = torch.as_tensor(neurons, dtype=torch.long)
    with torch.no_grad():
        into.weight = torch.nn.Parameter(into.weight[index].clone())
        into.bias = torch.nn.Parameter(into.bias[index].clone())
        out.weight = torch.nn.Parameter(out.weight[:, index].clone())
    into.out_features = out.in_features = len(neurons)


def trim_neurons(model: Any) -> int:
    """Cut the neurons that no output reads, in place and exactly; their number."""
    _, stack = layer_list(model)
    num_cut = 0
    for layer in stack:
        live = live_neurons(layer)
        num_cut += part(layer, "feed_forward_in").out_features - len(live)
        keep_neurons(layer, live)
    return num_cut


def pad_neurons(model: Any) -> None:
    """Fill every layer with zero neurons up to the widest, in place, and say so in the config."""
    import torch

    _, stack = layer_list(model)
    width = max(part(layer, "feed_forward_in").out_features for layer in stack)
    for layer in stack:
        into, out = part(layer, "feed_forward_in"), part(layer, "feed_forward_out")
        more = width - into.out_features
        with torch.no_grad():
            into.weight = torch.nn.Parameter(torch.nn.functional.pad(into.weight, (0, 0, 0, more)))
            into.bias = torch.nn.Parameter(torch.nn.functional.pad(into.bias, (0, more)))
            out.weight = torch.nn.Parameter(torch.nn.functional.pad(out.weight, (0, more)))
        into.out_features = out.in_features = width
    for name in ("intermediate_size", "hidden_dim"):
        if name in model.config.to_dict():
            setattr(model.config, name, width)


def input_moments(model: Any, rows: Rows, pad_id: int) -> Moments:
    """sum_XX of what each layer's two output matrices are given, with a 1 behind it for the bias, over `rows`."""
    _, stack = layer_list(model)
    found: dict[tuple[int, OutputRole], _Sum] = {
        (at, role): _Sum() for at in range(len(stack)) for role in OUTPUT_ROLES
    }
    hooks = [part(stack[at], role).register_forward_hook(each.add) for (at, role), each in found.items()]
    run_rows(model, rows, pad_id, num_rows=len(rows))
    for hook in hooks:
        hook.remove()
    return {key: each.sum_XX for key, each in found.items()}


def refit(model: Any, kept: dict[int, Kept], moments: Moments) -> None:
    """Let the output matrices make up for what `cut` will take, by least squares on what they were given, in place.

    The update that keeps a linear layer's output nearest when some inputs are gone (ZipLM, Kurtic 2023,
    arXiv:2302.04089, eq. 3; Kwon 2022, arXiv:2204.09656, section 4.3, tunes a scale a unit by the same problem).
    """
    _, stack = layer_list(model)
    for at, chosen in kept.items():
        for role in OUTPUT_ROLES:
            refit_part(part(stack[at], role), moments[at, role], input_indices(model, chosen, role))


def input_indices(model: Any, kept: Kept, role: OutputRole) -> list[int]:
    """Inputs of an output matrix that come from the kept heads or neurons."""
    if role == "feed_forward_out":
        return kept.neurons
    size = head_size(model)
    return [head * size + offset for head in kept.heads for offset in range(size)]


def refit_part(module: Any, sum_XX: Any, kept: Sequence[int]) -> None:
    """Give a linear module the weights and bias from `kept` inputs alone that come nearest to its outputs, in place;
    the other weights become 0."""
    import torch

    if len(kept) == module.in_features:
        return
    index = torch.tensor([*kept, module.in_features])
    weight_XH = torch.cat([module.weight.detach(), module.bias.detach()[:, None]], dim=1).double().T
    sum_XX = sum_XX.double()
    ridge_X = torch.full((len(index),), RIDGE * float(sum_XX.diagonal()[:-1].mean()), dtype=torch.float64)
    ridge_X[-1] = 0.0
    # the ridge pulls to the old weights, not to 0
    target_XH = sum_XX[index] @ weight_XH + ridge_X[:, None] * weight_XH[index]
    found_XH = torch.linalg.solve(sum_XX[index][:, index] + torch.diag(ridge_X), target_XH).float()
    with torch.no_grad():
        module.weight.zero_()
        module.weight[:, index[:-1]] = found_XH[:-1].T
        module.bias.copy_(found_XH[-1])


class _Sum:
    """Running second moments of a linear layer's inputs."""

    def __init__(self) -> None:
        self.sum_XX: Any = 0.0

    def add(self, _module: Any, inputs: Any, _output: Any) -> None:
        """Hook: add what the layer is given."""
        import torch

        flat = inputs[0].detach().float().flatten(0, -2)
        flat = torch.cat([flat, torch.ones(len(flat), 1)], dim=1)
        self.sum_XX = self.sum_XX + flat.T @ flat


def _keep_heads(model: Any, at: int, heads: Sequence[int]) -> None:
    """Keep the named heads of those that layer `at` has, under the numbers that they were born with."""
    _, stack = layer_list(model)
    gone = _attention(stack[at]).pruned_heads
    born = [head for head in range(model.config.num_attention_heads) if head not in gone]
    lost = [number for place, number in enumerate(born) if place not in set(heads)]
    if lost:
        model.prune_heads({at: lost})


def _attention(layer: Any) -> Any:
    """The module of a layer that keeps count of its heads."""
    return next(module for module in layer.modules() if hasattr(module, "pruned_heads"))
