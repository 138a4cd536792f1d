"""A mix-only drift answered: the champion with its prior corrected, and the evidence whether that is better.

The candidate differs from the model without correction in its manifest alone. It is judged on the test split reweighted
to the mix that the traffic itself shows, whatever prior it was made with, and on audited labels where there are any.

Shapes: N window rows, M test rows, C classes, B resamples.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from bento import settings
from bento.errors import UserError
from bento.manifest import MANIFEST_FILE, Manifest
from bento.prior import PriorCorrection
from tasks.calibrate import AbstainConfig, abstention_rule
from tasks.data import read_labels, read_split
from tasks.evaluate import evaluate_champion, predict, read_predictions
from tasks.gate.verdicts import at_least
from tasks.stats.paired import mcnemar_p, paired_counts, tango_interval
from tasks.stats.prior import Mix, effective_rows, estimate_mix, gain_at_mix, keep_a_chance, thin_to_mix
from tasks.store import Step, load_artifact, run_step
from tasks.types import Artifact, GateReport, Interval, Predictions, Verdict

Floats = NDArray[np.floating]

ALPHA = 0.05
MIN_EFFECTIVE_ROWS = 50
"""Test rows, by their weight in the traffic's mix, below which nothing is said."""
MIN_AUDITED = 20
SMALLEST = 1e-7
"""Of a probability, as the logarithm is taken."""


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What the gate knows of the window: found by itself, not told by whoever asks for a correction."""

    probabilities_NC: Floats
    """Of the uncorrected model."""
    audited_N: NDArray[np.int64]
    """Class index of each row that an audit labelled; -1 of the others."""
    mix: Mix
    before_C: Floats
    """Shares that the uncorrected model was calibrated under."""


def uncorrected(folder: Path, sha256: str) -> Artifact:
    """The model without its prior correction, which is where the next one starts. Raises: UserError when it is gone."""
    base = str(Manifest.read(folder).lineage.get("uncorrected", sha256))
    found = load_artifact(base, kind="onnx", made_by="calibrate")
    if found is None:
        raise UserError(
            f"correct-prior: expected the model {base[:16]} before its correction in {settings.store_folder()}, but it "
            "is gone or altered; run its build again with `retort run`"
        )
    return found


def held_out_shares(data: Artifact, labels: tuple[str, ...]) -> NDArray[np.float64]:
    """Class shares of the held-out rows, under which the model was calibrated."""
    truth = [label for name in ("validation", "test") for label in read_split(data.path, name).labels]
    return np.array([truth.count(label) for label in labels]) / len(truth)


def observe(
    base: Artifact,
    data: Artifact,
    *,
    probabilities_NC: Floats,
    audited_N: NDArray[np.int64],
    blocks_N: NDArray[np.int64] | None = None,
) -> Traffic:
    """The window's mix by both estimates. `probabilities_NC` are those of the uncorrected model."""
    test = answers(base, data)
    before_C = held_out_shares(data, Manifest.read(base.path).labels)
    mix = estimate_mix(
        probabilities_NC,
        before_C,
        reference_probabilities_MC=test.probabilities_NC,
        reference_labels_M=test.labels_N,
        blocks_N=blocks_N,
        rng=np.random.default_rng(0),
    )
    return Traffic(probabilities_NC=probabilities_NC, audited_N=audited_N, mix=mix, before_C=before_C)


def answers(model: Artifact, data: Artifact) -> Predictions:
    """A model's answers on the test split, through the inference path that serves; cached by content.

    Raises: UserError for a model of another task.
    """
    step = evaluate_champion(data=data, folder=model.path, sha256=model.sha256)
    found = read_predictions(step.artifact.path, "champion")
    if not isinstance(found, Predictions):
        raise UserError(f"correct-prior: expected a model of one class a text, got {found.task}; it has no class mix")
    return found


def named_shares(prior: Mapping[str, float], labels: tuple[str, ...]) -> NDArray[np.float64]:
    """The shares in the order of the classes. Raises: UserError for other classes or what are no shares."""
    shares_C = np.array([float(prior.get(label, -1)) for label in labels])
    if set(prior) != set(labels) or not ((shares_C >= 0).all() and abs(shares_C.sum() - 1) <= 0.01):  # NaN is neither
        raise UserError(
            f"correct-prior: expected a share for each of {', '.join(labels)}, together 1, got {dict(prior)}"
        )
    return np.asarray(shares_C / shares_C.sum())


def moved(shares_C: Floats, traffic: Traffic) -> bool:
    """Whether the shares differ from those without correction by more than an estimate's own error explains."""
    spread_C = np.maximum(traffic.mix.draws_BC.std(axis=0), 1 / len(traffic.probabilities_NC))
    limit = float(ndtri(1 - ALPHA / (2 * len(spread_C))))
    return bool((np.abs(shares_C - traffic.before_C) > limit * spread_C).any())


def correct(
    base: Artifact, data: Artifact, *, before_C: Floats, shares_C: Floats, num_rows: int, abstain: AbstainConfig | None
) -> Step:
    """The model folder of `base` whose manifest corrects for the mix `shares_C`, estimated from `num_rows` texts."""
    after_C = keep_a_chance(shares_C, before_C, num_rows).round(6)
    after_C[after_C.argmax()] += 1 - after_C.sum()
    before = tuple(np.round(before_C, 6).tolist())
    prior = PriorCorrection(before=before, after=tuple(after_C.round(6).tolist()), num_rows=num_rows)
    return run_step(
        "correct_prior",
        kind="onnx",
        inputs=(base, data),
        config={"prior": prior.model_dump(mode="json"), "abstain": abstain.model_dump() if abstain else None},
        code="tasks.monitor.mix",
        make=lambda out, work: _write(base, data, prior, abstain, out),
    )


def _write(base: Artifact, data: Artifact, prior: PriorCorrection, abstain: AbstainConfig | None, out: Path) -> None:
    shutil.copytree(base.path, out, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST_FILE))
    manifest = Manifest.read(base.path)
    lineage = manifest.lineage | {"uncorrected": base.sha256}
    corrected = manifest.model_copy(update={"prior": prior, "lineage": lineage})
    corrected.write(out)
    if abstain is not None and abstain.threshold is None:
        rule = _abstention_at_mix(out, data, prior, abstain)
        corrected.model_copy(update={"abstain": rule}).write(out)


def _abstention_at_mix(folder: Path, data: Artifact, prior: PriorCorrection, config: AbstainConfig) -> object:
    """The threshold that keeps the promised risk or coverage in the new mix.

    A threshold that the config gives as a probability stays right, since the corrected ones are calibrated for the new
    mix; one that was fitted is fitted again, on the validation rows thinned to that mix. The temperature stays too: it
    belongs to p(class | text) under the old mix, to which the correction is Bayes' rule. Raises: UserError.
    """
    from bento.predictor import Predictor

    labels = read_labels(data.path)
    found = predict(Predictor(folder, check=False), read_split(data.path, "validation"), labels)
    rows = thin_to_mix(found.labels_N, np.array(prior.after), np.random.default_rng(0))
    return abstention_rule(found.probabilities_NC[rows], found.labels_N[rows], labels, config)


def judge(candidate: Predictions, champion: Predictions, shifts: tuple[Floats, Floats], traffic: Traffic, *,
          margin: float) -> GateReport:  # fmt: skip
    """Must not be worse and must gain, where the traffic is now.

    On the test split at the traffic's mix: the estimates of the mix agree, the accuracy is not worse by the margin, and
    the log loss, the proper score that every row moves, gains. Audited labels of the window that show a gain decide
    where the test split cannot; a loss in either is a no. `shifts` are the log shifts_C of candidate and champion.
    """
    found = [_cross_check(traffic.mix), *_at_mix(candidate, champion, traffic, margin)]
    audited = _audited(shifts, traffic)
    outcomes = {verdict.outcome for verdict in found}
    if audited.outcome == "pass" and "fail" not in outcomes:
        return GateReport(verdicts=(audited,))
    return GateReport(verdicts=tuple(found) if audited.outcome == "inconclusive" else (*found, audited))


def _cross_check(mix: Mix) -> Verdict:
    """Two estimates that err differently name the same mix."""
    if mix.check_C is None:
        reason = f"the second estimate of the mix is refused, so audited labels have to decide: {mix.refusal}"
    else:
        reason = (
            f"the two estimates of the mix are {mix.gap:.3f} apart (total variation); chance explains up to "
            f"{mix.largest_chance_gap:.3f}"
        )
    return Verdict(
        gate="mix_estimates_agree",
        outcome="pass" if mix.agrees else "inconclusive",
        observed=mix.gap,
        limit=mix.largest_chance_gap,
        n=len(mix.draws_BC),
        reason=reason,
    )


def _at_mix(candidate: Predictions, champion: Predictions, traffic: Traffic, margin: float) -> list[Verdict]:
    mix, labels_M = traffic.mix, candidate.labels_N
    draws_BC = mix.draws_BC if mix.check_draws_BC is None else mix.check_draws_BC
    n = int(effective_rows(labels_M, draws_BC.mean(axis=0)))
    gains = {
        "accuracy_at_mix": (candidate.correct_N.astype(float) - champion.correct_N, -margin, "accuracy"),
        "log_loss_at_mix": (_log_losses(champion) - _log_losses(candidate), 0.0, "log loss"),
    }
    verdicts = []
    for gate, (gain_M, limit, what) in gains.items():
        found = gain_at_mix(gain_M, labels_M, draws_BC, rng=np.random.default_rng(0))
        words = f"gain in {what} at the traffic's mix {found.value:+.4f}, 90 % interval [{found.low:+.4f}, {found.high:+.4f}]"  # noqa: E501
        verdict = at_least(gate, found, limit, n=n, wanted=None, words=words)
        verdicts.append(verdict if n >= MIN_EFFECTIVE_ROWS else _too_thin(verdict))
    return verdicts


def _too_thin(verdict: Verdict) -> Verdict:
    from dataclasses import replace

    reason = f"at the traffic's mix the test rows count as {verdict.n:,}; at least {MIN_EFFECTIVE_ROWS} are needed"
    return replace(verdict, outcome="inconclusive", needed_n=MIN_EFFECTIVE_ROWS, reason=reason)


def _log_losses(found: Predictions) -> NDArray[np.float64]:
    chosen_M = found.probabilities_NC[np.arange(len(found.labels_N)), found.labels_N]
    return np.asarray(-np.log(np.maximum(chosen_M.astype(np.float64), SMALLEST)))


def _audited(shifts: tuple[Floats, Floats], traffic: Traffic) -> Verdict:
    """Exact McNemar tests, both ways, on the labelled rows of the window."""
    rows = np.flatnonzero(traffic.audited_N >= 0)
    log_NC = np.log(np.maximum(traffic.probabilities_NC[rows], SMALLEST))
    right = [(log_NC + shift_C).argmax(axis=1) == traffic.audited_N[rows] for shift_C in shifts]
    counts, n = paired_counts(right[0], right[1]), len(rows)
    if n < MIN_AUDITED:
        reason = f"{n:,} audited labels in the window; at least {MIN_AUDITED} are needed"
        return Verdict(gate="audited_labels", outcome="inconclusive", observed=float("nan"), limit=0, n=n,
                       needed_n=MIN_AUDITED, reason=reason)  # fmt: skip
    better, worse = mcnemar_p(counts) <= ALPHA, mcnemar_p(paired_counts(right[1], right[0])) <= ALPHA
    low, high = tango_interval(counts)
    found = Interval(value=counts.difference, low=low, high=high)
    reason = f"on {n:,} audited labels the candidate alone is right {counts.b} times, the champion alone {counts.c}"
    return Verdict(gate="audited_labels", outcome="fail" if worse else "pass" if better else "inconclusive",
                   observed=found.value, limit=0, n=n, interval=(low, high), reason=reason)  # fmt: skip
