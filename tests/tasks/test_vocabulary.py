import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoModel, AutoTokenizer, BertConfig, BertForSequenceClassification

from bento.errors import RetortError, UserError
from tasks import vocabulary
from tasks.train import PACKAGED, find_model
from tasks.vocabulary import by_likelihood, changed_rate, cut_vocabulary, unknown_rate
from tests.shared_data import data_folder

TEXTS = ["where is my unbelievable parcel", "the parcel is late", "is it late again"] * 5


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> tuple[BertForSequenceClassification, Path]:
    out = tmp_path_factory.mktemp("vocabulary")
    source = Path(find_model(PACKAGED))
    config = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    model = BertForSequenceClassification(config)
    cut_vocabulary(model, source, list(TEXTS), held_out=list(TEXTS), keep=1.0, likely=50, out=out)
    return model, out


def test_training_text_is_tokenised_as_before(cut: tuple[BertForSequenceClassification, Path]) -> None:
    old, new = AutoTokenizer.from_pretrained(find_model(PACKAGED)), AutoTokenizer.from_pretrained(cut[1])
    assert [new.tokenize(text) for text in TEXTS] == [old.tokenize(text) for text in TEXTS]


def test_embedding_and_tokenizer_agree_in_size(cut: tuple[BertForSequenceClassification, Path]) -> None:
    model, out = cut
    assert (
        model.get_input_embeddings().num_embeddings
        == len(AutoTokenizer.from_pretrained(out))
        == model.config.vocab_size
    )
    assert model.config.vocab_size < 5000


def test_nothing_becomes_unknown_that_was_not(cut: tuple[BertForSequenceClassification, Path]) -> None:
    old, new = AutoTokenizer.from_pretrained(find_model(PACKAGED)), AutoTokenizer.from_pretrained(cut[1])
    for text in ("quizzical zebra", "naïve café 東京", "x-ray & co. €5", "antidisestablishmentarianism"):
        assert new.tokenize(text).count(new.unk_token) <= old.tokenize(text).count(old.unk_token)


def test_special_tokens_frame_the_text(cut: tuple[BertForSequenceClassification, Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(cut[1])
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("late", "again")["input_ids"])
    assert tokens == ["[CLS]", "late", "[SEP]", "again", "[SEP]"]
    assert tokenizer("late", "again")["token_type_ids"] == [0, 0, 0, 1, 1]


def test_the_kept_rows_are_the_old_ones(tmp_path: Path) -> None:
    import torch

    source = Path(find_model(PACKAGED))
    old_tokenizer = AutoTokenizer.from_pretrained(source)
    config = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    model = BertForSequenceClassification(config)
    old = model.get_input_embeddings().weight.detach().clone()
    cut_vocabulary(model, source, list(TEXTS), held_out=list(TEXTS), keep=1.0, likely=0, out=tmp_path)
    new_id = AutoTokenizer.from_pretrained(tmp_path).convert_tokens_to_ids("parcel")
    assert torch.equal(model.get_input_embeddings().weight[new_id], old[old_tokenizer.convert_tokens_to_ids("parcel")])


def test_tokens_like_those_of_the_text_come_first_and_frequent_ones_before_rare_ones() -> None:
    rng = np.random.default_rng(0)
    about_N = np.arange(4_000) % 2 == 0  # every second token is of the text's subject
    embedding = rng.normal(size=(4_000, 16)) + 2.0 * about_N[:, None]
    occurs_N = about_N & (rng.random(4_000) < 0.6 - 0.5 * np.arange(4_000) / 4_000)
    order = by_likelihood(embedding, np.arange(4_000) + 500, occurs_N)
    new = [at for at in order if not occurs_N[at]][:500]
    assert about_N[new].mean() > 0.95
    assert np.mean(new) < 0.8 * np.mean(np.flatnonzero(about_N & ~occurs_N))


@pytest.mark.parametrize("occurs", [np.zeros(5, bool), np.ones(5, bool)])
def test_where_nothing_tells_the_frequent_come_first(occurs: np.ndarray) -> None:
    assert by_likelihood(np.zeros((5, 4)), np.array([9, 3, 7, 1, 5]), occurs).tolist() == [3, 1, 4, 2, 0]


@pytest.mark.parametrize(("name", "most"), [("banking77", 0.7), ("clinc150", 0.95), ("sst2", 0.9)])
def test_fewer_new_texts_lose_a_token_than_with_the_most_frequent_words(name: str, most: float) -> None:
    """A quarter of CLINC150's test texts is of other subjects."""
    train, new = (shared_texts(name, split) for split in ("train", "test"))
    tokenizer = AutoTokenizer.from_pretrained(find_model(PACKAGED))
    model = AutoModel.from_pretrained(find_model(PACKAGED))
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    embedding = model.get_input_embeddings().weight.detach().double().numpy()
    kept = set(vocabulary._kept_tokens(tokenizer, state, embedding, train, 1.0, 2000))
    none = set(vocabulary._kept_tokens(tokenizer, state, embedding, train, 1.0, 0))
    frequent = [token for token in tokenizer.get_vocab() if token.isalpha() and token not in none]
    frequent = sorted(frequent, key=tokenizer.get_vocab().__getitem__)[:2000]
    assert len(kept) == len(none) + 2000
    assert share_changed(tokenizer, kept, new) < most * share_changed(tokenizer, none | set(frequent), new)


def shared_texts(name: str, split: str) -> list[str]:
    folder = data_folder(name)
    with (folder / f"{split}.csv").open(encoding="utf-8", newline="") as file:
        return [row["text"] for row in csv.DictReader(file)]


def share_changed(tokenizer: Any, kept: set[str], texts: list[str]) -> float:
    return sum(not kept.issuperset(tokenizer.tokenize(text)) for text in texts) / len(texts)


def test_a_tokenizer_that_is_not_wordpiece_is_refused_with_the_remedy(tmp_path: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(tokenizer_object=Tokenizer(BPE()), pad_token="<pad>").save_pretrained(tmp_path)
    with pytest.raises(UserError, match="expected a WordPiece tokenizer, got BPE"):
        cut_vocabulary(None, tmp_path, ["a"], held_out=["a"], keep=1.0, likely=0, out=tmp_path / "out")


def test_the_unknown_rate_counts_tokens_without_a_piece() -> None:
    tokenizer = AutoTokenizer.from_pretrained(find_model(PACKAGED))
    assert unknown_rate(tokenizer, ["the car", "𓀀 𓀀 is late"]) == pytest.approx(2 / 6)
    assert unknown_rate(tokenizer, [("the car", "𓀀")]) == pytest.approx(1 / 3)
    assert unknown_rate(tokenizer, []) == 0


def test_the_changed_rate_counts_texts_that_lost_a_piece(cut: tuple[BertForSequenceClassification, Path]) -> None:
    old, new = AutoTokenizer.from_pretrained(find_model(PACKAGED)), AutoTokenizer.from_pretrained(cut[1])
    assert changed_rate(old, new, TEXTS) == 0
    assert changed_rate(old, new, ["the parcel", "is it late", ("the parcel", "quizzical zebra")]) == 0.25
    assert changed_rate(old, new, []) == 0


def test_a_cut_that_makes_words_unknown_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_the_letter_z(*args: object) -> list[str]:
        return [token for token in kept_tokens(*args) if "z" not in token]  # planted: "zebra" has no pieces left

    kept_tokens = vocabulary._kept_tokens
    monkeypatch.setattr(vocabulary, "_kept_tokens", without_the_letter_z)
    model = BertForSequenceClassification(BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2))
    source = Path(find_model(PACKAGED))
    with pytest.raises(
        RetortError, match=r"33\.33 % of the validation text's tokens became unknown, allowed are 0\.1 %"
    ):
        cut_vocabulary(model, source, TEXTS, held_out=["the late zebra"], keep=1.0, likely=0, out=tmp_path)
