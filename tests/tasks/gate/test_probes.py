import math

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from bento.predictor import Predictor
from tasks.gate import GateConfig, num_unknown, probe
from tests.tiny import tiny_tokenizer, write_tiny_model

TEXTS = ["my card is lost", "where is my refund", "quux please", "help"] * 20


class BatchDependent:
    """Adds to each answer something of the batch's mean."""

    labels = ("a", "b")

    def predict(self, texts, *, batch_size=1):
        lengths_N = np.array([len(text) for text in texts], dtype=np.float64)
        first_N = 0.5 + 0.01 * (lengths_N - lengths_N.mean()) / 20
        return np.stack([first_N, 1 - first_N], axis=1)


def test_texts_with_an_unknown_piece_are_counted():
    assert num_unknown(tiny_tokenizer(), TEXTS) == 20
    assert num_unknown(tiny_tokenizer(), [("my card", "quux"), ("my", "card")]) == 1


def test_a_tokenizer_that_knows_every_byte_has_no_unknown_piece():
    tokenizer = Tokenizer(
        models.BPE({character: at for at, character in enumerate(pre_tokenizers.ByteLevel.alphabet())}, [])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    assert num_unknown(tokenizer, ["quux", "日本"]) == 0


def test_a_unigram_tokenizers_unknown_piece_is_found_by_its_number():
    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0)], unk_id=0))
    assert num_unknown(tokenizer, ["a", "b"]) == 1


def test_only_what_the_gate_asks_for_is_measured(tmp_path):
    predictor = Predictor(write_tiny_model(tmp_path))
    found = probe(predictor, predictor.tokenizer, TEXTS, GateConfig())
    assert (found.num_texts, found.num_unknown) == (80, None)
    assert math.isnan(found.batch_shift)


def test_a_real_float_model_is_invariant_and_a_planted_one_is_seen(tmp_path):
    predictor = Predictor(write_tiny_model(tmp_path))
    config = GateConfig(unknown_words=0.5, batch_shift=1e-3)
    sound = probe(predictor, predictor.tokenizer, TEXTS, config)
    assert sound.num_unknown == 20
    assert sound.batch_shift < 1e-5
    assert probe(BatchDependent(), predictor.tokenizer, TEXTS, config).batch_shift == pytest.approx(4e-3, abs=3e-3)
