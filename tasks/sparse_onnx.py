"""Compressed constants in an ONNX file: a sparse tensor as its values and the distances between them.

The file stays plain ONNX. Standard operators restore each tensor, bit by bit as it was, and since all their inputs are
constants, a runtime computes them once at load (ONNX Runtime at its default optimisation) and then runs the dense
model: smaller on disk, not faster.

The value that occurs most is left out: 0 in a pruned matrix, the zero point in an asymmetric integer table. Where the
others lie is written in digits, several of which share a 16-bit word:

    gaps     the distance to the previous stored value; the radix is the largest whose digits fit a word. Where a
             distance is too long for a digit, a value that could have been left out is stored on the way
    bits     one digit a weight, 0 or 1, sixteen a word; smaller above about one stored value in six

Shapes: N weights, S stored values, W words, D digits a word.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bento.errors import UserError

if TYPE_CHECKING:
    import onnx

WORD_VALUES = 2**16
GAP_DIGITS = (2, 3, 4, 5)
BIT_DIGITS = 16
MIN_OPSET = 13
"""Operators below mean what they say from here on."""
NODES_BYTES = 1024
"""What the restoring operators of one tensor take in the file, names included, at most."""


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """One tensor, compressed."""

    words_W: NDArray[np.uint16]
    digits_per_word: int
    values_S: NDArray[Any]
    fill: Any
    """What every weight is that is not stored, a scalar of the tensor's type."""

    @property
    def num_bytes(self) -> int:
        """Stored bytes of the tensor's constants and operators."""
        return self.words_W.nbytes + self.values_S.nbytes + NODES_BYTES


@dataclass(frozen=True, kw_only=True)
class Packed:
    """What packing a file brought."""

    num_tensors: int
    """Tensors stored compressed."""
    dense_bytes: int
    """Bytes of the file before."""
    stored_bytes: int
    """Bytes of the file after."""


def pack_file(source: Path, out: Path) -> Packed:
    """Write the model of `source` to `out` with each tensor compressed that becomes smaller by it.

    Zero tensors mean that nothing was written. Raises: UserError for operators older than opset 13.
    """
    import onnx

    model = onnx.load(source)
    _check_opset(model)
    writer = _Writer()
    untouched = {value.name for value in (*model.graph.input, *model.graph.output)}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in untouched or not writer.pack(tensor)]
    if writer.num_packed:
        del model.graph.initializer[:]
        model.graph.initializer.extend([*kept, *writer.constants.values()])
        nodes = [*writer.nodes, *model.graph.node]
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        onnx.save(model, out)
    return Packed(
        num_tensors=writer.num_packed,
        dense_bytes=source.stat().st_size,
        stored_bytes=out.stat().st_size if writer.num_packed else source.stat().st_size,
    )


def encode(weights: NDArray[Any]) -> Encoded | None:
    """The smallest compressed form of a tensor; None where it is no smaller than the tensor itself."""
    flat_N = np.ascontiguousarray(weights).reshape(-1)
    bits_N = flat_N.view(f"u{flat_N.itemsize}")  # so that -0.0 and 0.0 differ
    patterns, counts = np.unique(bits_N, return_counts=True)
    stored_N = bits_N != patterns[counts.argmax()]
    fill = patterns[counts.argmax()].reshape(1).view(flat_N.dtype)[0]
    if len(patterns) == 1:
        return Encoded(words_W=np.empty(0, np.uint16), digits_per_word=BIT_DIGITS, values_S=flat_N[:0], fill=fill)
    forms = [encode_bits(flat_N, stored_N, fill)]
    if stored_N.mean() < 0.5:  # above, a bit is always smaller than a gap
        forms += [encode_gaps(flat_N, stored_N, fill, digits) for digits in GAP_DIGITS]
    best = min(forms, key=lambda form: form.num_bytes)
    return best if best.num_bytes < flat_N.nbytes else None


def encode_gaps(flat_N: NDArray[Any], stored_N: NDArray[np.bool_], fill: Any, digits_per_word: int) -> Encoded:
    """Stored values with the distance of each to the one before, the first one's to the beginning."""
    radix = _radix(digits_per_word)
    positions_S = _with_steps(np.flatnonzero(stored_N), radix - 1)
    positions_S = _filled_up(positions_S, len(flat_N), digits_per_word)
    digits_WD = np.diff(positions_S, prepend=0).reshape(-1, digits_per_word)
    return Encoded(
        words_W=_words(digits_WD, radix),
        digits_per_word=digits_per_word,
        values_S=flat_N[positions_S],
        fill=fill,
    )


def encode_bits(flat_N: NDArray[Any], stored_N: NDArray[np.bool_], fill: Any) -> Encoded:
    """Stored values with a bit a weight that says whether it is one of them."""
    digits_N = np.pad(stored_N.astype(np.int64), (0, -len(flat_N) % BIT_DIGITS))
    words_W = _words(digits_N.reshape(-1, BIT_DIGITS), 2)
    return Encoded(words_W=words_W, digits_per_word=BIT_DIGITS, values_S=flat_N[stored_N], fill=fill)


def _radix(digits_per_word: int) -> int:
    """The largest radix of which `digits_per_word` digits fit a word."""
    return next(radix for radix in range(256, 1, -1) if radix**digits_per_word <= WORD_VALUES)


def _words(digits_WD: NDArray[np.int64], radix: int) -> NDArray[np.uint16]:
    """Digits, the lowest first, as numbers."""
    words_W: NDArray[np.uint16] = (digits_WD @ radix ** np.arange(digits_WD.shape[1])).astype(np.uint16)
    return words_W


def _with_steps(positions_S: NDArray[np.int64], longest: int) -> NDArray[np.int64]:
    """`positions_S` with others between them, so that no distance is longer than `longest`."""
    gaps_S = np.diff(positions_S, prepend=0)
    num_steps_S = np.maximum(gaps_S - 1, 0) // longest
    starts = np.repeat(positions_S - gaps_S, num_steps_S)
    number = np.arange(len(starts)) - np.repeat(np.cumsum(num_steps_S) - num_steps_S, num_steps_S)
    return np.sort(np.concatenate([positions_S, starts + longest * (number + 1)]))


def _filled_up(positions_S: NDArray[np.int64], num_weights: int, multiple: int) -> NDArray[np.int64]:
    """`positions_S` with the first others that there are, so that their number fills whole words."""
    missing = -len(positions_S) % multiple
    among = np.arange(min(num_weights, len(positions_S) + missing))
    others = np.setdiff1d(among, positions_S, assume_unique=True)[:missing]
    return np.sort(np.concatenate([positions_S, others]))


def _check_opset(model: "onnx.ModelProto") -> None:
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if not versions or versions[0] < MIN_OPSET:
        got = versions[0] if versions else "none"
        raise UserError(f"pack: expected an ONNX model of opset {MIN_OPSET} or later, got {got}; export it anew")


@dataclass
class _Writer:
    """Collects the operators and constants that restore the packed tensors."""

    nodes: list["onnx.NodeProto"] = field(default_factory=list)
    constants: dict[str, "onnx.TensorProto"] = field(default_factory=dict)
    num_packed: int = 0

    def pack(self, tensor: "onnx.TensorProto") -> bool:
        """Whether `tensor` is smaller compressed, and is then restored by the operators added here."""
        from onnx import numpy_helper

        if int(np.prod(tensor.dims)) < NODES_BYTES // 4 or tensor.data_type not in _plain_types():
            return False
        encoded = encode(numpy_helper.to_array(tensor))
        if encoded is None:
            return False
        self._restore(tensor, encoded)
        self.num_packed += 1
        return True

    def _restore(self, tensor: "onnx.TensorProto", encoded: Encoded) -> None:
        """Operators from the constants to a tensor of the old name."""
        name, num_weights = str(self.num_packed), int(np.prod(tensor.dims))
        shape = self._constant("shape_" + "_".join(map(str, tensor.dims)), np.array(tensor.dims, dtype=np.int64))
        if not len(encoded.values_S):
            self._filled(name, shape, encoded.fill, output=tensor.name)
            return
        restore = self._from_bits if encoded.digits_per_word == BIT_DIGITS else self._from_gaps
        self._node("Reshape", name, restore(name, num_weights, encoded), shape, output=tensor.name)

    def _from_gaps(self, name: str, num_weights: int, encoded: Encoded) -> str:
        """The sums of the gaps are where the values lie in a tensor that is `fill` elsewhere."""
        size = self._constant(f"size_{num_weights}", np.array([num_weights], dtype=np.int64))
        values_S = self._constant(f"{name}/values", encoded.values_S)
        gaps_S = self._digits(name, encoded, _radix(encoded.digits_per_word))
        positions_S = self._node("CumSum", name, gaps_S, self._constant("first_axis", np.array(0, dtype=np.int64)))
        filled_N = self._filled(name, size, encoded.fill)
        return self._node("ScatterElements", name, filled_N, positions_S, values_S, axis=0)

    def _from_bits(self, name: str, num_weights: int, encoded: Encoded) -> str:
        """The sum of the bits so far is a weight's row in the table of `fill` and the values, 0 where its bit is.

        Not by NonZero, which ONNX Runtime does not compute at load.
        """
        table = np.concatenate([np.array([encoded.fill], dtype=encoded.values_S.dtype), encoded.values_S])
        axis = self._constant("first_axis", np.array(0, dtype=np.int64))
        start, end = self._constant("start", np.array([0], dtype=np.int64)), np.array([num_weights], dtype=np.int64)
        padded_N = self._digits(name, encoded, 2)
        bits_N = self._node("Slice", name, padded_N, start, self._constant(f"size_{num_weights}", end))
        rows_N = self._node("Mul", name, self._node("CumSum", name, bits_N, axis), bits_N)
        return self._node("Gather", name, self._constant(f"{name}/values", table), rows_N)

    def _digits(self, name: str, encoded: Encoded, radix: int) -> str:
        """All digits of the words in their order, int32."""
        words_W1 = self._constant(f"{name}/words", encoded.words_W.reshape(-1, 1))
        powers_D = self._constant(f"powers_{radix}", (radix ** np.arange(encoded.digits_per_word)).astype(np.int32))
        modulus = self._constant(f"radix_{radix}", np.array(radix, dtype=np.int32))
        numbers_W1 = self._node("Cast", name, words_W1, to=_int32())
        digits_WD = self._node("Mod", name, self._node("Div", name, numbers_W1, powers_D), modulus)
        flat = self._constant("flat", np.array([-1], dtype=np.int64))
        return self._node("Reshape", f"{name}/digits", digits_WD, flat)

    def _filled(self, name: str, shape: str, fill: Any, output: str | None = None) -> str:
        from onnx import numpy_helper

        return self._node(
            "ConstantOfShape", name, shape, output=output, value=numpy_helper.from_array(np.array([fill]))
        )

    def _constant(self, name: str, values: NDArray[Any]) -> str:
        from onnx import numpy_helper

        name = f"packed/{name}"
        self.constants.setdefault(name, numpy_helper.from_array(values, name))
        return name

    def _node(self, operator: str, name: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add one operator; the name of what it puts out."""
        from onnx import helper

        output = output or f"packed/{name}/{operator}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=f"{output}_restore", **attributes))
        return output


def _plain_types() -> tuple[int, ...]:
    """Element types of a whole number of bytes that numpy has too."""
    from onnx import TensorProto

    return (
        TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.INT8, TensorProto.UINT8,
        TensorProto.INT32, TensorProto.INT64,
    )  # fmt: skip


def _int32() -> int:
    from onnx import TensorProto

    return int(TensorProto.INT32)
