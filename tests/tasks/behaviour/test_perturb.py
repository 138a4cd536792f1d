"""Each change leaves the meaning, changes what it says, and nothing else."""

import numpy as np
import pytest

from tasks.behaviour.perturb import PERTURBATIONS, Perturbation, perturb


@pytest.mark.parametrize(
    ("how", "text", "expected"),
    [
        ("case", "My card", "MY CARD"),
        ("case", "MY CARD", "my card"),
        ("punctuation", "where is it?!", "where is it"),
        ("punctuation", "where is it", "where is it."),
        ("whitespace", "my card", "  my  card "),
        ("names", "maria is a word, Mark too", "maria is a word, Mark too"),
        ("numbers", "no number", "no number"),
        ("typos", "a to be", "a to be"),
    ],
)
def test_a_change_is_as_told(how: Perturbation, text: str, expected: str) -> None:
    assert perturb(text, how, np.random.default_rng(0)) == expected


def test_numbers_keep_their_length_and_names_become_other_names_everywhere() -> None:
    rng = np.random.default_rng(3)
    changed = perturb("pay 1500 on 3 May", "numbers", rng)
    assert changed != "pay 1500 on 3 May"
    assert [len(word) for word in changed.split()] == [3, 4, 2, 1, 3]
    first, second = (
        perturb("Maria met Tom; Maria left", "names", rng).split(" met ")[0],
        perturb("Maria met Tom; Maria left", "names", np.random.default_rng(3)),
    )
    assert first.isalpha()
    assert second.split()[0] == second.split()[3], "the same name is replaced by the same one"


def test_one_word_alone_gets_a_typo() -> None:
    words, rng = ["please", "transfer", "seventeen", "euros", "tomorrow"], np.random.default_rng(0)
    for _ in range(50):
        changed = perturb(" ".join(words), "typos", rng).split(" ")
        assert sum(one != other for one, other in zip(words, changed, strict=True)) <= 1


def test_what_both_halves_of_a_pair_name_is_replaced_by_the_same() -> None:
    pair = ("Maria has 20 cards", "Maria lost 20 cards")
    for how in ("names", "numbers"):
        for seed in range(5):
            first, second = perturb(pair, how, np.random.default_rng(seed))
            assert first.split()[:3:2] == second.split()[:3:2]
            assert (first.split()[1], second.split()[1]) == ("has", "lost")


def test_both_halves_of_a_pair_are_changed_and_a_seed_gives_the_same_again() -> None:
    assert perturb(("a cat", "a dog"), "case", np.random.default_rng(0)) == ("A CAT", "A DOG")
    for how in PERTURBATIONS:
        text = "Maria has lost 2 cards."
        assert perturb(text, how, np.random.default_rng(5)) == perturb(text, how, np.random.default_rng(5))
