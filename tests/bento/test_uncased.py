"""Words that are looked up: whatever the text, the ids are those of the tokenizer itself."""

import csv
import random
import string
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

from bento import uncased
from bento.predictor import Predictor
from bento.uncased import Tokens, Uncased, is_uncased
from tasks.train import PACKAGED, find_model
from tests.shared_data import data_folder
from tests.tiny import SPECIAL, tiny_tokenizer, write_tiny_model

MAX_TOKENS = 24
LETTERS = [*string.ascii_lowercase, *string.digits, "é", "ß", "中", "ς"]
HARD = [
    *string.printable, "\x00", "\x7f", "\x1c", "\x85", "\xa0", "\u200b", "\u2028", "\u3000", "\ufeff", "\ufffd",
    "É", "e\u0301", "İ", "ß", "ẞ", "Σ", "ς", "中", "文", "’", "…", "—", "£", "😀", "[CLS]", "[SEP]", "[UNK]", "[NEW]",
    "card", "cards", "CARD", "x" * 33, "y" * 101, " ", " ", " ", "\n",
]  # fmt: skip


def make_tokenizer(max_tokens: int = MAX_TOKENS) -> Tokenizer:
    """BERT's uncased one over single letters, signs and a few longer pieces."""
    pieces = [*SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS), *string.punctuation, "card", "##ard", "##s"]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = tiny_tokenizer().post_processor
    tokenizer.add_special_tokens([*SPECIAL])
    tokenizer.add_tokens([AddedToken("[NEW]", single_word=True, lstrip=True)])
    tokenizer.enable_truncation(max_tokens)
    return tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return make_tokenizer()


def random_texts(number: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return ["".join(rng.choices(HARD, k=rng.randrange(40))) for _ in range(number)]


def same(found: Tokens | None, tokenizer: Tokenizer, *text: str) -> bool:
    expected = tokenizer.encode(*text)
    return found is not None and (found.ids, found.type_ids) == (expected.ids, expected.type_ids)


@pytest.mark.parametrize("max_tokens", [3, 5, MAX_TOKENS, 512])
def test_the_ids_are_the_tokenizers_own_seen_or_not(max_tokens: int) -> None:
    tokenizer = make_tokenizer(max_tokens)
    one = Uncased(tokenizer)
    for text in random_texts(1_500, seed=max_tokens) * 2:
        assert same(one.tokens(text), tokenizer, text), text


def test_two_texts_have_their_types_and_are_left_to_the_tokenizer_when_cut(tokenizer: Tokenizer) -> None:
    one = Uncased(tokenizer)
    texts = random_texts(2_000, seed=1)
    num_cut = 0
    for text, pair in zip(texts[::2], texts[1::2], strict=True):
        found, cut = one.tokens(text, pair), bool(tokenizer.encode(text, pair).overflowing)
        assert (found is None) if cut else same(found, tokenizer, text, pair), (text, pair)
        num_cut += cut
    assert 100 < num_cut < 900


def test_texts_that_normalise_alike_have_the_same_tokens(tokenizer: Tokenizer) -> None:
    one = Uncased(tokenizer)
    for text in random_texts(3_000, seed=2):
        assert tokenizer.encode(one.normalized(text)).ids == tokenizer.encode(text).ids, text
    assert one.normalized(" My\tCARD \n") == "my card"
    for stays in ("a\x0bb", "a\x1cb", "[SEP] A", "É A"):
        assert one.normalized(stays) == stays


@pytest.mark.parametrize("name", ["banking77", "crisislex_t26"])
def test_the_ids_of_real_texts_are_the_tokenizers_own(name: str) -> None:
    with (data_folder(name) / "test.csv").open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    tokenizer = Tokenizer.from_file(str(Path(find_model(PACKAGED)) / "tokenizer.json"))
    tokenizer.enable_truncation(64)
    tokenizer.no_padding()
    one = Uncased(tokenizer)
    assert is_uncased(tokenizer)
    assert [text for text in texts if not same(one.tokens(text), tokenizer, text)] == []


def test_long_texts_are_left_to_the_tokenizer(tokenizer: Tokenizer) -> None:
    one = Uncased(tokenizer)
    assert one.tokens("a" * uncased.MAX_CHARACTERS) is not None
    assert one.tokens("a" * uncased.MAX_CHARACTERS + "b") is None
    assert one.tokens("a" * uncased.MAX_CHARACTERS, "b") is None


def test_what_is_remembered_is_bounded(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uncased, "MAX_WORDS", 10)
    one = Uncased(tokenizer)
    for number in range(1_000):
        text = f"card {number} " + "z" * (uncased.MAX_WORD_CHARACTERS + number % 2)
        assert same(one.tokens(text), tokenizer, text)
        assert 1 <= len(one._known) <= 10
        assert max(map(len, one._known)) <= uncased.MAX_WORD_CHARACTERS


def test_a_text_costs_no_more_words_than_the_model_reads(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    one, cut = Uncased(tokenizer), []
    inner = one._cut
    monkeypatch.setattr(one, "_cut", lambda word: cut.append(word) or inner(word))
    text = " ".join(str(number) for number in range(900))
    assert same(one.tokens(text), tokenizer, text)
    assert len(cut) <= MAX_TOKENS + 1


def framed_otherwise(tokenizer: Tokenizer) -> None:
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", pair="[CLS] $A [SEP] $B:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )


def second_of_the_first_type(tokenizer: Tokenizer) -> None:
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )


OTHERS = {
    "cased": lambda one: setattr(one, "normalizer", normalizers.BertNormalizer(lowercase=False)),
    "control characters kept": lambda one: setattr(one, "normalizer", normalizers.BertNormalizer(clean_text=False)),
    "no normalizer": lambda one: setattr(one, "normalizer", normalizers.Lowercase()),
    "words at spaces only": lambda one: setattr(one, "pre_tokenizer", pre_tokenizers.WhitespaceSplit()),
    "a word as a special token": lambda one: one.add_tokens(["card"]),
    "two words as a special token": lambda one: one.add_tokens(["[my card]"]),
    "no end": framed_otherwise,
    "no types": second_of_the_first_type,
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_tokenizers_are_told_apart(name: str) -> None:
    tokenizer = make_tokenizer()
    assert is_uncased(tokenizer)
    OTHERS[name](tokenizer)
    assert not is_uncased(tokenizer)


def test_a_predictor_looks_words_up_and_answers_as_without(tmp_path: Path) -> None:
    one, other = Predictor(write_tiny_model(tmp_path / "one")), Predictor(tmp_path / "one")
    other.uncased = None
    texts = ["my CARD is lost", "where\x0bis", "refund " * 900, "[SEP] help", "", "é"]
    assert one.uncased is not None
    for found, expected in zip(one.tokenize(texts), other.tokenize(texts), strict=True):
        assert (found.ids, found.type_ids) == (expected.ids, expected.type_ids)
    assert one.predict(texts).tolist() == other.predict(texts).tolist()
    assert [type(one.encode(text)).__name__ for text in texts] == ["Tokens", "Tokens", "Encoding", *["Tokens"] * 3]
    assert {type(other.encode(text)).__name__ for text in texts} == {"Encoding"}
