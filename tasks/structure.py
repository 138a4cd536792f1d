"""Taking heads, neurons and layers out of an encoder: its matrices become smaller, and plain transformers loads it.

`config.pruned_heads` says which heads each layer lost, but one `intermediate_size` holds for all layers: a layer with
fewer neurons is stored with zeros up to the widest, which no training moves since both its gradients vanish, and the
export cuts them off again.

Shapes: B batch, T tokens, H hidden size, D dimensions of a layer's heads together, F feed-forward neurons, X inputs of
a linear layer and one for its bias.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.architecture import Part, layer_list, part, set_layers
from tasks.students import run_rows
from tasks.training import Rows

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


def refit(model: Any, kept: dict[int, Kept], rows: Rows, pad_id: int, *, num_rows: int) -> None:
    """Let the output matrices make up for what `cut` will take, by least squares on what they were given, in place.

    The update that keeps a linear layer's output nearest when some inputs are gone (ZipLM, Kurtic 2023,
    arXiv:2302.04089, eq. 3; Kwon 2022, arXiv:2204.09656, section 4.3, tunes a scale a unit by the same problem).
    """
    _, stack = layer_list(model)
    roles: tuple[Part, ...] = ("attention_output", "feed_forward_out")
    moments = {(at, role): _Moments() for at in kept for role in roles}
    hooks = [part(stack[at], role).register_forward_hook(found.add) for (at, role), found in moments.items()]
    run_rows(model, rows, pad_id, num_rows=num_rows)
    for hook in hooks:
        hook.remove()
    size = head_size(model)
    for at, chosen in kept.items():
        dimensions = [head * size + offset for head in chosen.heads for offset in range(size)]
        _solve(part(stack[at], "attention_output"), moments[at, "attention_output"].sum_XX, dimensions)
        _solve(part(stack[at], "feed_forward_out"), moments[at, "feed_forward_out"].sum_XX, chosen.neurons)


class _Moments:
    """Running second moments of a linear layer's inputs, with a 1 behind them for its bias."""

    def __init__(self) -> None:
        self.sum_XX: Any = 0.0

    def add(self, _module: Any, inputs: Any, _output: Any) -> None:
        """Hook: add what the layer is given."""
        import torch

        flat = inputs[0].detach().float().flatten(0, -2)
        flat = torch.cat([flat, torch.ones(len(flat), 1)], dim=1)
        self.sum_XX = self.sum_XX + flat.T @ flat


def _solve(module: Any, sum_XX: Any, kept: Sequence[int]) -> None:
    """Weights and bias from the kept inputs alone that come nearest to the module's outputs."""
    import torch

    num_inputs = module.in_features
    index = torch.tensor([*kept, num_inputs])
    weight_HX = torch.cat([module.weight.detach(), module.bias.detach()[:, None]], dim=1).double()
    sum_XX = sum_XX.double()
    inner_XX = sum_XX[index][:, index]
    ridge_X = torch.full((len(index),), RIDGE * float(sum_XX.diagonal()[:-1].mean()), dtype=torch.float64)
    ridge_X[-1] = 0.0
    # the ridge pulls to the old weights, so that nothing changes where nothing is cut
    target_XH = sum_XX[index] @ weight_HX.T + ridge_X[:, None] * weight_HX.T[index]
    found_HX = torch.linalg.solve(inner_XX + torch.diag(ridge_X), target_XH).T.float()
    with torch.no_grad():
        module.weight[:, index[:-1]] = found_HX[:, :-1]
        module.bias.copy_(found_HX[:, -1])


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


def on_output(layer: Any, change: Callable[[Any, Any], Any]) -> Any:
    """Hook that replaces what `layer` puts out by `change(given, put out)`; its handle."""

    def hook(_module: Any, args: Any, kwargs: Any, output: Any) -> Any:
        given = args[0] if args else kwargs["hidden_states"]
        if isinstance(output, tuple):
            return (change(given, output[0]), *output[1:])
        return change(given, output)

    return layer.register_forward_hook(hook, with_kwargs=True)
