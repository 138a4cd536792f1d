from pathlib import Path

import pytest
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from bento.errors import RetortError, UserError
from tasks import vocabulary
from tasks.train import PACKAGED, find_model
from tasks.vocabulary import cut_vocabulary, unknown_rate

TEXTS = ["where is my unbelievable parcel", "the parcel is late", "is it late again"] * 5


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> tuple[BertForSequenceClassification, Path]:
    out = tmp_path_factory.mktemp("vocabulary")
    source = Path(find_model(PACKAGED))
    config = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    model = BertForSequenceClassification(config)
    cut_vocabulary(model, source, list(TEXTS), held_out=list(TEXTS), keep=1.0, common=50, out=out)
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
    cut_vocabulary(model, source, list(TEXTS), held_out=list(TEXTS), keep=1.0, common=0, out=tmp_path)
    new_id = AutoTokenizer.from_pretrained(tmp_path).convert_tokens_to_ids("parcel")
    assert torch.equal(model.get_input_embeddings().weight[new_id], old[old_tokenizer.convert_tokens_to_ids("parcel")])


def test_a_tokenizer_that_is_not_wordpiece_is_refused_with_the_remedy(tmp_path: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(tokenizer_object=Tokenizer(BPE()), pad_token="<pad>").save_pretrained(tmp_path)
    with pytest.raises(UserError, match="expected a WordPiece tokenizer, got BPE"):
        cut_vocabulary(None, tmp_path, ["a"], held_out=["a"], keep=1.0, common=0, out=tmp_path / "out")


def test_the_unknown_rate_counts_tokens_without_a_piece() -> None:
    tokenizer = AutoTokenizer.from_pretrained(find_model(PACKAGED))
    assert unknown_rate(tokenizer, ["the car", "𓀀 𓀀 is late"]) == pytest.approx(2 / 6)
    assert unknown_rate(tokenizer, [("the car", "𓀀")]) == pytest.approx(1 / 3)
    assert unknown_rate(tokenizer, []) == 0


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
        cut_vocabulary(model, source, TEXTS, held_out=["the late zebra"], keep=1.0, common=0, out=tmp_path)
