"""The level of a look, calibrated end to end: how small does the smallest corrected p of a stream without drift get?

Streams without drift are replayed: rows are drawn from the held-out ones, some as the reference, the others in order of
time as windows that overlap as far as the traffic's do. In each stream the smallest Holm-corrected p over all looks is
kept, and a stream may alarm with the chance of the budget; so the level is that quantile of the smallest p. Looks share
their reference, windows share rows, and the four tests see the same texts: all that makes alarms come together, for
which a level per look pays as if they came apart.

Shapes: R held-out rows, S streams, L looks, B = S x L looks of all streams.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.monitor.config import MonitorConfig
from tasks.monitor.reference import Reference, descriptor_table, prediction_features
from tasks.stats.budget import alpha_per_look, holm_smallest
from tasks.stats.proportion import clopper_pearson
from tasks.stats.two_sample import below_cuts, rbf_kernel
from tasks.store import Step, run_step
from tasks.types import Artifact

Floats = NDArray[np.floating]
Counts = NDArray[np.float32]

MIN_ROWS = 200
"""With fewer held-out rows a replay would draw the same few over and over."""
MAX_ROWS = 800
"""Rows that are replayed; the cost grows with the square of this."""
NUM_STREAMS = 1_000
CONFIDENCE = 0.9
"""That the streams' false alarms stay within the budget, given that so many were replayed."""
FRESH_SHARES = (1.0, 0.5, 0.25, 0.125)
"""Share of a window that is new at each look, as it is calibrated for: the next larger one of these."""
CALIBRATION_FILE = "calibration.json"
STREAMS_AT_A_TIME = 10


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A calibrated level, and what it was calibrated for."""

    alpha: float
    """A look alarms where its smallest Holm-corrected p is at most this."""
    alpha_per_look: float
    """The level without calibration."""
    num_streams: int
    num_rows: int
    """Held-out rows that were replayed; 0 where they were too few, and the level is that per look."""
    window: int
    """Rows of a window."""
    fresh: float
    """Share of a window that is new at each look."""

    @property
    def source(self) -> str:
        """For the evidence: where the level comes from."""
        if not self.num_rows:
            return f"per look, since fewer than {MIN_ROWS} held-out rows are there to calibrate with"
        return f"calibrated on {self.num_streams:,} replayed streams of {self.num_rows:,} held-out rows"


def make_calibration(
    artifact: Artifact, reference: Reference, config: MonitorConfig, *, num_window: int, fresh: float
) -> Step:
    """The level for windows of about this many rows and this share of new ones, cached by what it depends on."""
    chosen = {"window": window_size(num_window, config), "fresh": fresh_share(fresh), "looks": config.looks}
    chosen["budget"] = config.false_alarm_budget

    def make(out: Path, work: Path) -> None:
        found = calibrate(
            reference,
            config,
            num_window=int(chosen["window"]),
            fresh=chosen["fresh"],
            rng=np.random.default_rng(0),
        )
        (out / CALIBRATION_FILE).write_text(json.dumps(asdict(found)), encoding="utf-8")

    return run_step(
        "drift_calibration", kind="features", inputs=(artifact,), config=chosen, code="tasks.monitor.calibration",
        make=make,
    )  # fmt: skip


def read_calibration(artifact: Artifact) -> Calibration:
    """What `make_calibration` stored."""
    return Calibration(**json.loads((artifact.path / CALIBRATION_FILE).read_text(encoding="utf-8")))


def window_size(num_window: int, config: MonitorConfig) -> int:
    """The next smaller of a few sizes, so that a window which fills up is not calibrated at each look.

    A smaller window shares less of its randomness with the next, since the reference's part is less: stricter.
    """
    size = config.min_window
    while size * 2 <= min(num_window, config.window):
        size *= 2
    return config.window if num_window >= config.window else size


def fresh_share(fresh: float) -> float:
    """The next larger of a few shares: more new rows make alarms come more apart, which is stricter."""
    return min(share for share in FRESH_SHARES if share >= min(fresh, 1.0))


def calibrate(
    reference: Reference,
    config: MonitorConfig,
    *,
    num_window: int,
    fresh: float,
    rng: np.random.Generator,
    num_streams: int = NUM_STREAMS,
) -> Calibration:
    """Replay `num_streams` streams without drift of `config.looks` looks each."""
    budget = config.false_alarm_budget / 2
    plain = alpha_per_look(budget, config.looks)
    rows = rng.permutation(len(reference))[:MAX_ROWS]
    made = partial(Calibration, alpha_per_look=plain, window=num_window, fresh=fresh)
    if len(rows) < MIN_ROWS:
        return made(alpha=plain, num_streams=0, num_rows=0)
    statistics = _statistics(reference, rows)
    parts = []
    for start in range(0, num_streams, STREAMS_AT_A_TIME):
        num = min(STREAMS_AT_A_TIME, num_streams - start)
        streams = [_stream(len(rows), len(reference), num_window, fresh, config.looks, rng) for _ in range(num)]
        references = np.stack([one[0] for one in streams], axis=1)
        windows = np.concatenate([one[1] for one in streams], axis=1)
        parts.append({name: statistic(windows, references) for name, statistic in statistics.items()})
    smallest_B = holm_smallest({name: _p_values(np.concatenate([part[name] for part in parts])) for name in statistics})
    smallest_S = np.sort(smallest_B.reshape(num_streams, config.looks).min(axis=1))
    allowed = _allowed_alarms(budget, num_streams)
    alpha = float(smallest_S[allowed - 1]) if allowed else plain
    return made(alpha=max(plain, alpha), num_streams=num_streams, num_rows=len(rows))


def _allowed_alarms(budget: float, num_streams: int) -> int:
    """The most streams that may alarm for the budget to be kept with CONFIDENCE."""
    allowed = math.floor(budget * num_streams)
    while allowed and clopper_pearson(allowed, num_streams, confidence=2 * CONFIDENCE - 1).high > budget:
        allowed -= 1
    return allowed


def _stream(
    num_rows: int, num_reference: int, num_window: int, fresh: float, num_looks: int, rng: np.random.Generator
) -> tuple[Counts, Counts]:
    """How often each row is drawn into the reference, counts_R, and into each look's window, counts_RL."""
    chance = np.full(num_rows, 1 / num_rows)
    num_steps = round(1 / fresh)
    step = max(1, num_window // num_steps)
    arrived_AR = rng.multinomial(step, chance, size=num_looks + num_steps - 1)
    total_AR = np.concatenate([np.zeros((1, num_rows), dtype=np.int64), arrived_AR.cumsum(axis=0)])
    window_LR = total_AR[num_steps:] - total_AR[:-num_steps]
    return rng.multinomial(num_reference, chance).astype(np.float32), window_LR.T.astype(np.float32)


def _p_values(values_B: Floats) -> Floats:
    """Share of all looks without drift whose statistic is at least as large: what a permutation test estimates."""
    order_B = np.sort(values_B)
    return np.asarray(
        (1 + len(values_B) - np.searchsorted(order_B, values_B - 1e-9 * np.abs(values_B))) / (len(values_B) + 1)
    )


Replay = Callable[[Counts, Counts], Floats]
"""window counts_RB, reference counts_RS -> values_B, as the statistic of the same name in a look."""


def _statistics(reference: Reference, rows: NDArray[np.int64]) -> Mapping[str, Replay]:
    """The four statistics of a look, for rows that may be drawn more than once."""
    probabilities_RC = reference.probabilities_MC[rows]
    _, predictions_RF = prediction_features(probabilities_RC, reference.class_names)
    _, described_RF = descriptor_table({name: values[rows] for name, values in reference.descriptors.items()})
    return {
        "embedding": _mmd(reference.projected_MK[rows]),
        "probabilities": _largest_gap(predictions_RF),
        "predicted_labels": _chi2(probabilities_RC.argmax(axis=1)),
        "descriptors": _largest_gap(described_RF),
    }


def _mmd(points_RK: Floats) -> Replay:
    kernel_RR = rbf_kernel(points_RK, same=True)
    diagonal_R = np.diag(kernel_RR).astype(np.float64)

    def within(counts_RB: Counts, touching_RB: Counts) -> Floats:
        n = counts_RB[:, 0].sum(dtype=np.float64)
        pairs_B = np.einsum("rb,rb->b", counts_RB, touching_RB, dtype=np.float64) - diagonal_R @ counts_RB
        return np.asarray(pairs_B / (n * (n - 1)))

    def statistic(window_RB: Counts, reference_RS: Counts) -> Floats:
        looks = window_RB.shape[1] // reference_RS.shape[1]
        touching_RS = kernel_RR @ reference_RS
        sizes = window_RB[:, 0].sum(dtype=np.float64) * reference_RS[:, 0].sum(dtype=np.float64)
        between_B = np.einsum("rb,rb->b", window_RB, np.repeat(touching_RS, looks, axis=1), dtype=np.float64) / sizes
        reference_B = np.repeat(within(reference_RS, touching_RS), looks)
        return np.asarray(within(window_RB, kernel_RR @ window_RB) + reference_B - 2 * between_B)

    return statistic


def _largest_gap(features_RF: Floats) -> Replay:
    below_PR = np.concatenate(below_cuts(features_RF))

    def statistic(window_RB: Counts, reference_RS: Counts) -> Floats:
        looks = window_RB.shape[1] // reference_RS.shape[1]
        reference_PS = below_PR @ (reference_RS / reference_RS.sum(axis=0))
        gaps_PB = below_PR @ (window_RB / window_RB.sum(axis=0)) - np.repeat(reference_PS, looks, axis=1)
        return np.asarray(np.abs(gaps_PB).max(axis=0).astype(np.float64))

    return statistic


def _chi2(classes_R: NDArray[np.int64]) -> Replay:
    member_CR = (np.unique(classes_R)[:, None] == classes_R[None, :]).astype(np.float32)

    def statistic(window_RB: Counts, reference_RS: Counts) -> Floats:
        window_CB = (member_CR @ window_RB).astype(np.float64)
        reference_CS = member_CR @ reference_RS
        total_CB = window_CB + np.repeat(reference_CS, window_RB.shape[1] // reference_RS.shape[1], axis=1)
        share_B = window_CB.sum(axis=0) / total_CB.sum(axis=0)
        excess_CB = window_CB - total_CB * share_B
        return np.asarray((excess_CB**2 / np.maximum(total_CB, 1)).sum(axis=0) / (share_B * (1 - share_B)))

    return statistic
