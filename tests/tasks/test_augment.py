from dataclasses import replace

import numpy as np

from tasks.augment import Alteration, add_typos, altered_copies, drop_words, put_random, splice

WORDS = ["my", "card", "was", "charged", "twice", "in", "the", "shop"]


def test_about_the_asked_share_of_words_is_dropped_and_never_all() -> None:
    rng = np.random.default_rng(0)
    lengths = [len(drop_words(WORDS, 0.25, rng)) for _ in range(500)]
    assert abs(np.mean(lengths) / len(WORDS) - 0.75) < 0.02
    assert all(len(drop_words(["one"], 0.99, rng)) == 1 for _ in range(20))


def test_typos_change_one_letter_of_some_longer_words() -> None:
    rng = np.random.default_rng(0)
    changed = [add_typos(WORDS, 0.5, rng) for _ in range(300)]
    differ = [sum(a != b for a, b in zip(WORDS, words, strict=True)) for words in changed]
    assert 2 < np.mean(differ) < 4
    assert all(abs(len(a) - len(b)) <= 1 for words in changed for a, b in zip(WORDS, words, strict=True))
    assert all(words[0] == "my" for words in changed), "words of two letters stay"


def test_a_splice_begins_as_one_text_and_ends_as_the_other() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        found = splice(["a", "b", "c"], ["x", "y", "z"], rng)
        head = [word for word in found if word in "abc"]
        tail = [word for word in found if word in "xyz"]
        assert found == head + tail
        assert head == ["a", "b", "c"][: len(head)]
        assert tail == ["x", "y", "z"][3 - len(tail) :]
        assert head
        assert tail


def test_copies_are_new_and_repeat_under_a_seed() -> None:
    texts = [" ".join(WORDS), "where is my new card", "how do i top up"]
    how = Alteration(drop=0.2, typos=0.1, mix=0.3)
    found = altered_copies(texts, [texts] * 5, how, rng=np.random.default_rng(7))
    assert len(set(found)) == len(found) > 8
    assert not set(found) & set(texts)
    assert found == altered_copies(texts, [texts] * 5, how, rng=np.random.default_rng(7))


def test_random_words_replace_their_share_and_each_copy_draws_its_own() -> None:
    rng = np.random.default_rng(0)
    changed = [put_random(WORDS, 0.25, ["zebra", "moon"], rng) for _ in range(500)]
    shares = [sum(word in ("zebra", "moon") for word in words) / len(WORDS) for words in changed]
    assert abs(np.mean(shares) - 0.25) < 0.02
    how = Alteration(drop=0, typos=0, mix=0, random=0.8, vocabulary=["zebra"])
    text = [" ".join(WORDS * 4)]
    copies = [copy.split() for copy in altered_copies(text, [text] * 300, how, rng=rng)]
    drawn = [words.count("zebra") / len(words) for words in copies]
    assert abs(np.mean(drawn) - 0.4) < 0.03
    assert np.quantile(drawn, 0.05) < 0.12
    assert np.quantile(drawn, 0.95) > 0.68
    none = replace(how, random=0.0)
    assert altered_copies(text, [text] * 3, none, rng=rng) == []


def test_each_version_is_altered_and_the_texts_themselves_are_left_out() -> None:
    none = Alteration(drop=0, typos=0, mix=0)
    versions = [["a red car"], ["a blue car"], ["a red car"], ["a green car"], ["a blue car"]]
    found = altered_copies(["a red car"], iter(versions), none, rng=np.random.default_rng(0))
    assert found == ["a blue car", "a green car"]


def test_both_halves_of_a_pair_are_altered() -> None:
    pairs = [("a man plays a guitar on stage", "someone is playing music there"), ("a dog runs", "an animal moves")]
    how = Alteration(drop=0.4, typos=0.0, mix=0.5)
    found = altered_copies(pairs, [pairs] * 8, how, rng=np.random.default_rng(0))
    assert all(isinstance(pair, tuple) and len(pair) == 2 for pair in found)
    assert any(first not in pairs[0] for first, _ in found)
    assert any(second not in (pairs[0][1], pairs[1][1]) for _, second in found)
