"""The one inference path: order, truncation, pairs, padding and temperature."""

from pathlib import Path

import numpy as np
import pytest

from bento.manifest import Manifest
from bento.predictor import Predictor, pad, shared_predictor
from bento.prior import PriorCorrection
from bento.task_types import softmax
from tests.tiny import write_tiny_model


def test_answers_keep_the_order_of_texts_of_any_length(model: Path) -> None:
    predictor = Predictor(model)
    texts = ["card " * length for length in (9, 1, 5, 2, 7)]
    together_NC = predictor.predict(texts, batch_size=2)
    alone_NC = np.concatenate([predictor.predict([text]) for text in texts])
    np.testing.assert_allclose(together_NC, alone_NC, atol=1e-6)


def test_texts_are_cut_at_the_manifests_length(model: Path) -> None:
    predictor = Predictor(model)
    (encoding,) = predictor.tokenize(["card " * 500])
    assert len(encoding.ids) == predictor.manifest.max_tokens
    assert predictor.tokenizer.id_to_token(encoding.ids[-1]) == "[SEP]"
    np.testing.assert_array_equal(predictor.predict(["card " * 14]), predictor.predict(["card " * 500]))


def test_a_pair_is_both_texts_with_their_types(model: Path) -> None:
    predictor = Predictor(model)
    (encoding,) = predictor.tokenize([("card", "refund")])
    assert predictor.tokenizer.decode(encoding.ids, skip_special_tokens=False) == "[CLS] card [SEP] refund [SEP]"
    assert encoding.type_ids == [0, 0, 0, 1, 1]


def test_no_texts_give_no_rows(model: Path) -> None:
    assert Predictor(model).predict([]).shape == (0, 3)


def test_probabilities_sum_to_one_and_temperature_flattens_them(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "model")
    sharp_C = Predictor(model).predict(["my card"])[0]
    Manifest.read(model).model_copy(update={"temperature": 4.0}).write(model)
    flat_C = Predictor(model).predict(["my card"])[0]
    assert sharp_C.sum() == pytest.approx(1, abs=1e-6)
    assert flat_C.max() < sharp_C.max()
    assert flat_C.argmax() == sharp_C.argmax()


def test_softmax_survives_large_logits() -> None:
    np.testing.assert_allclose(softmax(np.array([[1e4, 1e4 - 1]], dtype=np.float32)), [[0.731059, 0.268941]], atol=1e-6)


def test_padding_to_a_multiple_stops_at_the_longest_input(model: Path) -> None:
    predictor = Predictor(model)
    encodings = predictor.tokenize(["card"])
    limit = predictor.manifest.max_tokens
    assert pad(encodings, 0, multiple=8, limit=limit)["input_ids"].shape == (1, 8)
    assert pad(encodings, 0, multiple=512, limit=limit)["input_ids"].shape == (1, limit)
    assert pad(encodings, 0)["attention_mask"].shape == (1, len(encodings[0].ids))


def test_a_process_shares_one_predictor_of_a_folder(tmp_path: Path) -> None:
    one, other = write_tiny_model(tmp_path / "one"), write_tiny_model(tmp_path / "other", seed=1)
    assert shared_predictor(one) is shared_predictor(one)
    assert shared_predictor(other).sha256 != shared_predictor(one).sha256


def test_a_prior_correction_is_bayes_rule_on_the_probabilities(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "model")
    Manifest.read(model).model_copy(update={"temperature": 2.0}).write(model)
    texts = ["my card", "refund please", "transfer money"]
    plain_NC = Predictor(model).predict(texts)
    prior = PriorCorrection(before=(0.5, 0.3, 0.2), after=(0.1, 0.2, 0.7), num_rows=100)
    plain = Predictor(model)
    Manifest.read(model).model_copy(update={"prior": prior}).write(model)
    corrected = Predictor(model)
    weighted_NC = plain_NC * np.array([0.1 / 0.5, 0.2 / 0.3, 0.7 / 0.2])
    found_NC = corrected.predict(texts)
    np.testing.assert_allclose(found_NC, weighted_NC / weighted_NC.sum(axis=1, keepdims=True), atol=1e-6)
    np.testing.assert_allclose(prior.undo(found_NC), plain_NC, atol=1e-6)
    assert corrected.sha256 != plain.sha256
