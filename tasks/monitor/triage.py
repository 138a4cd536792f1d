"""What may be guessed of the accuracy without labels: a hint where to spend them, never a reason to act.

Each guess is shown with how far it was off where labels were. Shapes: N rows, C classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

HELD_OUT_FILE = "held_out.npz"


@dataclass(frozen=True, kw_only=True)
class Sureness:
    """How sure a model was of its answers to some rows."""

    confidence_N: NDArray[np.float64]
    """Largest probability."""
    entropy_N: NDArray[np.float64]
    """Of the probabilities, in nats."""

    def __len__(self) -> int:
        return len(self.confidence_N)


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """The champion on the test split, from which the guesses are calibrated."""

    sureness: Sureness
    correct_N: NDArray[np.bool_]

    def save(self, folder: Path) -> None:
        """Store as `held_out.npz`: plain arrays, no pickle."""
        np.savez_compressed(folder / HELD_OUT_FILE, **vars(self.sureness), correct_N=self.correct_N)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What `save` stored."""
        with np.load(folder / HELD_OUT_FILE, allow_pickle=False) as stored:
            sure = Sureness(confidence_N=stored["confidence_N"], entropy_N=stored["entropy_N"])
            return cls(sureness=sure, correct_N=stored["correct_N"])


@dataclass(frozen=True, kw_only=True)
class Guess:
    """One label-free estimate of accuracy."""

    method: str
    now: float
    """Of the newest traffic."""
    on_audited: float | None
    """Of the audited rows alone; null without any."""
    error: float | None
    """`on_audited` less their audited accuracy: above 0 is too optimistic."""
    num_audited: int


def sureness(probabilities_NC: NDArray[np.floating]) -> Sureness:
    """From the probabilities that were served."""
    values_NC = np.asarray(probabilities_NC, dtype=np.float64)
    confidence_N = values_NC.max(axis=1) if len(values_NC) else np.empty(0)
    return Sureness(confidence_N=confidence_N, entropy_N=entr(values_NC).sum(axis=1))


def mean_confidence(_held_out: HeldOut, target: Sureness) -> float:
    """What the confidences promise, taken at their word."""
    return float(target.confidence_N.mean())


def atc(held_out: HeldOut, target: Sureness) -> float:
    """Share of rows above the threshold that as many test rows are above as were right.

    Average thresholded confidence by negative entropy. Source: Garg 2022 (arXiv:2201.04234).
    """
    threshold = np.quantile(held_out.sureness.entropy_N, held_out.correct_N.mean())
    return float((target.entropy_N <= threshold).mean())


def doc(held_out: HeldOut, target: Sureness) -> float:
    """Accuracy on the test split less the fall of the mean confidence since.

    Difference of confidences. Source: Guillory 2021 (arXiv:2107.03315).
    """
    fall = held_out.sureness.confidence_N.mean() - target.confidence_N.mean()
    return float(np.clip(held_out.correct_N.mean() - fall, 0, 1))


METHODS: dict[str, Callable[[HeldOut, Sureness], float]] = {
    "atc": atc,
    "doc": doc,
    "mean_confidence": mean_confidence,
}


def guess(
    held_out: HeldOut, recent: Sureness, audited: Sureness, audited_correct_n: NDArray[np.bool_]
) -> tuple[Guess, ...]:
    """All estimates for the newest traffic, and how wrong each was on the audited rows; none without traffic."""
    if not len(recent):
        return ()
    n = len(audited)
    guesses = []
    for method, estimate in METHODS.items():
        on_audited = estimate(held_out, audited) if n else None
        error = None if on_audited is None else on_audited - float(audited_correct_n.mean())
        guesses.append(
            Guess(method=method, now=estimate(held_out, recent), on_audited=on_audited, error=error, num_audited=n)
        )
    return tuple(guesses)
