"""Retort's policy, which is the monitor's own functions, and the baselines that it is compared with.

A baseline looks at the same windows, and as soon after a retrain; none of them sees labels, which it gets when it
retrains. Shapes: N window rows, M reference rows, D dimensions, C classes.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp, rankdata

from flows.bench_drift.replay import Moment, Policy, Rng, Run
from tasks.monitor.decide import Decision, Past, Repair, decide
from tasks.monitor.drift import look
from tasks.monitor.harm import HarmEvidence, audit
from tasks.stats.two_sample import mmd_test

Floats = NDArray[np.floating]

START = datetime(2020, 1, 1, tzinfo=UTC)
PERIOD = 10
"""Looks between two retrains of the periodic policy."""
MAX_AUC = 0.55
LEVEL = 0.05
NUM_PERMUTATIONS = 199
FOLDS = 5
RIDGE = 1.0


def retort(run: Run, rng: Rng) -> Policy:
    """One look, the audited labels and the decision, each by the function that the monitor calls."""

    repair: Repair | None = None
    drift_found: dict[int, int] = {}

    def policy(moment: Moment) -> str:
        nonlocal repair
        decision = examine(moment, rng, repair, drift_found.get(moment.champion))
        if decision.report.evidence["drift"]["drifted"]:
            drift_found.setdefault(moment.champion, moment.look * run.setup.step)
        if decision.watch:
            moment.run.watch(moment.look)
        if decision.action != "retrain":
            return decision.report.state
        repair = Repair(**decision.report.evidence["repair"])
        return "retrain"

    return policy


def examine(moment: Moment, rng: Rng, repair: Repair | None = None, drift_found: int | None = None) -> Decision:
    """The evidence of one look and what follows from it; `drift_found` is how many rows came before drift was."""
    config = moment.run.setup.monitor
    return decide(
        look(moment.model.reference, moment.window, config=config, rng=rng),
        judge(moment, drift_found),
        config=config,
        champion_sha256=f"model of look {moment.champion}",
        last_retrain_at=None if moment.retrained is None else _time(moment.retrained),
        now=_time(moment.look),
        past=Past(repair=repair),
    )


def judge(moment: Moment, drift_found: int | None = None) -> HarmEvidence:
    """The audited answers of this champion."""
    setup, model, labelled = moment.run.setup, moment.model, moment.labelled
    config = setup.monitor.model_copy(update={"window": setup.max_labels})
    return audit(
        moment.run.truth_L[labelled].tolist(),
        model.answers_L[labelled].tolist(),
        known_labels=model.student.classes,
        baseline=model.baseline,
        config=config,
        weights_n=1 / moment.run.rate_L[labelled][-setup.max_labels :],
        num_after_drift=0 if drift_found is None else int((labelled >= drift_found).sum()),
    )


def _time(at: int) -> datetime:
    return START + timedelta(hours=at)


def never(run: Run, rng: Rng) -> Policy:
    """The first model for ever."""
    return lambda moment: "none"


def always(run: Run, rng: Rng) -> Policy:
    """A retrain at every look."""
    return lambda moment: "retrain"


def periodic(run: Run, rng: Rng) -> Policy:
    """A retrain at every tenth look."""
    return _when(lambda moment: moment.look % PERIOD == 0)


def at_random(num_retrains: int, run: Run, rng: Rng) -> Policy:
    """As many retrains as another policy made, at looks drawn by chance."""
    chosen = set(rng.choice(np.arange(1, run.num_looks + 1), size=min(num_retrains, run.num_looks), replace=False))
    return _when(lambda moment: moment.look in chosen)


def domain_classifier(run: Run, rng: Rng) -> Policy:
    """A linear classifier tells window from reference with an AUC above .55."""
    return _when(lambda moment: moment.rested and domain_auc(*_points(moment), rng) > MAX_AUC)


def kolmogorov_smirnov(run: Run, rng: Rng) -> Policy:
    """Any component of the embeddings at p < .05, corrected for their number but not for the looks."""

    def alarms(moment: Moment) -> bool:
        window_NK, reference_MK = _points(moment)
        return bool(smallest_ks_p(window_NK, reference_MK) * window_NK.shape[1] < LEVEL)

    return _when(lambda moment: moment.rested and alarms(moment))


def mean_discrepancy(run: Run, rng: Rng) -> Policy:
    """MMD of the embeddings at p < .05 at each look."""

    def alarms(moment: Moment) -> bool:
        return mmd_test(*_points(moment), rng=rng, num_permutations=NUM_PERMUTATIONS).p_value < LEVEL

    return _when(lambda moment: moment.rested and alarms(moment))


def confidence_threshold(run: Run, rng: Rng) -> Policy:
    """Accuracy by average thresholded confidence falls by more than the tolerance, without a label."""

    def alarms(moment: Moment) -> bool:
        rows_R, probabilities_MC = moment.model.held
        classes = np.array(moment.model.student.classes)
        right_M = classes[probabilities_MC.argmax(axis=1)] == run.corpus.labels_N[rows_R]
        found = atc_accuracy(moment.window.probabilities_NC, probabilities_MC, right_M)
        return bool(found < right_M.mean() - run.setup.monitor.tolerance)

    return _when(lambda moment: moment.rested and alarms(moment))


def _when(alarms: Callable[[Moment], bool]) -> Policy:
    return lambda moment: "retrain" if alarms(moment) else "none"


def _points(moment: Moment) -> tuple[Floats, Floats]:
    """Window and reference in the reference's components."""
    reference = moment.model.reference
    return reference.project(moment.window.embeddings_ND), reference.projected_MK


def domain_auc(window_ND: Floats, reference_MD: Floats, rng: Rng) -> float:
    """Cross-validated area under the curve of a ridge classifier that tells the two apart."""
    points = np.vstack([window_ND, reference_MD]).astype(np.float64)
    inputs = np.hstack([(points - points.mean(axis=0)) / (points.std(axis=0) + 1e-12), np.ones((len(points), 1))])
    target = np.repeat([1.0, 0.0], [len(window_ND), len(reference_MD)])
    weight = np.where(target == 1, 0.5 / len(window_ND), 0.5 / len(reference_MD)) * len(points)
    fold = rng.permutation(len(points)) % FOLDS
    areas = []
    for at in range(FOLDS):
        known, asked = fold != at, fold == at
        weighted = inputs[known] * weight[known, None]
        gram = weighted.T @ inputs[known] + RIDGE * np.eye(inputs.shape[1])
        areas.append(_auc(inputs[asked] @ np.linalg.solve(gram, weighted.T @ target[known]), target[asked] == 1))
    return float(np.mean(areas))


def _auc(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Chance that a positive scores above a negative, ties counted half."""
    num_positive = int(positive.sum())
    ranks = rankdata(scores)
    above = ranks[positive].sum() - num_positive * (num_positive + 1) / 2
    return float(above / (num_positive * (len(scores) - num_positive)))


def smallest_ks_p(window_ND: Floats, reference_MD: Floats) -> float:
    """The smallest Kolmogorov-Smirnov p of any dimension."""
    return float(np.min(ks_2samp(window_ND, reference_MD, axis=0, method="asymp").pvalue))


def atc_accuracy(window_NC: Floats, held_MC: Floats, right_M: NDArray[np.bool_]) -> float:
    """Share of window rows above the confidence that as many held-out rows exceed as are answered right.

    Source: Garg 2022 (arXiv:2201.04234), with the largest probability.
    """
    threshold = np.quantile(held_MC.max(axis=1), 1 - right_M.mean())
    return float((window_NC.max(axis=1) >= threshold).mean())


BASELINES: Mapping[str, Callable[[Run, Rng], Policy]] = {
    "never": never,
    "always": always,
    "periodic": periodic,
    "domain classifier": domain_classifier,
    "KS p < .05": kolmogorov_smirnov,
    "MMD p < .05": mean_discrepancy,
    "ATC": confidence_threshold,
}
"""Those that need nothing but the stream; random at matched rate and the oracle in hindsight come on top."""
