import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bento.errors import DataError
from tasks.compress.context import Context
from tasks.data import read_split
from tasks.data.parts import UNLABELLED_FILE
from tasks.ensemble import torch_logits
from tasks.transfer import TransferConfig, chosen_transfer, num_copies, read_transfer, whole_words


def test_a_file_of_sentences_is_answered_by_the_teacher_without_those_in_training(
    context: Context, tmp_path: Path
) -> None:
    known = read_split(context.data.path, "train").texts[0]
    path = tmp_path / "more.txt"
    path.write_text(f"a red kite\n\n{known}\na red kite\nblue skies\n", encoding="utf-8")
    texts, logits_NC = read_transfer(TransferConfig(file=str(path), copies=0), context)
    assert texts == ["a red kite", "blue skies"]
    assert np.allclose(logits_NC, torch_logits(context.teacher.path, texts, 16), atol=1e-5)


def test_a_column_of_a_table_is_read_and_a_wrong_one_named(context: Context, tmp_path: Path) -> None:
    path = tmp_path / "more.csv"
    path.write_text("id,body\n1,a red kite\n", encoding="utf-8")
    texts, _ = read_transfer(TransferConfig(file=str(path), column="body", copies=0), context)
    assert texts == ["a red kite"]
    with pytest.raises(DataError, match=r"expected a column .text., got id, body; set transfer\.column"):
        read_transfer(TransferConfig(file=str(path), copies=0), context)


def test_no_text_at_all_and_a_file_that_is_not_there_are_told(context: Context) -> None:
    with pytest.raises(DataError, match="got neither"):
        read_transfer(TransferConfig(copies=0), context)
    with pytest.raises(DataError, match="there is no nowhere"):
        read_transfer(TransferConfig(file="nowhere.txt"), context)


def test_recent_text_of_a_retrain_is_answered_too_and_is_taken_where_the_config_asks_for_none(
    context: Context, tmp_path: Path
) -> None:
    assert chosen_transfer(None, context.data.path) is None
    data = tmp_path / "data"
    shutil.copytree(context.data.path, data)
    (data / UNLABELLED_FILE).write_text('"a red kite"\n"blue skies"\n', encoding="utf-8")
    retrained = replace(context, data=replace(context.data, path=data, sha256="1" * 64))
    config = chosen_transfer(None, data)
    assert config is not None
    texts, logits_NC = read_transfer(config, retrained)
    assert (texts, logits_NC.shape) == (["a red kite", "blue skies"], (2, 3))


def test_altered_copies_are_answered_once(context: Context) -> None:
    config = TransferConfig(copies=2)
    texts, logits_NC = read_transfer(config, context)
    assert logits_NC.shape == (len(texts), 3)
    again, same_NC = read_transfer(config, context)
    assert (texts, logits_NC.tolist()) == (again, same_NC.tolist())


def test_few_texts_get_many_copies_and_many_texts_one() -> None:
    assert [num_copies(rows) for rows in (0, 36, 7_300, 15_000, 60_000, 1_000_000)] == [16, 16, 13, 6, 1, 1]


def test_the_number_of_copies_can_be_left_open(context: Context) -> None:
    train = read_split(context.data.path, "train").texts
    texts, _ = read_transfer(TransferConfig(), context)
    assert 8 * len(train) < len(texts) <= 16 * len(train), "a copy that repeats another is left out"


def test_whole_words_are_in_the_order_of_the_vocabulary() -> None:
    class Vocabulary(dict[str, int]):
        def get_vocab(self) -> dict[str, int]:
            return self

    pieces = Vocabulary({"[CLS]": 0, "a": 1, "of": 3, "the": 2, "##ing": 4, "7th": 5, "card": 6})
    assert whole_words(pieces) == ["the", "of", "card"]
    marked = Vocabulary({"<s>": 0, "ing": 1, "Ġthe": 2, "Ġcard": 3, "Ġ7": 4})
    assert whole_words(marked) == ["the", "card"], "a token without the mark is a piece"


def test_random_words_come_from_the_students_vocabulary(context: Context) -> None:
    train = set(" ".join(read_split(context.data.path, "train").texts).split())
    for words in (["zebra", "quilt"], ["quartz"]):
        texts, logits_NC = read_transfer(TransferConfig(copies=1, random=0.9, typos=0), context, words)
        assert len(texts) == len(logits_NC)
        strange = [word for text in texts for word in text.split() if word not in train]
        assert len(strange) > len(texts)
        assert set(strange) == set(words)
