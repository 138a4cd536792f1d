import re
from collections import Counter

import numpy as np
import pytest

from bento.errors import DataError
from tasks.data import DataConfig, prepare, read_labels, read_report, read_split
from tasks.data.phrases import TOPICS
from tasks.data.synthetic import MOVED, NEW_PRODUCTS, generate, intent_of, intents, write_files
from tasks.data.words import DISTRACTORS, TEST_WORDS, WORDS
from tasks.floor import fit_floor
from tasks.types import SPLITS


def rows(num_rows=400, *, split="train", period=0, seed=0):
    return generate(num_rows, split=split, period=period, rng=np.random.default_rng(seed))


def test_there_are_at_least_twelve_intents_in_every_period():
    for period in range(len(MOVED) + 1):
        assert len(intents(period)) >= 12
        assert set(intents(period)) <= set(intents(0))


def test_the_sentence_families_of_the_splits_are_disjoint():
    for topic in TOPICS.values():
        assert set(topic.families) == set(SPLITS)
    for table in ({s: {f for t in TOPICS.values() for f in t.families[s]} for s in SPLITS}, DISTRACTORS):
        families = [set(table[split]) for split in SPLITS]
        assert sum(map(len, families)) == len(set().union(*families))


def test_the_test_has_words_that_training_never_shows():
    words = {word.lower() for text, _ in rows(2000) for word in re.findall(r"\w+", text)}
    assert not {"earphones", "matlab", "petra"} & words
    assert all(not set(TEST_WORDS[slot]) & set(WORDS[slot]) for slot in WORDS)


def test_every_slot_is_filled_and_every_choice_made():
    for period in range(4):
        for split in SPLITS:
            assert not [text for text, _ in rows(300, split=split, period=period) if set(text) & set("{}[]|")]


def test_the_same_seed_gives_the_same_rows_and_another_gives_others():
    assert rows() == rows()
    assert rows() != rows(seed=1)
    assert len({text for text, _ in rows()}) == 400


def test_asking_for_more_than_the_sentences_give_says_so_and_leaves_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr("tasks.data.synthetic.MAX_TRIES_PER_ROW", 0)
    with pytest.raises(DataError, match="fewer than 10 different train messages"):
        rows(10)
    with pytest.raises(DataError, match="fewer than 120 different train messages"):
        write_files(tmp_path / "new", rows=120, period=0, seed=0)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DataError, match="expected a folder, new or not, got"):
            write_files(place, rows=120, period=0, seed=0)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_later_period_has_new_products_another_mix_and_moved_meanings():
    today, later = rows(1500, split="test"), rows(1500, split="test", period=1)
    new = [word for words in NEW_PRODUCTS[0].values() for word in words]
    assert not any(word in text for text, _ in today for word in new)
    assert sum(any(word in text for word in new) for text, _ in later) > 500
    before, after = Counter(label for _, label in today), Counter(label for _, label in later)
    assert sum(abs(before[label] - after[label]) for label in before) / 1500 > 0.2
    assert all(intent_of(topic, 0) != moved == intent_of(topic, 1) for topic, moved in MOVED[0].items())
    assert intent_of("device_battery", 3) == intent_of("device_battery", 1)


def test_the_floor_is_neither_useless_nor_perfect_and_loses_accuracy_in_the_next_period(tmp_path):
    folders = [tmp_path / str(period) for period in (0, 1)]
    for period, folder in enumerate(folders):
        folder.mkdir()
        prepare(DataConfig(source="synthetic", rows=1200, period=period), folder)
    labels, train = read_labels(folders[0]), read_split(folders[0], "train")
    now, later = (fit_floor(train, read_split(folder, "test"), labels)[0].correct_N.mean() for folder in folders)
    assert 0.6 < now < 0.9
    assert later < now - 0.08


def test_the_default_sizes_suffice_for_the_accuracy_gate_and_nothing_is_dropped(tmp_path):
    prepare(DataConfig(source="synthetic"), tmp_path)
    report = read_report(tmp_path)
    assert [report["splits"][split]["num_rows"] for split in SPLITS] == [3000, 500, 2500]
    assert report["synthetic"] is True
    assert report["dropped"] == {}


def test_written_files_are_a_source_with_the_same_rows(tmp_path):
    files, out, direct = tmp_path / "files", tmp_path / "out", tmp_path / "direct"
    out.mkdir()
    direct.mkdir()
    assert [path.name for path in write_files(files, rows=120, period=1, seed=3)] == [f"{s}.csv" for s in SPLITS]
    prepare(DataConfig(source=str(files)), out)
    prepare(DataConfig(source="synthetic", rows=120, period=1, seed=3), direct)
    assert read_split(out, "test") == read_split(direct, "test")
