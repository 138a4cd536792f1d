"""The gates of a retrain: recent traffic beside the frozen test, and what may be lost on the latter."""

from collections.abc import Mapping

from bento.errors import UserError
from tasks.gate.config import GateConfig, MarginGate
from tasks.gate.verdicts import non_inferior, too_few, unjudged
from tasks.types import AnyPredictions, Predictions, Verdict


def judge_fresh(
    candidate: AnyPredictions, references: Mapping[str, AnyPredictions], rule: MarginGate, *, min_rows: int
) -> list[Verdict]:
    """Accuracy on the fresh holdout against each reference by its name; inconclusive on fewer than `min_rows`.

    Raises: UserError unless all answered the same rows with one class each.
    """
    return [_judge(candidate, reference, name, rule, min_rows) for name, reference in references.items()]


def _judge(candidate: AnyPredictions, reference: AnyPredictions, name: str, rule: MarginGate, min_rows: int) -> Verdict:
    gate = f"fresh_accuracy_vs_{name}"
    if not isinstance(candidate, Predictions) or not isinstance(reference, Predictions):
        raise UserError(f"{gate}: expected two models of one class a text, got {candidate.task} and {reference.task}")
    if candidate.ids != reference.ids:
        raise UserError(
            f"{gate}: expected both models' answers on the same rows in the same order; evaluate both again"
        )
    if len(candidate.ids) < min_rows:
        return no_verdict(name, rule, len(candidate.ids), min_rows)
    found = unjudged(gate, -rule.margin, min_rows, candidate, reference)
    return found or non_inferior(gate, candidate.correct_N, reference.correct_N, margin=rule.margin, alpha=rule.alpha)


def no_verdict(name: str, rule: MarginGate, n: int, min_rows: int) -> Verdict:
    """On fewer rows than are asked for, none among them."""
    return too_few(f"fresh_accuracy_vs_{name}", -rule.margin, n, min_rows)


def with_frozen_margin(config: GateConfig, margin: float | None) -> GateConfig:
    """The gates with this margin in accuracy and macro-F1, or as they are where there is none."""
    if margin is None:
        return config
    changed = {"accuracy": config.accuracy.model_copy(update={"margin": margin})}
    if config.macro_f1 is not None:
        changed["macro_f1"] = config.macro_f1.model_copy(update={"margin": margin})
    return config.model_copy(update=changed)
