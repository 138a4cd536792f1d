import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace

from tasks.monitor.window import Window, describe, distinct_rows


@pytest.fixture
def tokenizer_file(tmp_path):
    vocabulary = {"[UNK]": 0, "card": 1, "lost": 2, "my": 3, "pay": 4, "##ment": 5, "http": 6, ":": 7, "/": 8}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


def test_the_newest_of_repeated_texts_stay_in_order_of_time():
    assert distinct_rows(["a", "B", "a ", "c", "b"], limit=10) == [2, 3, 4]


def test_the_newest_texts_up_to_the_limit_are_taken():
    assert distinct_rows([f"text {row}" for row in range(50)], limit=3) == [47, 48, 49]


def test_pairs_are_distinct_by_both_parts():
    assert distinct_rows([("a", "b"), ("a", "c"), ("A", "b")], limit=10) == [1, 2]


def test_descriptors_tell_unknown_words_split_words_and_urls(tokenizer_file):
    found = describe(["lost my card", "Lost zzz", "payment", "http://x", ""], tokenizer_file)
    assert found["unknown_tokens"].tolist()[:3] == [0, 0.5, 0]
    assert found["tokens_per_word"].tolist()[:3] == [1, 1, 2]
    assert found["url"].tolist() == [0, 0, 0, 1, 0]
    assert np.isfinite(np.stack(list(found.values()))).all()


def test_another_script_and_another_language_are_told_from_english(tokenizer_file):
    texts = ["where is the card that I lost", "wo ist die Karte die ich verlor", "где карта", "12 !"]
    found = describe(texts, tokenizer_file)
    assert found["non_ascii_letters"].tolist() == [0, 0, 1, 0]
    english, german, russian, none = found["function_words"].tolist()
    assert english > 0.5 > german == russian == none == 0


def test_pairs_are_described_together(tokenizer_file):
    pair, joined = describe([("lost my", "card")], tokenizer_file), describe(["lost my card"], tokenizer_file)
    assert all(pair[name] == joined[name] for name in pair)


def test_a_window_is_known_by_its_texts():
    empty = np.empty((2, 3))
    first, second, third = (
        Window(texts=texts, embeddings_ND=empty, probabilities_NC=empty, descriptors={})
        for texts in (["a", "b"], ["A", "b "], ["a", "c"])
    )
    assert first.sha256 == second.sha256 != third.sha256
