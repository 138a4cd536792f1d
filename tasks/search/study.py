"""Optuna's side of a search: what is looked at next, kept in a file that outlives a kill."""

import itertools
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tasks.search.space import SearchConfig
from tasks.search.trials import Trial, measured


class Study:
    """Optuna's study in a journal file that outlives a kill, and our own record of each trial in it."""

    def __init__(self, config: SearchConfig, work: Path) -> None:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space = config.space
        self.study = optuna.create_study(
            study_name="search",
            storage=JournalStorage(JournalFileBackend(str(work / "optuna.journal"))),
            load_if_exists=True,
            directions=["maximize", "minimize", "minimize"],
            sampler=optuna.samplers.TPESampler(seed=config.seed, n_startup_trials=min(10, config.trials // 2)),
        )
        self.waiting: dict[int, Any] = {}
        if not self.study.trials:
            for corner in _corners(self.space):
                self.study.enqueue_trial(corner)
        self._take_up_the_cut_off()

    @property
    def trials(self) -> list[Trial]:
        """What was finished, now or before a kill, in the order of the numbers."""
        rows = [trial.user_attrs["row"] for trial in self.study.trials if "row" in trial.user_attrs]
        return [Trial(**row) for row in sorted(rows, key=lambda row: row["number"])]

    @property
    def spent_s(self) -> float:
        """Seconds that were spent before a kill."""
        return float(self.study.user_attrs.get("spent_s", 0.0))

    def ask(self, count: int) -> list[tuple[int, dict[str, Any]]]:
        """Up to `count` points that were not proposed before; fewer when the space is used up."""
        seen = {_key(trial.point) for trial in self.trials}
        fresh: list[tuple[int, dict[str, Any]]] = []
        tries = 0
        while len(fresh) < count and len(seen) < num_points(self.space) and tries < 50:
            proposal = self.study.ask()
            point = {
                name: values[proposal.suggest_int(name, 0, len(values) - 1)] for name, values in self.space.items()
            }
            tries += 1
            if _key(point) in seen:
                self.study.tell(proposal, state=self._failed())
                continue
            seen.add(_key(point))
            fresh.append((self._waits(proposal), point))
        return fresh or self._first_unseen(seen, count)

    def tell(self, trial: Trial, spent_s: float) -> None:
        """Record a finished trial; one that was not trained counts as one that gets nothing right."""
        proposal = self.waiting.pop(trial.number)
        proposal.set_user_attr("row", asdict(trial))
        self.study.set_user_attr("spent_s", spent_s)
        if trial.state == "failed":
            self.study.tell(proposal, state=self._failed())
            return
        accuracy = trial.accuracy if trial.accuracy is not None else 0.0
        self.study.tell(proposal, [accuracy, measured(trial.latency_ms), measured(trial.size_mb)])

    def _first_unseen(self, seen: set[str], count: int) -> list[tuple[int, dict[str, Any]]]:
        """When the sampler repeats itself: the next points of the grid."""
        found: list[tuple[int, dict[str, Any]]] = []
        names = list(self.space)
        for values in itertools.product(*self.space.values()):
            point = dict(zip(names, values, strict=True))
            if _key(point) not in seen and len(found) < count:
                self.study.enqueue_trial({name: self.space[name].index(value) for name, value in point.items()})
                proposal = self.study.ask()
                for name, choices in self.space.items():
                    proposal.suggest_int(name, 0, len(choices) - 1)
                found.append((self._waits(proposal), point))
        return found

    def _waits(self, proposal: Any) -> int:
        """Our number of a proposal: they count what is looked at, Optuna's also what it proposes again."""
        number = len(self.trials) + len(self.waiting)
        self.waiting[number] = proposal
        return number

    def _take_up_the_cut_off(self) -> None:
        """Trials that a kill interrupted are asked again."""
        import optuna

        for trial in self.study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
            self.study.tell(trial.number, state=self._failed())
            if trial.params:
                self.study.enqueue_trial(trial.params)

    @staticmethod
    def _failed() -> Any:
        import optuna

        return optuna.trial.TrialState.FAIL


def _corners(space: dict[str, list[Any]]) -> list[dict[str, int]]:
    """The largest and the smallest point, which say early what is possible."""

    def extreme(values: list[Any], *, largest: bool) -> int:
        if not all(isinstance(value, int | float) for value in values):
            return 0 if largest else len(values) - 1
        return int(np.argmax(values) if largest else np.argmin(values))

    falling = ("speedup", "sparsity")
    return [
        {name: extreme(values, largest=largest != (name in falling)) for name, values in space.items()}
        for largest in (True, False)
    ]


def num_points(space: dict[str, list[Any]]) -> int:
    return int(np.prod([len(values) for values in space.values()]))


def _key(point: dict[str, Any]) -> str:
    return json.dumps(point, sort_keys=True)
