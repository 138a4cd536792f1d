"""Work that no answer needs: the head reads one token, so the last layer need not compute the others.

A classifier of the BERT family selects its first token after the last layer. Everything between the last attention and
that selection treats tokens one by one, so the selection can stand in front of it, and the answer stays the same: a
feed-forward part, a projection and two normalisations of the last layer then run on one token instead of all.

Shapes: B batch, T tokens, H hidden size.
"""

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

from tasks.architecture import layer_list, reads_every_token

TOKENWISE = frozenset({
    "Add", "BiasGelu", "Div", "Erf", "FastGelu", "Gelu", "LayerNormalization", "MatMul", "Mul", "Relu", "Sigmoid",
    "Sub", "Tanh",
})  # fmt: skip
"""Operators that give each token's output from that token alone, where their other inputs are constant."""

FIRST_TOKEN_MODEL_TYPES = ("bert", "roberta", "xlm-roberta", "camembert", "electra")
"""Families of `transformers` whose classifiers read the first token, and whose layers call
`attention.output(context_BTH, residual_BTH)` after attention."""


@contextlib.contextmanager
def first_token_only(model: Any) -> Iterator[None]:
    """Within, the last layer of a torch classifier computes no more than its head reads, with the same answers.

    Other families, and classifiers of tokens, are left as they are.
    """
    if model.config.model_type not in FIRST_TOKEN_MODEL_TYPES or reads_every_token(model):
        yield
        return
    _, stack = layer_list(model)
    hook = stack[-1].attention.output.register_forward_pre_hook(_keep_first_token)
    try:
        yield
    finally:
        hook.remove()


def _keep_first_token(_module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(states_BTH[:, :1] for states_BTH in inputs)


def select_first_token_early(model: Any) -> int:
    """Move the selection of the first token in front of the token-wise nodes before it, in place.

    Returns: how many nodes run on one token from now on; 0 where no selection is found, as after mean pooling.
    """
    from onnx import numpy_helper

    graph = _Graph(model)
    selection = graph.selection()
    moved = graph.tokenwise_before(selection) if selection is not None else []
    if not moved:
        return 0
    first = numpy_helper.from_array(np.zeros(1, dtype=np.int64), "first_token")
    model.graph.initializer.append(first)
    inside = {name for node in moved for name in node.output}
    selected: dict[str, str] = {}
    for node in moved:
        for at, name in enumerate(node.input):
            if name and name not in graph.constants and name not in inside:
                node.input[at] = selected.setdefault(name, f"{name}_first")
    made = {name for node in model.graph.node for name in node.output}
    nodes = [_gather(name, first.name, selected[name]) for name in selected if name not in made]
    for node in model.graph.node:
        nodes.append(node)
        nodes += [_gather(name, first.name, selected[name]) for name in node.output if name in selected]
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    return len(moved)


def _gather(name: str, index: str, output: str) -> Any:
    """B1H of BTH, so that what follows keeps its rank."""
    from onnx import helper

    return helper.make_node("Gather", [name, index], [output], name=output, axis=1)


class _Graph:
    """Who makes and who reads each value, and which values are constant, with their number of axes."""

    def __init__(self, model: Any) -> None:
        from onnx import numpy_helper

        self.nodes = list(model.graph.node)
        self.outputs = {value.name for value in model.graph.output}
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self.readers: dict[str, list[Any]] = defaultdict(list)
        for node in self.nodes:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self.constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
            if node.op_type == "Identity" and node.input[0] in self.constants:
                self.constants[node.output[0]] = self.constants[node.input[0]]  # exporters share equal weights so
            for name in node.input:
                self.readers[name].append(node)

    def selection(self) -> Any:
        """The node that takes the first of the tokens, the last such one; None where there is none."""
        found = [node for node in self.nodes if node.op_type == "Gather" and self._takes_first_token(node)]
        return found[-1] if found else None

    def tokenwise_before(self, selection: Any) -> list[Any]:
        """The nodes whose outputs nothing but the selection reads, through token-wise nodes alone, in order."""
        reached: list[Any] = [selection]
        for node in reversed(self.nodes):
            readers = [reader for name in node.output for reader in self.readers[name]]
            needed = not readers or not all(any(reader is one for one in reached) for reader in readers)
            if not needed and self._tokenwise(node):
                reached.append(node)
        return [node for node in self.nodes if any(node is one for one in reached[1:])]

    def _takes_first_token(self, node: Any) -> bool:
        axes = [attribute.i for attribute in node.attribute if attribute.name == "axis"]
        index = self.constants.get(node.input[1])
        if axes != [1] or node.input[0] in self.constants or index is None:
            return False
        return bool(index.shape == () and index == 0)

    def _tokenwise(self, node: Any) -> bool:
        if node.op_type not in TOKENWISE or any(name in self.outputs for name in node.output):
            return False
        constants = [self.constants[name] for name in node.input if name in self.constants]
        if node.op_type == "MatMul":
            return node.input[1] in self.constants and self.constants[node.input[1]].ndim == 2
        return all(constant.ndim <= 1 for constant in constants)
