"""The `gate` section of a config."""

from typing import Any

from pydantic import Field, field_validator

from tasks.behaviour.config import BehaviourGate
from tasks.types import Section

DEFAULT_ALPHA = 0.05


class MarginGate(Section):
    """How much worse than a reference the candidate may be."""

    margin: float = Field(default=0.01, gt=0, lt=1)
    """Largest acceptable loss, as a fraction: 0.01 is one point."""
    alpha: float = Field(default=DEFAULT_ALPHA, gt=0, lt=0.5)
    """Chance that a candidate which is worse by exactly the margin passes."""


class SliceGate(Section):
    """Non-inferiority of the accuracy, or of the task's first metric, in each part of the rows; all parts must pass, so
    nothing is corrected for."""

    by: str = Field(min_length=1)
    """`class` (of label sets each label, of entities each type), `length` (number of words), or any other column of the
    data, such as domain or source."""
    only: tuple[str, ...] = ()
    """The values that matter; all where none is named."""
    edges: tuple[int, ...] = (6, 12, 24)
    """Only for `length`: the number of words with which each further part begins."""
    margin: float = Field(default=0.05, gt=0, lt=1)
    """Largest acceptable loss in each part."""
    alpha: float = Field(default=DEFAULT_ALPHA, gt=0, lt=0.5)
    """Chance that a candidate passes which is worse by the margin in one part."""
    min_rows: int = Field(default=50, ge=1)
    """A part of fewer rows is inconclusive."""

    @field_validator("only", "edges", mode="before")
    @classmethod
    def _as_tuple(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("edges")
    @classmethod
    def _rising(cls, edges: tuple[int, ...]) -> tuple[int, ...]:
        if not edges or list(edges) != sorted({edge for edge in edges if edge > 1}):
            raise ValueError(f"gate.slices: expected edges that rise, each above 1, such as [6, 12], got {list(edges)}")
        return edges


class HoldoutGate(Section):
    """How many candidates may be judged on the same test rows: each look at them adapts the choice to their chances."""

    warn: int = Field(default=20, ge=1)
    """From this many candidates on the verdict warns; at 5 % each, 20 that are worse by the margin let one pass."""
    limit: int | None = Field(default=None, ge=1)
    """Beyond this many the build is inconclusive, until there are fresh test rows; null only counts."""


CLASS_GATES = frozenset({"superiority", "negative_flips", "kl", "min_accuracy"})
"""Those that only a model of one class a text can be judged by, besides its metrics."""


class GateConfig(Section):
    """What a candidate must prove; a limit that is null is not asked for."""

    accuracy: MarginGate = MarginGate()
    """Non-inferiority of the accuracy to the teacher, and to the serving champion; of models of one class a text."""
    macro_f1: MarginGate | None = None
    """The same of macro-F1, which the small classes weigh on as much as the big ones."""
    micro_f1: MarginGate | None = None
    """Of label sets: the same of the F1 of all labels together; a margin of one point unless given."""
    spearman: MarginGate | None = None
    """Of scores: the same of Spearman's correlation with the truth; a margin of 0.01 unless given."""
    pearson: MarginGate | None = None
    """Of scores: the same of Pearson's correlation."""
    entity_f1: MarginGate | None = None
    """Of entities: the same of the F1 of exact spans with their types; a margin of one point unless given."""
    brier: MarginGate | None = None
    """The same of the Brier loss, which sees probabilities get worse where answers stay right: in [0, 2] of one class a
    text, of label sets summed over the labels, those not answered too."""
    slices: tuple[SliceGate, ...] = ()
    """Parts of the rows in which the accuracy, or the task's first metric, must not fall either."""
    superiority: float | None = Field(default=None, gt=0, lt=0.5)
    """Only a candidate that is shown to be more accurate than every reference passes, at this error rate."""
    negative_flips: float | None = Field(default=None, gt=0, le=1)
    """Largest share of rows that the reference gets right and the candidate wrong."""
    kl: float | None = Field(default=None, gt=0)
    """Largest mean Kullback-Leibler divergence of the candidate's probabilities from the reference's, in nats."""
    parity: float | None = Field(default=None, gt=0, le=1)
    """Largest difference of any probability to the reference's: for a conversion that should change nothing."""
    min_accuracy: float | None = Field(default=None, gt=0, lt=1)
    """Smallest accuracy, whatever the references do."""
    behaviour: BehaviourGate | None = None
    """Behavioural tests, each with a verdict of its own."""
    calibration_error: float | None = Field(default=None, gt=0, lt=1)
    """Largest expected calibration error (ECE) of the confidence that is served: of the class, of each label that is
    answered, of each entity that is found."""
    unknown_words: float | None = Field(default=None, gt=0, le=1)
    """Largest share of texts in which the tokenizer does not know a piece."""
    batch_shift: float | None = Field(default=None, gt=0, le=1)
    """Largest change of a probability between a text alone and the same text in a batch of others."""
    latency_p50_ms: float | None = Field(default=None, gt=0)
    """Largest median time of one sentence."""
    latency_p95_ms: float | None = Field(default=None, gt=0)
    """Largest 95th percentile of the time of one sentence."""
    size_mb: float | None = Field(default=None, gt=0)
    """Largest size of the whole model folder, in 1,000,000 bytes."""
    min_rows: int = Field(default=100, ge=1)
    """With fewer test rows every statistical gate is inconclusive."""
    holdout: HoldoutGate = HoldoutGate()
    """How often the same test rows may decide."""

    @field_validator("slices", mode="before")
    @classmethod
    def _as_tuple(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("slices")
    @classmethod
    def _each_once(cls, slices: tuple[SliceGate, ...]) -> tuple[SliceGate, ...]:
        """Raises: ValueError."""
        names = [rule.by for rule in slices]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"gate.slices: expected one rule for each column, got more by {', '.join(twice)}; make one of them, "
                "with all values that matter in its only"
            )
        return slices

    @property
    def relative(self) -> list[str]:
        """The gates asked for that compare with a reference, besides that of the accuracy, which always does."""
        names = ("macro_f1", "micro_f1", "spearman", "pearson", "entity_f1", "brier", "slices", "superiority",
                 "negative_flips", "kl", "parity")  # fmt: skip
        return [name for name in names if getattr(self, name)]
