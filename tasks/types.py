"""What flows from stage to stage: frozen values that hold digests and paths, never live models.

Shapes: N rows, C classes.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

Kind = Literal["data", "torch", "onnx", "logits", "scores", "report", "encoder", "features", "peer"]
Outcome = Literal["pass", "fail", "inconclusive"]
DriftState = Literal["no_drift", "mix_only", "suspect", "harm"]
SPLITS = ("train", "validation", "test")


class Section(BaseModel):
    """Base of every config section: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A folder in the store, named by its digest; `parents` is the whole lineage system."""

    kind: Kind
    path: Path
    sha256: str
    parents: tuple[str, ...]
    """Digests of the artifacts that it was made from."""
    made_by: str
    """Name of the step that made it."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """One part of the data, read from a data artifact."""

    name: str
    ids: tuple[str, ...]
    texts: tuple[Any, ...]
    """A string a row, or a pair of strings."""
    labels: tuple[str, ...]
    """The truth of each row, as `tasks.data.truths` writes it."""

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """A model's answers on one split, through `bento.predictor` or the teacher."""

    ids: tuple[str, ...]
    probabilities_NC: NDArray[np.float32]
    labels_N: NDArray[np.int64]
    """True class indices."""
    latency_ms_N: NDArray[np.float64]
    """One sentence at a time, for a sample of the rows; may be empty."""

    task: ClassVar[Literal["single_label"]] = "single_label"

    @property
    def correct_N(self) -> NDArray[np.bool_]:
        """Whether the most probable class is the true one; of a missing answer it is not."""
        correct: NDArray[np.bool_] = (self.probabilities_NC.argmax(axis=1) == self.labels_N) & ~self.missing_N
        return correct

    @property
    def missing_N(self) -> NDArray[np.bool_]:
        """Rows whose probabilities are not all numbers."""
        missing_N: NDArray[np.bool_] = np.any(~np.isfinite(self.probabilities_NC), axis=1)
        return missing_N


@dataclass(frozen=True, kw_only=True)
class SigmoidPredictions:
    """A model's answers on one split where each output is a probability of its own: label sets, or a score."""

    ids: tuple[str, ...]
    task: Literal["multi_label", "score"]
    probabilities_NC: NDArray[np.float32]
    """Of a score, its share of the scale, C = 1."""
    truth_NC: NDArray[np.float32]
    """1 for each label that a row has, else 0; of a score, the true share of the scale."""
    threshold: float
    """Of label sets: from which probability on a label is answered."""
    latency_ms_N: NDArray[np.float64]
    """One input at a time, for a sample of the rows; may be empty."""

    @property
    def missing_N(self) -> NDArray[np.bool_]:
        """Rows whose probabilities are not all numbers."""
        missing_N: NDArray[np.bool_] = np.any(~np.isfinite(self.probabilities_NC), axis=1)
        return missing_N

    @property
    def truth(self) -> NDArray[np.float32]:
        """What each row has, by whatever name."""
        return self.truth_NC

    @property
    def chosen_NC(self) -> NDArray[np.bool_]:
        """The labels that are answered."""
        chosen: NDArray[np.bool_] = self.probabilities_NC >= self.threshold
        return chosen


@dataclass(frozen=True, kw_only=True)
class EntityPredictions:
    """A model's entities on one split."""

    ids: tuple[str, ...]
    types: tuple[str, ...]
    """What entities can be, sorted."""
    answers: tuple[str, ...]
    """Of each row the entities that were found, as `tasks.data.truths.write_entities` writes them."""
    truth: tuple[str, ...]
    """Those that are there."""
    latency_ms_N: NDArray[np.float64]
    """One input at a time, for a sample of the rows; may be empty."""
    confidences: tuple[str, ...] = ()
    """Of each row the confidence of each of its `answers`, as a JSON list; empty where none was said."""

    task: ClassVar[Literal["entities"]] = "entities"

    @property
    def missing_N(self) -> NDArray[np.bool_]:
        """Rows without an answer: none, since finding nothing is an answer."""
        return np.zeros(len(self.ids), dtype=np.bool_)


AnyPredictions = Predictions | SigmoidPredictions | EntityPredictions


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A point estimate with its bounds."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What is measured of one model on the test split."""

    metrics: dict[str, Interval]
    """Those of `tasks.metrics.METRICS`; the first is the one by which the task is judged."""
    num_rows: int
    size_bytes: int
    latency_ms_p50: float
    """One sentence at a time."""
    latency_ms_p95: float
    throughput_per_s: float
    """Sentences per second in batches of 32."""


@dataclass(frozen=True, kw_only=True)
class BehaviourResult:
    """How often two models fail one behavioural test."""

    test: str
    kind: Literal["invariance", "directional", "minimum_functionality"]
    num_cases: int
    teacher_failures: int
    candidate_failures: int
    only_candidate: int
    """Cases that the candidate fails and the teacher passes."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The answer of one gate, with its evidence."""

    gate: str
    outcome: Outcome
    observed: float
    limit: float
    n: int
    interval: tuple[float, float] | None = None
    needed_n: int | None = None
    """Rows that this gate would have needed to decide with 80 % power."""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class GateReport:
    """All verdicts of one model; the worst of them counts."""

    verdicts: tuple[Verdict, ...]

    @property
    def outcome(self) -> Outcome:
        """`fail` if any failed, else `inconclusive` if any was, else `pass`; no verdict at all is a fail."""
        outcomes = {verdict.outcome for verdict in self.verdicts}
        if not outcomes or "fail" in outcomes:
            return "fail"
        return "inconclusive" if "inconclusive" in outcomes else "pass"


@dataclass(frozen=True, kw_only=True)
class DriftReport:
    """What one look at the traffic found."""

    state: DriftState
    evidence: dict[str, Any] = field(default_factory=dict)
