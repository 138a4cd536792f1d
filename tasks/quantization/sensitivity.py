"""Automatic sensitivity: when accuracy falls too far, find the parts at fault and give those more precision.

Each part is quantized alone and ranked by how far the answers move; then the fewest of the worst are raised one rung
until the accuracy budget is met (partial quantization, Wu 2020, arXiv:2004.09602). Divergence ranks, since accuracy
on a few hundred rows is too coarse to tell parts apart; accuracy decides.
"""

import logging
from collections.abc import Callable, Mapping, Sequence

from bento.errors import UserError
from tasks.quantization.levels import Ladder, Level, Plan

log = logging.getLogger("retort.sensitivity")

Measure = Callable[[Plan], float]
"""What a model built to this plan scores."""


def meet_budget(
    ladders: Mapping[str, Ladder], *, drop: Measure, divergence: Measure, budget: float
) -> dict[str, Level]:
    """The plan with the fewest raised parts whose `drop` in accuracy is within `budget`.

    Raises: UserError when it is not even where every part is as exact as its ladder allows.
    """
    plan = {name: ladder[0] for name, ladder in ladders.items()}
    found = drop(plan)
    if found <= budget:
        return plan
    log.warning("accuracy falls by %.4f, allowed is %.4f; looking for the parts at fault", found, budget)
    ranked = rank(ladders, divergence)
    for rung in range(1, max(map(len, ladders.values()))):
        able = [name for name in ranked if rung < len(ladders[name])]
        raised = _raise(plan, able, ladders, rung)
        found = drop(raised)
        if found <= budget:
            return _said(fewest(plan, able, ladders, rung, meets=lambda plan: drop(plan) <= budget), ladders)
        plan = raised
    raise UserError(
        f"quantize: accuracy falls by {found:.4f} on the validation rows even with every weight in "
        f"{' or '.join(sorted({level.name for level in plan.values()}))}, allowed is {budget:.4f}; "
        "raise quantize.budget, or give the data more validation rows"
    )


def _said(plan: dict[str, Level], ladders: Mapping[str, Ladder]) -> dict[str, Level]:
    """The plan, after the log has told what it keeps from the lowest precision."""
    raised = raised_parts(plan, ladders)
    for level, names in raised.items():
        log.warning("kept in %s: %s", level, ", ".join(names))
    if all(plan[name] == ladder[-1] for name, ladder in ladders.items()):
        log.warning("every part ended there: within this budget nothing can be quantized")
    return plan


def rank(ladders: Mapping[str, Ladder], divergence: Measure) -> list[str]:
    """Part names, worst first: how far the answers move when that part alone is on its lowest rung."""
    exact = {name: ladder[-1] for name, ladder in ladders.items()}
    alone = {name: divergence({**exact, name: ladder[0]}) for name, ladder in ladders.items()}
    return sorted(alone, key=lambda name: alone[name], reverse=True)


def fewest(
    plan: Plan, ranked: Sequence[str], ladders: Mapping[str, Ladder], rung: int, *, meets: Callable[[Plan], bool]
) -> dict[str, Level]:
    """Bisect for the fewest of the worst to raise; all of them are known to meet the budget, none not to."""
    too_few, enough = 0, len(ranked)
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if meets(_raise(plan, ranked[:middle], ladders, rung)):
            enough = middle
        else:
            too_few = middle
    return _raise(plan, ranked[:enough], ladders, rung)


def _raise(plan: Plan, names: Sequence[str], ladders: Mapping[str, Ladder], rung: int) -> dict[str, Level]:
    return {**plan, **{name: ladders[name][rung] for name in names}}


def raised_parts(plan: Plan, ladders: Mapping[str, Ladder]) -> dict[str, list[str]]:
    """Precision -> the parts that were raised to it; what the manifest records."""
    raised: dict[str, list[str]] = {}
    for name, level in plan.items():
        if level != ladders[name][0]:
            raised.setdefault(level.name, []).append(name)
    return raised
