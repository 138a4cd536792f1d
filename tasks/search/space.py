"""What a search may try and within which limits, and the chain of techniques that a point stands for."""

import itertools
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from tasks.architecture import Architecture
from tasks.compress.distil import Distil
from tasks.compress.export import Export
from tasks.compress.pack import Pack
from tasks.compress.prune_structure import PruneStructure
from tasks.compress.prune_vocabulary import PruneVocabulary
from tasks.compress.prune_weights import PruneWeights
from tasks.compress.quantize import Quantize
from tasks.distillation import Training
from tasks.quantization.levels import Scheme
from tasks.types import Section

if TYPE_CHECKING:
    from tasks.compress import Technique

Layers = Annotated[int, Field(ge=1)]
Width = Annotated[int, Field(ge=8)]
Heads = Annotated[int, Field(ge=1)]
Coverage = Annotated[float, Field(gt=0, le=1)]
Speedup = Annotated[float, Field(ge=1, allow_inf_nan=False)]
Sparsity = Annotated[float, Field(ge=0, le=0.99)]
Threads = Annotated[int, Field(ge=1, le=256)]
WIDTHS = ("hidden_size", "intermediate_size", "num_heads")


class SearchConfig(Section):
    """What may be tried, within which limits, for how long."""

    trials: int = Field(default=24, ge=2, le=10_000)
    """Points to look at; most are sketched only."""
    minutes: float = Field(default=60, gt=0)
    """No trial begins after this time."""
    accuracy_drop: float = Field(default=0.01, ge=0, lt=1)
    """Accuracy on the validation split that the chosen point may lose against the teacher."""
    size_mb: float | None = Field(default=None, gt=0)
    """Largest folder."""
    latency_ms: float | None = Field(default=None, gt=0)
    """Longest median time of one sentence."""
    prefer: Literal["latency", "size", "accuracy"] = "latency"
    """What is best among the points that keep all limits."""
    vocabulary: list[Coverage] = Field(default=[])
    """Coverages of the training text to cut the vocabulary to; empty leaves the teacher's."""
    likely: int = Field(default=3000, ge=0)
    """With `vocabulary`: keep this many tokens besides that the training text lacks and more of it may have."""
    num_layers: list[Layers] = Field(default=[2, 3, 6], min_length=1)
    """Depths of the student."""
    hidden_size: list[Width] = Field(default=[])
    """Widths of the student; empty keeps the teacher's."""
    intermediate_size: list[Width] = Field(default=[])
    """Feed-forward neurons of a layer; empty keeps the teacher's."""
    num_heads: list[Heads] = Field(default=[])
    """Attention heads of a layer; empty keeps all that fit the width."""
    speedup: list[Speedup] = Field(default=[1.0], min_length=1)
    """Structured pruning after the distillation: how many times faster; 1 is none."""
    sparsity: list[Sparsity] = Field(default=[0.0], min_length=1)
    """Unstructured pruning after the distillation; 0 is none."""
    scheme: list[Scheme] = Field(default=["int8_dynamic", "int8_static"], min_length=1)
    """Precisions."""
    weight_bits: list[Literal[4, 8]] = Field(default=[8], min_length=1)
    """Of a stored weight."""
    embedding_bits: list[Literal[4, 8]] = Field(default=[8], min_length=1)
    """Of a stored embedding."""
    threads: list[Threads] = Field(default=[1], min_length=1)
    """ONNX Runtime threads of one request."""
    distil: Distil = Distil()
    """How students are trained; depth and widths come from the point."""
    workers: int = Field(default=1, ge=1, le=256)
    """Trials side by side. Training takes all cores of a small machine, so 1 is often fastest there."""
    runner: Literal["threads", "dask", "ray"] = "threads"
    """Prefect's task runner for them; dask and ray need prefect-dask or prefect-ray."""
    seed: int = 0
    """Of the proposals."""

    @model_validator(mode="after")
    def _one_place_for_sizes(self) -> Self:
        sizes = [name for name in ("num_layers", *WIDTHS) if getattr(self.distil, name)]
        if sizes or isinstance(self.distil.layers, list):
            raise ValueError(
                f"search.distil: expected no sizes here, got {', '.join(sizes or ['layers'])}; "
                "write the sizes to try under search"
            )
        return self

    @property
    def space(self) -> dict[str, list[Any]]:
        """Name of each dimension -> its values; one with a single value is fixed."""
        optional = {name: list(getattr(self, name)) or [None] for name in ("vocabulary", *WIDTHS)}
        names = ("num_layers", "speedup", "sparsity", "scheme", "weight_bits", "embedding_bits", "threads")
        return optional | {name: list(getattr(self, name)) for name in names}

    def check(self, shape: Architecture) -> None:
        """Walk all sizes of the student, each with every value of every other dimension.

        Raises: UserError where some point of the space cannot be made of this teacher.
        """
        space, sized = self.space, ("num_layers", *WIDTHS)
        first = {name: choices[0] for name, choices in space.items()}
        others = [{name: value} for name in space if name not in sized for value in space[name]]
        for values in itertools.product(*(space[name] for name in sized)):
            for other in others:
                walked = shape
                for technique in chain_of(self, first | dict(zip(sized, values, strict=True)) | other):
                    walked = technique.check(walked)


def chain_of(config: SearchConfig, point: dict[str, Any]) -> "tuple[Technique, ...]":
    """The techniques that make a point."""
    settings = dict(config.distil)
    sizes = {name: point[name] for name in ("num_layers", *WIDTHS)}
    chain: list[Any] = [Distil.model_validate(settings | sizes)]
    if point["vocabulary"] is not None:
        chain.insert(0, PruneVocabulary(keep=point["vocabulary"], likely=config.likely))
    training = {name: settings[name] for name in Training.model_fields}
    if point["speedup"] > 1:
        chain.append(PruneStructure(speedup=point["speedup"], **training))
    if point["sparsity"] > 0:
        chain.append(PruneWeights(sparsity=point["sparsity"], **training))
    bits: dict[str, Any] = {
        name: 8 if point["scheme"] == "float16" else point[name] for name in ("weight_bits", "embedding_bits")
    }
    chain += [Export(threads=point["threads"]), Quantize(scheme=point["scheme"], **bits)]
    return tuple([*chain, Pack()] if is_packed(point) else chain)


def is_packed(point: dict[str, Any]) -> bool:
    """Whether the zeros of a point are stored compressed; those of 4-bit values are not."""
    widths = (point["weight_bits"], point["embedding_bits"])
    return bool(point["sparsity"] > 0 and (8 in widths or point["scheme"] == "float16"))
