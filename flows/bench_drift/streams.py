"""Streams: a train part, a held-out part and a live part whose rows come in order, cut from a set of real text.

Shapes: R rows of a part, as indices into the corpus.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flows.bench_drift.corpus import Corpus

Rows = NDArray[np.int64]
Rng = np.random.Generator

NUM_TRAIN, NUM_HELD = 3_000, 1_000
NUM_CALM = 1_500
"""Live rows before a planted change."""
NUM_AFTER = 3_000
"""Live rows from the change on; fewer where the set has no more."""
RAMP = 1_000
"""Rows over which a ramped change grows from nothing to its full share."""
RUN = 20
"""Rows that stay together, in their natural order, where order is natural and yet nothing drifts."""


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Rows of one corpus."""

    name: str
    corpus: Corpus
    train_R: Rows
    held_R: Rows
    live_R: Rows
    change: int | None = None
    """Position in the live part where rows of another kind begin to come; null without a planted change."""
    settled: int | None = None
    """From here on the change is complete."""


def calm(corpus: Corpus, num_live: int, *, natural: bool, rng: Rng) -> Stream | None:
    """A stream without drift: all parts are drawn alike from one pool; None where that is too small.

    Rows are shuffled one by one, or, in natural order, in runs of consecutive rows; None too where order means nothing.
    """
    if natural and not corpus.timed:
        return None
    run = RUN if natural else 1
    pool = in_scope(corpus)
    starts = rng.permutation(len(pool) // run)
    rows = pool[(starts[:, None] * run + np.arange(run)).ravel()]
    train, held = _sizes(len(rows), num_live)
    if train < NUM_TRAIN // 2:
        return None
    ends = np.cumsum([train, held, num_live])
    train_R, held_R, live_R, _ = np.split(rows, ends)
    name = f"{corpus.name}, {'natural order' if natural else 'shuffled'}"
    return Stream(name=name, corpus=corpus, train_R=train_R, held_R=held_R, live_R=live_R)


def switch(
    name: str, corpus: Corpus, before_R: Rows, after_R: Rows, *, ramped: bool, rng: Rng, share: float = 1.0
) -> Stream:
    """A stream that changes from the rows `before_R` to a mixture with a share of `after_R`, at once or by and by."""
    before_R, after_R = rng.permutation(before_R), rng.permutation(after_R)
    num_calm = min(NUM_CALM, len(before_R) // 4)
    num_after = min(NUM_AFTER, int(len(after_R) / share))
    ramp = min(RAMP, num_after // 2) if ramped else 0
    train, held = _sizes(len(before_R), num_calm + ramp // 2 + int((1 - share) * num_after))
    train_R, held_R, calm_R, rest_R = np.split(before_R, np.cumsum([train, held, num_calm]))
    chance = share * np.minimum(1.0, (np.arange(num_after) + 1) / max(ramp, 1))
    mixed_R = _mixed(rest_R, after_R, rng.random(num_after) < chance)
    return Stream(
        name=f"{name}, {'ramped' if ramped else 'abrupt'}", corpus=corpus, train_R=train_R, held_R=held_R,
        live_R=np.concatenate([calm_R, mixed_R]), change=num_calm, settled=num_calm + ramp,
    )  # fmt: skip


def _mixed(old_R: Rows, new_R: Rows, new: NDArray[np.bool_]) -> Rows:
    """The next row of `new_R` where `new` says so, else of `old_R`; a place is left out where its rows have run out."""
    turn = np.where(new, np.cumsum(new), np.cumsum(~new)) - 1
    there = turn < np.where(new, len(new_R), len(old_R))
    return np.array([(new_R if is_new else old_R)[at] for is_new, at in zip(new[there], turn[there], strict=True)])


def in_time(corpus: Corpus, *, past: float, rng: Rng) -> Stream:
    """Champion of the first `past` of the rows, then all that followed, in its order."""
    cut = int(past * len(corpus))
    past_R = rng.permutation(cut)
    train, held = _sizes(cut, 0)
    live_R = np.arange(cut, len(corpus))
    thinned = np.linspace(0, len(live_R) - 1, min(len(live_R), NUM_CALM + NUM_AFTER)).astype(int)
    return Stream(
        name=f"{corpus.name}, in time", corpus=corpus, train_R=past_R[:train], held_R=past_R[train : train + held],
        live_R=live_R[thinned],
    )  # fmt: skip


def resampled(name: str, corpus: Corpus, *, ramped: bool, rng: Rng) -> Stream:
    """The same classes in other shares: half of them, drawn by chance, become four times as frequent as the rest."""
    pool = rng.permutation(in_scope(corpus))
    before_R, source_R = np.split(pool, [int(0.6 * len(pool))])
    classes = rng.permutation(np.unique(corpus.labels_N[pool]))
    rare = np.isin(corpus.labels_N[source_R], classes[: len(classes) // 2])
    return switch(name, corpus, before_R, source_R[~rare | (rng.random(len(rare)) < 0.25)], ramped=ramped, rng=rng)


def in_scope(corpus: Corpus) -> Rows:
    """Rows that are not out of scope."""
    return np.flatnonzero(corpus.labels_N != "oos")


def _sizes(num_rows: int, num_live: int) -> tuple[int, int]:
    """Rows to train on and to hold out, of those that the live part leaves."""
    left = num_rows - num_live
    train = min(NUM_TRAIN, int(0.7 * left))
    return train, min(NUM_HELD, left - train)


def _oos(share: float) -> Callable[..., Stream]:
    def make(corpus: Corpus, *, ramped: bool, rng: Rng) -> Stream:
        outside = np.flatnonzero(corpus.labels_N == "oos")
        name = f"clinc150, {share:.0%} out of scope"
        return switch(name, corpus, in_scope(corpus), outside, share=share, ramped=ramped, rng=rng)

    return make


def _later(past: float, later: float) -> Callable[..., Stream]:
    """Rows of the past, in no order, then rows of a later time."""

    def make(corpus: Corpus, *, ramped: bool, rng: Rng) -> Stream:
        n = len(corpus)
        name = f"{corpus.name}, later years"
        return switch(name, corpus, np.arange(int(past * n)), np.arange(int(later * n), n), ramped=ramped, rng=rng)

    return make


def _domain(*new: str) -> Callable[..., Stream]:
    def make(corpus: Corpus, *, ramped: bool, rng: Rng) -> Stream:
        inside = np.isin(corpus.domains_N, new)
        name = f"{corpus.name}, domain {' and '.join(new)}"
        return switch(name, corpus, np.flatnonzero(~inside), np.flatnonzero(inside), ramped=ramped, rng=rng)

    return make


def _new_intents(*new: str) -> Callable[..., Stream]:
    def make(corpus: Corpus, *, ramped: bool, rng: Rng) -> Stream:
        inside = np.isin(corpus.labels_N, new)
        name = f"{corpus.name}, new {' and '.join(new)}"
        return switch(
            name, corpus, np.flatnonzero(~inside), np.flatnonzero(inside), share=0.3, ramped=ramped, rng=rng
        )  # fmt: skip

    return make


def _other_mix(corpus: Corpus, *, ramped: bool, rng: Rng) -> Stream:
    return resampled(f"{corpus.name}, other mix", corpus, ramped=ramped, rng=rng)


def _in_time(past: float) -> Callable[..., Stream]:
    return lambda corpus, *, ramped, rng: in_time(corpus, past=past, rng=rng)


SHIFTS: Mapping[tuple[str, str], Callable[..., Stream]] = {
    ("angular_cli_commits", "later"): _later(0.35, 0.6),
    ("health_news_tweets", "later"): _later(0.5, 0.8),
    ("crisislex_t26", "later"): _later(0.5, 0.7),
    ("clinc150", "oos 1 %"): _oos(0.01),
    ("clinc150", "oos 5 %"): _oos(0.05),
    ("clinc150", "oos 20 %"): _oos(0.2),
    ("sentiment_sentences", "amazon"): _domain("amazon"),
    ("sentiment_sentences", "imdb"): _domain("imdb"),
    ("sentiment_sentences", "yelp"): _domain("yelp"),
    ("snips", "new intents"): _new_intents("RateBook", "GetWeather"),
    ("snips", "mix"): _other_mix,
    ("clinc150", "mix"): _other_mix,
    ("banking77", "mix"): _other_mix,
}
"""Planted changes, abrupt or ramped; whether one is harmful is measured, not said."""
NATURAL: Mapping[tuple[str, str], Callable[..., Stream]] = {
    ("angular_cli_commits", "time"): _in_time(0.35),
    ("health_news_tweets", "time"): _in_time(0.5),
    ("crisislex_t26", "time"): _in_time(0.5),
}
"""The order in which the texts came."""
