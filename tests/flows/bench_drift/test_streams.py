"""Streams have the rows they say: apart from each other, changed where they say, in the order they say."""

from dataclasses import replace

import numpy as np
import pytest

from flows.bench_drift.corpus import Corpus
from flows.bench_drift.streams import RUN, calm, in_time, resampled, switch

OLD, NEW = np.arange(6_000), np.arange(6_000, 8_000)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("ramped", [False, True])
def test_the_parts_share_no_row_and_only_the_live_part_has_new_ones(corpus: Corpus, ramped: bool) -> None:
    stream = switch("other", corpus, OLD, NEW, ramped=ramped, rng=rng())
    rows = np.concatenate([stream.train_R, stream.held_R, stream.live_R])
    assert len(np.unique(rows)) == len(rows)
    assert max(stream.train_R.max(), stream.held_R.max()) < 6_000
    assert stream.change is not None
    assert stream.settled is not None
    assert (stream.live_R[: stream.change] < 6_000).all()
    assert (stream.live_R[stream.settled :] >= 6_000).all()


def test_a_ramp_begins_with_few_new_rows(corpus: Corpus) -> None:
    stream = switch("other", corpus, OLD, NEW, ramped=True, rng=rng())
    assert stream.change is not None
    new = stream.live_R[stream.change : stream.settled] >= 6_000
    assert new[:250].mean() < 0.3 < 0.7 < new[-250:].mean()


def test_a_share_of_new_rows_stays_a_share(corpus: Corpus) -> None:
    stream = switch("some", corpus, OLD, NEW, share=0.2, ramped=False, rng=rng())
    assert (stream.live_R[stream.settled :] >= 6_000).mean() == pytest.approx(0.2, abs=0.03)


def test_a_calm_stream_is_shuffled_or_keeps_runs_in_their_natural_order(corpus: Corpus) -> None:
    shuffled = calm(corpus, 2_000, natural=False, rng=rng())
    natural = calm(corpus, 2_000, natural=True, rng=rng())
    assert shuffled is not None
    assert natural is not None
    assert np.mean(np.diff(shuffled.live_R) == 1) < 0.01
    assert np.mean(np.diff(natural.live_R) == 1) == pytest.approx(1 - 1 / RUN, abs=0.01)
    assert calm(corpus, 7_000, natural=False, rng=rng()) is None, "too few rows would be left to train on"
    assert calm(replace(corpus, timed=False), 2_000, natural=True, rng=rng()) is None, "the order of a file is no time"


def test_time_runs_forward(corpus: Corpus) -> None:
    stream = in_time(corpus, past=0.5, rng=rng())
    assert stream.train_R.max() < stream.live_R.min()
    assert (np.diff(stream.live_R) > 0).all()


def test_resampling_moves_the_shares_of_the_classes_and_nothing_else(corpus: Corpus) -> None:
    stream = resampled("mix", corpus, ramped=False, rng=rng())
    shares = [np.mean(corpus.labels_N[part] == "red") for part in np.split(stream.live_R, [stream.change])]
    assert abs(shares[0] - shares[1]) > 0.05
