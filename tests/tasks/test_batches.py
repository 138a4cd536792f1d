"""Batches: every row once, and little padding."""

import numpy as np

from tasks.batches import Rows, collate, length_grouped, repeated


def test_batches_cover_all_rows_once_and_pad_little() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 60, size=3_000).tolist()
    batches = length_grouped(lengths, 32, rng)
    assert sorted(row for batch in batches for row in batch) == list(range(3_000))
    padded = sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)
    assert padded < 1.1 * sum(lengths)


def test_padding_goes_to_the_longest_of_the_batch() -> None:
    some = Rows(token_ids=[[5, 6], [7, 8, 9]], type_ids=[[0, 1], [0, 0, 1]], targets={"label": np.array([0, 1])})
    batch = collate(some, [0, 1], pad_id=3)
    assert batch["input_ids"].tolist() == [[5, 6, 3], [7, 8, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert batch["token_type_ids"].tolist() == [[0, 1, 0], [0, 0, 1]]
    assert batch["label"].tolist() == [0, 1]


def test_a_row_is_there_as_often_as_it_is_to_be_seen() -> None:
    some = Rows(token_ids=[[5], [7, 8]], type_ids=[[0], [0, 1]], targets={"label": np.array([0, 1])})
    more = repeated(some, np.array([1, 3]))
    assert (more.token_ids, more.type_ids) == ([[5], [7, 8], [7, 8], [7, 8]], [[0], [0, 1], [0, 1], [0, 1]])
    assert more.targets["label"].tolist() == [0, 1, 1, 1]
    assert repeated(some, np.array([1, 1])) is some
