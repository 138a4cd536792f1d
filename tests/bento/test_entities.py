"""Words, the tokens that carry their tags, and the spans that tags make."""

import numpy as np
import pytest

from bento.entities import (
    at_words,
    entity_tags,
    entity_types,
    find_entities,
    first_tokens,
    group_tags,
    tags_of,
    words_of,
)
from tests.tiny import tiny_tokenizer

TAGS = entity_tags(["LOC", "PER"])


def parts(text: str) -> list[str]:
    return [text[start:end] for start, end in words_of(text)]


def test_signs_stand_alone_and_so_do_signs_of_chinese_script() -> None:
    assert parts("@anna's in London, ok?") == ["@", "anna", "'", "s", "in", "London", ",", "ok", "?"]
    assert parts("我在London") == ["我", "在", "London"]
    assert parts(" \t ") == []


def test_tags_and_types_belong_together() -> None:
    assert TAGS == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
    assert entity_types(TAGS) == ["LOC", "PER"]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        # the example of seqeval's own documentation, true and predicted
        (["O", "O", "O", "B-MISC", "I-MISC", "I-MISC", "O"], [("MISC", (3, 4, 5))]),
        (["O", "O", "B-MISC", "I-MISC", "I-MISC", "I-MISC", "O"], [("MISC", (2, 3, 4, 5))]),
        (["B-PER", "I-PER", "O"], [("PER", (0, 1))]),
        (["I-PER", "I-PER"], [("PER", (0, 1))]),
        (["O", "I-LOC"], [("LOC", (1,))]),
        (["B-PER", "I-LOC"], [("PER", (0,)), ("LOC", (1,))]),
        (["B-PER", "B-PER"], [("PER", (0,)), ("PER", (1,))]),
        (["B-PER", "O", "I-PER"], [("PER", (0,)), ("PER", (2,))]),
        (["B-a-b", "I-a-b"], [("a-b", (0, 1))]),
        (["B-PER", None, "I-PER", None], [("PER", (0, 2))]),
        ([], []),
    ],
)
def test_tags_make_entities_by_the_rules_of_conll(tags: list[str | None], expected: list[object]) -> None:
    assert [(found.type, found.words) for found in group_tags(tags)] == expected


def test_spans_become_the_tags_that_make_them_again() -> None:
    words = words_of("Anna Bell of New York")
    tags = tags_of(words, [(0, 9, "PER"), (13, 21, "LOC")])
    assert tags == ["B-PER", "I-PER", "O", "B-LOC", "I-LOC"]
    assert [(found.type, found.words) for found in group_tags(tags)] == [("PER", (0, 1)), ("LOC", (3, 4))]


def test_a_word_is_read_at_its_first_piece_and_one_that_was_cut_off_nowhere() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.enable_truncation(5)
    text = "Cards help, my card"
    encoding = tokenizer.encode(text)
    assert encoding.tokens == ["[CLS]", "card", "##s", "help", "[SEP]"]
    firsts = first_tokens(encoding, words_of(text))
    assert firsts == [1, 3, -1, -1, -1]
    logits_TK = np.arange(5, dtype=np.float32)[:, None].repeat(2, axis=1)
    assert np.array_equal(at_words(logits_TK, firsts, 3)[:, 0], [1, 3, np.nan], equal_nan=True)


def test_entities_have_the_text_the_span_and_the_mean_score_of_their_words() -> None:
    text = "Anna Bell, London."
    rows = [(3, 0.9), (4, 0.7), (0, 0.6), (1, 0.8), (0, 0.9)]
    probabilities_WK = np.full((8, 5), np.nan, dtype=np.float32)
    for word, (tag, value) in enumerate(rows):
        probabilities_WK[word] = (1 - value) / 4
        probabilities_WK[word, tag] = value
    anna, london = find_entities(text, words_of(text), probabilities_WK, TAGS)
    assert (anna["text"], anna["label"], anna["start"], anna["end"]) == ("Anna Bell", "PER", 0, 9)
    assert anna["score"] == pytest.approx(0.8)
    assert (london["text"], london["start"], london["end"]) == ("London", 11, 17)
    assert find_entities(text, words_of(text), probabilities_WK[:3], TAGS)[-1]["text"] == "Anna Bell"
