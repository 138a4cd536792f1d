"""Calibration of the model that will serve: its temperature, the threshold below which it abstains, and that from which
a label of a set is answered.

All are fitted on the validation split, on the answers of the quantized model through the predictor that serves, a
text a run, and stored in the manifest. The last step of every chain.
"""

import shutil
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import Field, model_validator

from bento.abstention import Abstention, scope_confidence
from bento.errors import UserError
from bento.manifest import MANIFEST_FILE, Manifest
from bento.predictor import Predictor
from bento.task_types import Floats, Task, sigmoid, softmax
from tasks.data import read_labels, read_report, read_split, read_target
from tasks.data.rows import listed
from tasks.stats.calibration import fit_temperature
from tasks.stats.multi_label import best_threshold
from tasks.stats.selective import threshold_for_coverage, threshold_for_risk
from tasks.store import Step, run_step
from tasks.task_types import known_words, task_type
from tasks.types import Artifact, Section


class AbstainConfig(Section):
    """When the service says that it does not know: by exactly one of threshold, max_risk and min_coverage."""

    labels: list[str] = Field(default=[])
    """Classes that stand for input out of scope; answering one of them is an abstention too."""
    threshold: float | None = Field(default=None, ge=0, le=1)
    """Answers of less calibrated confidence are abstained from."""
    max_risk: float | None = Field(default=None, gt=0, lt=1)
    """Largest share of wrong answers among those given, held with 95 % confidence."""
    min_coverage: float | None = Field(default=None, gt=0, le=1)
    """Share of the validation rows in scope that must still be answered; the rest with the least confidence is not."""

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        """Raises: ValueError."""
        given = [name for name in ("threshold", "max_risk", "min_coverage") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"serve.abstain: expected exactly one of threshold, max_risk and min_coverage, got "
                f"{' and '.join(given) or 'none'}"
            )
        return self

    def check_classes(self, labels: tuple[str, ...]) -> None:
        """Raises: UserError naming a class that the data does not have."""
        unknown = [label for label in self.labels if label not in labels]
        if unknown:
            text = f"expected classes of the data, got {unknown}; it has {listed(labels)}"
            raise UserError(f"serve.abstain.labels: {text}")


def calibrate(*, model: Artifact, data: Artifact, abstain: AbstainConfig | None) -> Step:
    """The same model folder with temperature and thresholds in its manifest. Raises: UserError."""
    return run_step(
        "calibrate",
        kind="onnx",
        inputs=(model, data),
        config={"abstain": abstain.model_dump() if abstain else None},
        code="tasks.calibrate",
        make=lambda out, work: _make(model, data, abstain, out),
    )


def _make(model: Artifact, data: Artifact, abstain: AbstainConfig | None, out: Path) -> None:
    validation, labels, target = read_split(data.path, "validation"), read_labels(data.path), read_target(data.path)
    if not len(validation):
        raise UserError("calibrate: expected validation rows to fit the temperature on, got none; set data.validation")
    truth = task_type(target).targets(validation, labels)
    logits_NC = Predictor(model.path, check=False).predict_logits(validation.texts)
    temperature = _temperature(logits_NC, truth, target.task)
    fitted: dict[str, Any] = {"temperature": temperature}
    if abstain is not None:
        fitted["abstain"] = abstention_rule(softmax(logits_NC, temperature), truth, labels, abstain)
    if target.task == "multi_label":
        fitted["threshold"] = best_threshold(sigmoid(logits_NC, temperature), truth)
    shutil.copytree(model.path, out, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST_FILE))
    manifest = Manifest.read(model.path)
    lineage = manifest.lineage | {"uncalibrated": model.sha256} | _retrained_on(data.path)
    manifest.model_copy(update=fitted | {"lineage": lineage}).write(out)


def _retrained_on(data: Path) -> dict[str, Any]:
    """How many rows came from where, in a retrain."""
    retrain = read_report(data).get("retrain")
    return {} if retrain is None else {"retrain": {key: retrain[key] for key in retrain if key.startswith("num_")}}


def _temperature(logits_NC: Floats, truth: Any, task: Task) -> float:
    """Of the softmax, of all sigmoids or all words together; a share of a scale has none, for it is no chance."""
    if task == "score":
        return 1.0
    if task == "multi_label":
        flat_M = logits_NC.ravel()
        return fit_temperature(np.stack([np.zeros_like(flat_M), flat_M], axis=1), truth.ravel().astype(np.int64))
    if task == "entities":
        return fit_temperature(*known_words(logits_NC, truth))
    return fit_temperature(logits_NC, truth)


def abstention_rule(
    probabilities_NC: Floats, labels_N: Any, labels: tuple[str, ...], config: AbstainConfig
) -> Abstention:
    """The threshold that the config asks for, on the validation rows. Raises: UserError where none keeps the risk."""
    confidence_N = scope_confidence(probabilities_NC, labels, config.labels)
    threshold = config.threshold
    if config.min_coverage is not None:
        in_scope_N = ~np.isin(labels_N, [labels.index(label) for label in config.labels])
        threshold = threshold_for_coverage(confidence_N[in_scope_N], config.min_coverage)
    if config.max_risk is not None:
        wrong_N = probabilities_NC.argmax(axis=1) != labels_N
        threshold = threshold_for_risk(confidence_N, wrong_N, max_risk=config.max_risk)
        if threshold is None:
            raise UserError(
                f"serve.abstain.max_risk: {len(labels_N):,} validation rows cannot show a risk of "
                f"{config.max_risk:g} or less with 95 % confidence, however few are answered; raise it, give more "
                "validation rows, or set min_coverage instead"
            )
    return Abstention(threshold=threshold or 0.0, labels=tuple(config.labels))
