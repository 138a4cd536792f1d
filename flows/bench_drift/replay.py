"""One stream replayed look by look under one policy: what it sees, when it retrains, which answers were wrong.

The labels that come, and with them the model that a retrain at a look gives, do not depend on the policy; so each is
made once, with its answers on all later rows, and a replay only looks them up. Shapes: L live rows, N window rows,
R corpus rows, T looks.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from flows.bench_drift.streams import Rows, Stream
from flows.bench_drift.student import Student, calibrated, train_student
from tasks.monitor.config import MonitorConfig
from tasks.monitor.harm import Baseline
from tasks.monitor.reference import Reference, fit_reference
from tasks.monitor.window import Window, distinct_rows

Rng = np.random.Generator
Bools = NDArray[np.bool_]

AUDIT_WEIGHT = 3.0
"""Of an audited row in training, beside 1 of an old one."""
FRESH = 0.3
"""Share of the audited rows that a retrain holds out."""
MIN_FRESH = 100
"""With so many of them a new champion's reference and baseline are theirs alone; with fewer, the old ones stay in."""
HOUR_S = 3_600.0


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How all streams are replayed."""

    monitor: MonitorConfig
    step: int = 50
    """Requests between two looks, which are an hour apart."""
    audit_rate: float = 0.2
    """Share of the requests that is drawn at random for a label."""
    max_labels: int = 1_000
    """Newest labels that a verdict on harm may read: the config's own window, which is smaller here for rows alone."""
    delay: int = 100
    """Requests that come before a label does."""


class Run:
    """A stream with its audit draw and the models that a retrain at any look would give; look 0 is the start."""

    def __init__(self, stream: Stream, setup: Setup, rng: Rng) -> None:
        """Draw which requests are audited."""
        self.stream, self.setup, self.corpus = stream, setup, stream.corpus
        self.num_looks = len(stream.live_R) // setup.step
        self.truth_L = self.corpus.labels_N[stream.live_R]
        self._drawn_L, chosen_L = rng.random((2, len(stream.live_R)))
        self.rate_L = np.full(len(stream.live_R), setup.audit_rate)
        self.fresh_L: Bools = chosen_L < FRESH
        self._models: dict[int, Model] = {}
        self._windows: dict[tuple[int, int], Window] = {}

    def model(self, look: int) -> "Model":
        """What a retrain at this look gives."""
        if look not in self._models:
            self._models[look] = Model(self, look)
        return self._models[look]

    @property
    def audited_L(self) -> Bools:
        """Which requests are drawn for a label, as far as rates are known by now."""
        return np.asarray(self._drawn_L < self.rate_L)

    def watch(self, look: int) -> None:
        """Draw as many of the requests after this look as the service then does, for as long."""
        config = self.setup.monitor
        num_looks = round(60 * config.suspect_audit_minutes / HOUR_S)
        rows = slice(look * self.setup.step, (look + num_looks) * self.setup.step)
        self.rate_L[rows] = np.maximum(self.setup.audit_rate, config.suspect_audit_rate)

    def labelled(self, begin: int, look: int) -> Rows:
        """Live positions from `begin` on whose labels are there at this look."""
        end = max(begin, look * self.setup.step - self.setup.delay)
        return begin + np.flatnonzero(self.audited_L[begin:end])

    def window(self, champion: int, look: int) -> Window:
        """The newest distinct texts that this champion answered."""
        key = (champion, look)
        if key not in self._windows:
            self._windows = {key: self._take_window(champion, look)}  # policies take turns on one at a time
        return self._windows[key]

    def _take_window(self, champion: int, look: int) -> Window:
        positions = np.arange(champion * self.setup.step, look * self.setup.step)
        texts = [self.corpus.texts[row] for row in self.stream.live_R[positions]]
        kept = distinct_rows(texts, limit=self.setup.monitor.window)
        positions = positions[kept]
        rows_R = self.stream.live_R[positions]
        return Window(
            texts=[texts[at] for at in kept],
            embeddings_ND=self.corpus.embeddings_ND[rows_R],
            probabilities_NC=self.model(champion).student.probabilities(self.corpus.embeddings_ND[rows_R]),
            descriptors={name: values[rows_R] for name, values in self.corpus.descriptors.items()},
            timestamps_s_N=(positions * (HOUR_S / self.setup.step)).astype(np.float64),
        )

    def errors(self, champion: int, begin: int, end: int) -> int:
        """Wrong answers of this champion on live rows `begin` to `end`."""
        return int((~self.model(champion).correct_L[begin:end]).sum())


class Model:
    """The champion that was made at one look: old rows and the labels that were there, some of them held out."""

    def __init__(self, run: Run, look: int) -> None:
        """Train and calibrate it."""
        corpus, stream = run.corpus, run.stream
        labelled = run.labelled(0, look)
        learnt_R = stream.live_R[labelled[~run.fresh_L[labelled]]]
        fresh_R = stream.live_R[labelled[run.fresh_L[labelled]]]
        self.run, self.look = run, look
        rows_R = np.concatenate([stream.train_R, learnt_R])
        weights_R = np.repeat([1.0, AUDIT_WEIGHT], [len(stream.train_R), len(learnt_R)])
        self.held_R = fresh_R if len(fresh_R) >= MIN_FRESH else np.concatenate([stream.held_R, fresh_R])
        self.trained = train_student(corpus.embeddings_ND[rows_R], corpus.labels_N[rows_R], weights_R)

    @cached_property
    def student(self) -> Student:
        """The trained one with probabilities that held-out rows calibrated."""
        corpus, rows_R = self.run.corpus, self.held_R
        return calibrated(self.trained, corpus.embeddings_ND[rows_R], corpus.labels_N[rows_R])

    @cached_property
    def answers_L(self) -> NDArray[np.str_]:
        """Its answer to every live row."""
        return self.trained.answers(self.run.corpus.embeddings_ND[self.run.stream.live_R])

    @cached_property
    def correct_L(self) -> Bools:
        """Whether they are right."""
        return np.asarray(self.answers_L == self.run.truth_L)

    @cached_property
    def baseline(self) -> Baseline:
        """Its errors on held-out rows."""
        corpus = self.run.corpus
        answers_R = self.trained.answers(corpus.embeddings_ND[self.held_R])
        return Baseline(
            num_errors=int((answers_R != corpus.labels_N[self.held_R]).sum()), num_rows=len(self.held_R)
        )  # fmt: skip

    @cached_property
    def held(self) -> tuple[Rows, NDArray[np.float32]]:
        """Distinct held-out rows of classes that it knows, and its probabilities on them."""
        corpus = self.run.corpus
        texts = [corpus.texts[row] for row in self.held_R]
        distinct_R = self.held_R[distinct_rows(texts, limit=len(texts))]
        known_R = distinct_R[np.isin(corpus.labels_N[distinct_R], self.student.classes)]
        return known_R, self.student.probabilities(corpus.embeddings_ND[known_R])

    @cached_property
    def reference(self) -> Reference:
        """As the monitor makes it of held-out rows."""
        corpus, config = self.run.corpus, self.run.setup.monitor
        rows_R, probabilities_RC = self.held
        return fit_reference(
            corpus.embeddings_ND[rows_R],
            probabilities_RC,
            {name: values[rows_R] for name, values in corpus.descriptors.items()},
            labels_N=np.searchsorted(self.student.classes, corpus.labels_N[rows_R]),
            class_names=self.student.classes,
            num_components=config.components,
            max_rows=config.reference,
            rng=np.random.default_rng(0),
        )


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What a policy sees at a look."""

    run: Run
    look: int
    champion: int
    """The look at which the model that answers was made; 0 is the first."""
    retrained: int | None
    """The look of the last retrain."""

    @property
    def model(self) -> Model:
        """The champion."""
        return self.run.model(self.champion)

    @property
    def window(self) -> Window:
        """The newest rows that the champion answered."""
        return self.run.window(self.champion, self.look)

    @property
    def labelled(self) -> Rows:
        """Live positions that the champion answered and whose labels are there."""
        return self.run.labelled(self.champion * self.run.setup.step, self.look)

    @property
    def rested(self) -> bool:
        """Whether enough rows came since the last retrain to judge anything, for policies without a cooldown."""
        return len(self.window) >= self.run.setup.monitor.min_window


Policy = Callable[[Moment], str]
"""The state that a look found: `retrain`, another alarm, or `none`."""


@dataclass(kw_only=True)
class Trace:
    """What happened to one stream under one policy."""

    run: Run
    policy: str
    states: list[str] = field(default_factory=list)
    """Of each look, from look 1 on."""
    champions: list[int] = field(default_factory=list)
    """That answered the rows before each look."""

    @property
    def retrains(self) -> list[int]:
        """Looks that retrained."""
        return [at + 1 for at, state in enumerate(self.states) if state == "retrain"]

    @property
    def errors_T(self) -> NDArray[np.int64]:
        """Wrong answers between looks."""
        step = self.run.setup.step
        return np.array([self.run.errors(made, at * step, (at + 1) * step) for at, made in enumerate(self.champions)])

    def gain(self, look: int) -> float | None:
        """What a retrain gained in accuracy on the next window over the champion before; null at the stream's end."""
        begin = look * self.run.setup.step
        end = begin + self.run.setup.monitor.window
        if end > len(self.run.truth_L):
            return None
        before = self.champions[look - 1]
        return (self.run.errors(before, begin, end) - self.run.errors(look, begin, end)) / (end - begin)


def replay(run: Run, name: str, policy: Policy) -> Trace:
    """Let a policy look at every step; a retrain answers from the next row on."""
    trace = Trace(run=run, policy=name)
    champion, retrained = 0, None
    for look in range(1, run.num_looks + 1):
        trace.champions.append(champion)
        state = policy(Moment(run=run, look=look, champion=champion, retrained=retrained))
        trace.states.append(state)
        if state == "retrain":
            champion = retrained = look
    return trace
