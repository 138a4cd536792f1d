"""Quantization: weights in 16, 8 or 4 bits, products of constant weights in 8-bit integers where that is faster.

Only products with a constant weight are touched: quantizing attention's activation products costs accuracy and gains
nothing on a CPU. Embedding tables get a scale a row, or a block of a row in 4 bits.
"""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from bento.errors import UserError
from bento.manifest import ONNX_FILE
from bento.predictor import Predictor, pad
from tasks.architecture import Architecture
from tasks.compress.context import Context
from tasks.data import read_split
from tasks.quantization.calibrate import Method, calibrate
from tasks.quantization.graph import read_graph
from tasks.quantization.integer import Range
from tasks.quantization.invariance import check_batch_invariance
from tasks.quantization.levels import Ladder, Plan, Scheme, node_ladder, table_ladder
from tasks.quantization.sensitivity import meet_budget, raised_parts
from tasks.quantization.workbench import Workbench
from tasks.store import Step
from tasks.types import Artifact, Section, Split

log = logging.getLogger("retort.quantize")

METHODS: tuple[Method, ...] = ("percentile", "min_max", "entropy")
"""The default first: of equals it stays."""
DEFAULT_PERCENTILE = 99.99
NUM_INVARIANCE_ROWS = 64


class Quantize(Section):
    """Store and multiply weights in fewer bits."""

    kind: Literal["quantize"] = "quantize"
    scheme: Scheme = "int8_dynamic"
    """How values become integers: int8_dynamic takes activations' ranges from each run, int8_static from calibration;
    weight_only and float16 shrink the file alone and compute in float."""
    weight_bits: Literal[4, 8] = 8
    """Of a stored weight. 4 halves the file again at the same speed, since weights are unpacked when it is loaded."""
    embedding_bits: Literal[4, 8] = 8
    """Of a stored embedding."""
    per_channel: bool = True
    """One scale a weight column, which keeps more accuracy than one a matrix."""
    calibration: Method | Literal["searched"] | None = None
    """How int8_static finds a range: percentile (its default), min_max or entropy; or searched: each is tried, and the
    one with which the validation rows are answered best stays."""
    percentile: float | None = Field(default=None, gt=50, le=100)
    """Share of an activation's values in per cent that percentile calibration keeps in range; 99.99 by default."""
    calibration_rows: int = Field(default=512, ge=1)
    """Training rows that calibration draws."""
    budget: float | None = Field(default=None, ge=0, lt=1)
    """Largest fall of accuracy on the validation rows. Beyond it the parts at fault are found and get more precision:
    more bits, a dynamic range, at last float. Null measures nothing."""
    batch_invariant: bool = False
    """Promise, and check, that a sentence's logits are the same bits in every batch. Its parts never become dynamic."""

    consumes: ClassVar[str] = "onnx"
    produces: ClassVar[str] = "onnx"

    @model_validator(mode="after")
    def _fields_fit_the_scheme(self) -> Self:
        """Raises: ValueError naming the scheme or the value that would fit."""
        if self.calibration and self.scheme != "int8_static":
            raise ValueError(f"calibration: {self.scheme} has no ranges to calibrate; use scheme int8_static, or null")
        if self.percentile is not None and (
            self.scheme != "int8_static" or self.calibration not in (None, "percentile", "searched")
        ):
            raise ValueError("percentile: read by percentile calibration of int8_static alone; leave it out")
        if self.batch_invariant and self.scheme == "int8_dynamic":
            raise ValueError(
                "batch_invariant: int8_dynamic takes ranges from the whole batch; use scheme int8_static, "
                "or weight_only or float16, which compute in float"
            )
        if self.scheme == "float16" and 4 in (self.weight_bits, self.embedding_bits):
            raise ValueError("scheme float16 stores 16 bits; use weight_only for weight_bits or embedding_bits of 4")
        if not self.per_channel and self.scheme not in ("int8_dynamic", "int8_static"):
            raise ValueError(f"per_channel: {self.scheme} has a scale a column always; leave per_channel at true")
        return self

    @property
    def all_in_4_bits(self) -> bool:
        """Whether every weight and embedding is stored in 4 bits, and none may be raised for a budget."""
        return self.weight_bits == self.embedding_bits == 4 and self.budget is None

    def check(self, shape: Architecture) -> Architecture:
        """Every encoder has products to quantize; its sizes stay."""
        return shape

    def run(self, artifact: Artifact, context: Context) -> Step:
        """The smaller folder of `artifact`.

        Raises: UserError when rows are missing that calibration or the budget need, when there is nothing to quantize,
        or when the budget cannot be met; RetortError when batch invariance does not hold.
        """
        return context.step(self, artifact, lambda out, work: self._make(artifact, context, out, work))

    def _make(self, artifact: Artifact, context: Context, out: Path, work: Path) -> None:
        train, validation = (read_split(context.data.path, name) for name in ("train", "validation"))
        self._check_rows(train, validation)
        bench = Workbench(artifact.path, work, validation, per_channel=self.per_channel)
        if not bench.parts:
            raise UserError("quantize: expected a matrix product with a constant weight, found none in the ONNX graph")
        ladders = self._ladders(bench)
        lineage: dict[str, Any] = {"onnx": artifact.sha256}
        if self.scheme == "int8_static":
            lineage["calibration"], bench.ranges = self._calibrated(bench, ladders, train, context.seed)
        plan = self._plan(bench, ladders)
        bench.write(plan, out, lineage | self._lineage(plan, ladders))
        if self.batch_invariant:
            rng = np.random.default_rng(context.seed)
            check_batch_invariance(Predictor(out), validation.texts[:NUM_INVARIANCE_ROWS], rng)

    def _check_rows(self, train: Split, validation: Split) -> None:
        """Before any compute. Raises: UserError."""
        if self.scheme == "int8_static" and not len(train):
            raise UserError("quantize: int8_static calibrates on training rows, got none; use scheme int8_dynamic")
        needs = (
            "budget" if self.budget is not None
            else "calibration: searched" if self.calibration == "searched"
            else "batch_invariant" if self.batch_invariant
            else None
        )  # fmt: skip
        if needs and not len(validation):
            raise UserError(f"quantize: {needs} is checked on validation rows, got none; set data.validation")

    def _ladders(self, bench: Workbench) -> dict[str, Ladder]:
        node = node_ladder(self.scheme, self.weight_bits, batch_invariant=self.batch_invariant)
        stored = node_ladder(
            "float16" if self.scheme == "float16" else "weight_only", self.weight_bits, batch_invariant=True
        )
        table = table_ladder(self.scheme, self.embedding_bits)
        return {part.name: table if part.kind == "table" else node if part.integer else stored for part in bench.parts}

    def _plan(self, bench: Workbench, ladders: Mapping[str, Ladder]) -> Plan:
        if self.budget is None:
            return lowest(ladders)
        return meet_budget(ladders, drop=bench.drop, divergence=bench.divergence, budget=self.budget)

    def _lineage(self, plan: Plan, ladders: Mapping[str, Ladder]) -> dict[str, Any]:
        """What the manifest says of this step."""
        return {
            "scheme": self.scheme,
            "raised": raised_parts(plan, ladders),
            "batch_invariant": self.batch_invariant,
        }

    def _calibrated(
        self, bench: Workbench, ladders: Mapping[str, Ladder], train: Split, seed: int
    ) -> tuple[Method, dict[str, Range]]:
        """The method asked for, or the one that loses least on the validation rows, with its ranges."""
        if self.calibration != "searched":
            method = self.calibration or METHODS[0]
            return method, self._calibrate(bench, train, seed, method)
        tried: list[tuple[float, Method, dict[str, Range]]] = []
        for method in METHODS:
            bench.ranges = ranges = self._calibrate(bench, train, seed, method)
            tried.append((bench.drop(lowest(ladders)), method, ranges))
            log.info("calibration by %s: %.4f lost on the validation rows", method, tried[-1][0])
        _, method, ranges = min(tried, key=lambda one: one[0])
        return method, ranges

    def _calibrate(self, bench: Workbench, train: Split, seed: int, method: Method) -> dict[str, Range]:
        """The range of every activation that a static product reads."""
        model = read_graph(bench.source / ONNX_FILE)
        names = {part.name for part in bench.parts if part.kind == "node" and part.integer}
        activations = [node.input[0] for node in model.graph.node if node.name in names]
        rows = np.random.default_rng(seed).permutation(len(train))[: self.calibration_rows]
        return calibrate(
            model,
            activations,
            single_texts(Predictor(bench.source, check=False), [train.texts[row] for row in rows]),
            method=method,
            percentile=self.percentile or DEFAULT_PERCENTILE,
        )


def lowest(ladders: Mapping[str, Ladder]) -> Plan:
    """Every part in the fewest bits that the config allows."""
    return {name: ladder[0] for name, ladder in ladders.items()}


def single_texts(predictor: Predictor, texts: list[Any]) -> Iterator[Mapping[str, Any]]:
    """Model inputs of one text each, since padding would widen the ranges with values that no answer reads."""
    for text in texts:
        yield pad(predictor.tokenize([text]), predictor.pad_id)
