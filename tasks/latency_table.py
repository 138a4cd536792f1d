"""What a layer's attention with h heads and its feed-forward with f neurons take on this CPU, and a choice by it.

Multiply-adds mislead on a CPU: small matrices leave its vector units idle, and a few heads cost nearly what all cost.
So each size is timed in the form in which it will run (fused, dynamic int8, the deployed session's settings), as ZipLM
does (Kurtic 2023, arXiv:2302.04089, section 3.2), and sizes are chosen by a multiple-choice knapsack over those times.

Shapes: T tokens, H hidden size, D dimensions of a layer's heads together, F feed-forward neurons.
"""

import logging
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from bento.predictor import open_session
from tasks.store import run_step
from tasks.types import Artifact, Section

if TYPE_CHECKING:
    import onnx

log = logging.getLogger("retort.latency")

TABLE_FILE = "latency.json"
NUM_COPIES = 4
"""Equal parts in a row in one timed graph, each with weights of its own, so that caches and overhead are a model's."""
MEASURED_S = 8.0
"""Longest time that one table's runs take, after the graphs are built."""
MIN_ROUNDS, MAX_ROUNDS = 5, 60
NUM_LEVELS = 9
"""Numbers of heads, and of neurons, that are timed; between them time is nearly straight."""
NUM_BINS = 4000
"""Steps into which the knapsack divides the budget."""

Part = tuple[str, int]
"""`heads` or `neurons` with their number, or `rest` or `empty` with 0."""


class Geometry(Section):
    """What a table holds for: the sizes that stay, and the largest of those that are chosen."""

    hidden_size: int
    head_size: int
    num_heads: int
    num_neurons: int
    num_classes: int
    num_tokens: int
    """Tokens of the timed sentence."""
    threads: int


class LatencyTable(Section):
    """Measured milliseconds of one layer's parts by their sizes, and of everything around the layers."""

    cpu: str
    heads: tuple[int, ...]
    attention_ms: tuple[float, ...]
    neurons: tuple[int, ...]
    feed_forward_ms: tuple[float, ...]
    rest_ms: float
    """Embeddings, classifier and the call itself."""

    def layer_ms(self, heads: int, neurons: int) -> float:
        """One layer; sizes between the measured ones are interpolated."""
        attention = np.interp(heads, self.heads, self.attention_ms)
        return float(attention + np.interp(neurons, self.neurons, self.feed_forward_ms))

    def model_ms(self, layers: Sequence[tuple[int, int]]) -> float:
        """A model of layers with these (heads, neurons), for one sentence."""
        return self.rest_ms + sum(self.layer_ms(*layer) for layer in layers)


def read_table(artifact: Artifact) -> LatencyTable:
    """The table that `measured_table` stored."""
    return LatencyTable.model_validate_json((artifact.path / TABLE_FILE).read_bytes())


def measured_table(geometry: Geometry) -> Artifact:
    """The table of this CPU, measured once; kept in the store under the CPU's name, since it holds on no other."""
    cpu = cpu_name()

    def make(out: Path, _work: Path) -> None:
        log.info("timing the parts of a layer on %s", cpu)
        table = measure_table(geometry, cpu)
        (out / TABLE_FILE).write_text(table.model_dump_json(indent=2) + "\n", encoding="utf-8")

    return run_step(
        "latency_table",
        kind="report",
        inputs=[cpu],
        config=geometry.model_dump(),
        code="tasks.latency_table",
        make=make,
    ).artifact


def cpu_name() -> str:
    """The processor's model as the kernel gives it, with the machine type where it gives none."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    words = [fields.get(key, "") for key in ("model name", "cpu family", "model", "stepping")]
    return " ".join(word for word in (*words, platform.machine()) if word)


def timed(count: int) -> tuple[int, ...]:
    """Numbers from a small share of `count` up to it, evenly spread."""
    least = max(1, count // 24)
    return tuple(sorted({round(value) for value in np.linspace(least, count, NUM_LEVELS)}))


def measure_table(
    geometry: Geometry, cpu: str, *, clock: Callable[[], float] = time.perf_counter, seconds: float = MEASURED_S
) -> LatencyTable:
    """Build, quantize and time a small graph of every size."""
    heads, neurons = timed(geometry.num_heads), timed(geometry.num_neurons)
    parts: list[Part] = [("empty", 0), ("rest", 0)]
    parts += [("heads", count) for count in heads] + [("neurons", count) for count in neurons]
    with TemporaryDirectory() as folder:
        runs = {part: _open(part, geometry, Path(folder)) for part in parts}
        median_ms = measure(runs, seconds=seconds, clock=clock)

    def part_ms(kind: str, counts: Sequence[int]) -> tuple[float, ...]:
        found = [(median_ms[kind, count] - median_ms["empty", 0]) / NUM_COPIES for count in counts]
        return rising(found)

    return LatencyTable(
        cpu=cpu, heads=heads, attention_ms=part_ms("heads", heads), neurons=neurons,
        feed_forward_ms=part_ms("neurons", neurons), rest_ms=median_ms["rest", 0],
    )  # fmt: skip


def measure(
    runs: Mapping[Part, Callable[[], Any]], *, seconds: float, clock: Callable[[], float] = time.perf_counter
) -> dict[Part, float]:
    """Median milliseconds of each call, in interleaved rounds, so that what else the machine does meets all alike."""
    for run in runs.values():
        run()
    found: dict[Part, list[float]] = {key: [] for key in runs}
    end = clock() + seconds
    for number in range(MAX_ROUNDS):
        if number >= MIN_ROUNDS and clock() > end:
            break
        for key, run in runs.items():
            start = clock()
            run()
            found[key].append((clock() - start) * 1e3)
    return {key: statistics.median(times) for key, times in found.items()}


def rising(values: Sequence[float]) -> tuple[float, ...]:
    """The nearest sequence that never falls (isotonic regression) and stays above 0: more never takes less time."""
    from sklearn.isotonic import isotonic_regression

    return tuple(float(value) for value in isotonic_regression(np.maximum(values, 1e-6)))


def cheapest(costs: Sequence[Any], losses: Sequence[Any], budget: float) -> list[int] | None:
    """One option a group whose costs stay in `budget` and whose losses sum to the least; None where none fits.

    `costs` and `losses` hold an array of options for each group. Dynamic program over the budget in NUM_BINS steps;
    costs are rounded down to a step, so the choice may exceed the budget by a step a group.
    """
    step = budget / NUM_BINS
    best = np.zeros(NUM_BINS + 1)
    chosen = np.empty((len(costs), NUM_BINS + 1), dtype=np.int64)
    for group, (cost, loss) in enumerate(zip(costs, losses, strict=True)):
        best, chosen[group] = _with_group(best, np.floor(np.asarray(cost) / step + 1e-9).astype(np.int64), loss)
    if not np.isfinite(best[-1]):
        return None
    picks, left = [], NUM_BINS
    for group in reversed(range(len(costs))):
        picks.append(int(chosen[group, left]))
        left -= int(np.floor(costs[group][picks[-1]] / step + 1e-9))
    return picks[::-1]


def _with_group(best: Any, steps: Any, losses: Any) -> tuple[Any, Any]:
    """Least loss for each budget when one more group's option is paid from it, and that option."""
    found, option = np.full_like(best, np.inf), np.zeros(len(best), dtype=np.int64)
    for at, (step, loss) in enumerate(zip(steps, losses, strict=True)):
        if step >= len(best):
            continue
        total = best[: len(best) - step] + loss
        better = total < found[step:]
        found[step:][better], option[step:][better] = total[better], at
    return found, option


def _open(part: Part, geometry: Geometry, folder: Path) -> Callable[[], Any]:
    """A call that runs one part's graph once."""
    import onnx

    from tasks.quantization.integer import quantize_dynamic

    model = part_graph(part, geometry)
    products = [node.name for node in model.graph.node if node.op_type in ("MatMul", "Attention")]
    path = folder / "part.onnx"
    onnx.save(quantize_dynamic(model, products, per_channel=True) if products else model, path)
    session: Any = open_session(path, geometry.threads)
    feeds = _feeds(session, geometry)
    return lambda: session.run(None, feeds)


def _feeds(session: Any, geometry: Geometry) -> dict[str, Any]:
    states = np.random.default_rng(0).normal(size=(1, geometry.num_tokens, geometry.hidden_size))
    ones = np.ones((1, geometry.num_tokens), dtype=np.int32)
    values = {"states_BTH": states.astype(np.float32), "mask_BT": ones, "ids_BT": ones}
    return {node.name: values[node.name] for node in session.get_inputs()}


def part_graph(part: Part, geometry: Geometry) -> "onnx.ModelProto":
    """Copies of one part in a row, in the operators that the export's fusion leaves, with random weights."""
    from onnx import TensorProto, helper

    kind, count = part
    graph = _Graph(geometry)
    if kind == "empty":
        last = graph.node("Identity", ["states_BTH"], domain="")
    elif kind == "rest":
        last = graph.rest()
    else:
        last = graph.chain(graph.attention if kind == "heads" else graph.feed_forward, count)
    shape = [1, geometry.num_tokens]
    inputs = {
        "states_BTH": helper.make_tensor_value_info("states_BTH", TensorProto.FLOAT, [*shape, geometry.hidden_size]),
        "mask_BT": helper.make_tensor_value_info("mask_BT", TensorProto.INT32, shape),
        "ids_BT": helper.make_tensor_value_info("ids_BT", TensorProto.INT32, shape),
    }
    used = {name for node in graph.nodes for name in node.input}
    output = helper.make_tensor_value_info(last, TensorProto.FLOAT, None)
    made = helper.make_graph(
        graph.nodes, kind, [value for name, value in inputs.items() if name in used], [output], graph.weights
    )
    domains = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(made, opset_imports=domains, ir_version=8)


class _Graph:
    """Nodes and random weights of one graph under construction."""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.rng = np.random.default_rng(0)
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def chain(self, add: Callable[[str, int], str], count: int) -> str:
        """NUM_COPIES times `add`, each on what the one before put out."""
        states = "states_BTH"
        for _ in range(NUM_COPIES):
            states = add(states, count)
        return states

    def attention(self, states: str, count: int) -> str:
        """Attention with `count` heads, its output matrix and the layer norm around them."""
        H, D = self.geometry.hidden_size, self.geometry.head_size * count
        inputs = [states, self.weight(H, 3 * D), self.weight(3 * D), "mask_BT"]
        context = self.node("Attention", inputs, num_heads=count)
        return self.normed(self.node("MatMul", [context, self.weight(D, H)], domain=""), states)

    def feed_forward(self, states: str, count: int) -> str:
        """Two matrices with `count` neurons between them and the layer norm around them."""
        H, F = self.geometry.hidden_size, count
        inner = self.node("MatMul", [states, self.weight(H, F)], domain="")
        active = self.node("BiasGelu", [inner, self.weight(F)])
        return self.normed(self.node("MatMul", [active, self.weight(F, H)], domain=""), states)

    def normed(self, values: str, states: str) -> str:
        """Bias, residual connection and layer norm, which the export leaves as operators of their own."""
        H = self.geometry.hidden_size
        biased = self.node("Add", [values, self.weight(H)], domain="")
        added = self.node("Add", [biased, states], domain="")
        inputs = [added, self.weight(H), self.weight(H)]
        return self.node("LayerNormalization", inputs, domain="", axis=-1, epsilon=1e-12)

    def rest(self) -> str:
        """Embeddings, pooled first token and classifier."""
        H, T = self.geometry.hidden_size, self.geometry.num_tokens
        words = self.node("Gather", [self.weight(1000, H), "ids_BT"], domain="")
        types = self.node("Gather", [self.weight(2, H), "mask_BT"], domain="")
        embedded = self.normed(self.node("Add", [words, self.weight(T, H)], domain=""), types)
        first = self.node("Gather", [embedded, self.index(0)], domain="", axis=1)
        dense = self.node("Gemm", [first, self.weight(H, H), self.weight(H)], domain="")
        active = self.node("Tanh", [dense], domain="")
        classes = self.geometry.num_classes
        return self.node("Gemm", [active, self.weight(H, classes), self.weight(classes)], domain="")

    def node(self, operator: str, inputs: list[str], *, domain: str = "com.microsoft", **attributes: Any) -> str:
        """Add a node; the name of its output."""
        from onnx import helper

        output = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, domain=domain, **attributes))
        return output

    def weight(self, *shape: int) -> str:
        return self._constant((self.rng.normal(size=shape) * 0.05).astype(np.float32))

    def index(self, value: int) -> str:
        return self._constant(np.array(value, dtype=np.int64))

    def _constant(self, value: Any) -> str:
        from onnx import numpy_helper

        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(value, name))
        return name
