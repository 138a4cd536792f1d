import numpy as np

from tasks.monitor.words import changed_words

COMMON = [f"word{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]


def texts(rng, n, *, planted="", share=0.0):
    return [
        " ".join(rng.choice(COMMON, size=8)) + (f" {planted}" if rng.random() < share else "") for _ in range(n)
    ]  # fmt: skip


def test_planted_words_are_found_in_both_directions():
    rng = np.random.default_rng(0)
    window, reference = texts(rng, 500, planted="flood", share=0.2), texts(rng, 1_000, planted="sunny", share=0.2)
    found = {change.word: change for change in changed_words(window, reference)}
    assert set(found) == {"flood", "sunny"}
    assert found["flood"].z > 0 > found["sunny"].z
    assert (found["flood"].reference, found["sunny"].window) == (0, 0)
    assert abs(found["flood"].window - 0.2) < 0.05


def test_texts_of_one_kind_show_a_word_in_few_of_many_tries():
    tries = [changed_words(texts(rng, 300), texts(rng, 600)) for rng in map(np.random.default_rng, range(60))]
    assert sum(bool(found) for found in tries) <= 3


def test_a_text_that_repeats_a_word_counts_once():
    rng = np.random.default_rng(1)
    assert changed_words([*texts(rng, 300), "spam " * 500], texts(rng, 300)) == ()


def test_pairs_count_as_one_text_and_nothing_is_said_of_nothing():
    rng = np.random.default_rng(2)
    pairs = [(text, "flood") for text in texts(rng, 200)]
    assert next(change.word for change in changed_words(pairs, texts(rng, 200))) == "flood"
    assert changed_words([], texts(rng, 200)) == changed_words(["one"] * 9, ["one"] * 9) == ()
