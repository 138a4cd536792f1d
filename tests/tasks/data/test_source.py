import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from pydantic import ValidationError

from bento.errors import DataError
from tasks.data import DataConfig, fingerprint, prepare, read_labels, read_report, read_split


def write_csv(path: Path, rows: list[tuple[str, str]], header: str = "text,label") -> Path:
    path.write_text("\n".join([header, *(f"{text},{label}" for text, label in rows)]) + "\n", encoding="utf-8")
    return path


def many(num_rows: int, prefix: str) -> list[tuple[str, str]]:
    return [(f"{prefix} sentence {at}", "even" if at % 2 == 0 else "odd") for at in range(num_rows)]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    write_csv(folder / "train.csv", many(60, "training"))
    write_csv(folder / "test.csv", many(20, "test"))
    return folder


@pytest.fixture
def hub(monkeypatch):
    """A hub with one data set, `org/set`, whose label is a ClassLabel."""
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})

    def part(prefix: str, num_rows: int):
        values = {"text": [f"{prefix} {at}" for at in range(num_rows)], "label": [at % 2 for at in range(num_rows)]}
        return datasets.Dataset.from_dict(values, features=features)

    calls = []

    def load_dataset(source, *, name=None, revision=None):
        calls.append((source, name, revision))
        return datasets.DatasetDict({"train": part("train", 60), "dev": part("dev", 10), "test": part("test", 20)})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return calls


def test_importing_the_config_loads_neither_pandas_nor_datasets_nor_pyarrow():
    code = (
        "import sys, tasks.data; print([m for m in ('pandas', 'datasets', 'pyarrow', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_key_or_the_same_column_twice_is_refused():
    with pytest.raises(ValidationError, match="txet"):
        DataConfig(source="synthetic", txet="text")
    with pytest.raises(ValidationError, match="different columns"):
        DataConfig(source="synthetic", text="label")


def test_a_missing_path_says_what_was_looked_for(tmp_path):
    with pytest.raises(DataError, match=r"looked for a file or folder .*nowhere"):
        fingerprint(DataConfig(source=str(tmp_path / "nowhere")), None)


def test_a_folder_without_a_training_file_lists_what_it_has(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"looked for a file named train .*notes\.txt"):
        fingerprint(DataConfig(source=str(tmp_path)), None)


def test_two_files_for_one_split_are_refused_but_shards_are_joined(folder, tmp_path):
    write_csv(folder / "training.csv", many(4, "other"))
    with pytest.raises(DataError, match=r"several files for the train split: train\.csv, training\.csv"):
        fingerprint(DataConfig(source=str(folder)), None)
    (folder / "training.csv").unlink()
    (folder / "train.csv").rename(folder / "train-00000-of-00002.csv")
    write_csv(folder / "train-00001-of-00002.csv", many(10, "second shard"))
    prepare(DataConfig(source=str(folder)), tmp_path)
    assert read_report(tmp_path)["splits"]["train"]["num_read"] == 70


def test_the_fingerprint_follows_the_content_and_not_the_path(folder, tmp_path):
    copy = tmp_path / "copy"
    folder.rename(copy)
    before = fingerprint(DataConfig(source=str(copy)), None)
    assert [entry.split(":")[0] for entry in before] == ["train", "test"]
    write_csv(copy / "test.csv", many(21, "test"))
    after = fingerprint(DataConfig(source=str(copy)), copy / "train.csv")
    assert after[0] == before[0]
    assert after[1] != before[1]
    assert after[2] == before[0].replace("train:", "extra:")


def test_single_files_are_named_one_by_one(folder, tmp_path):
    config = DataConfig(source=str(folder / "train.csv"), test_file=str(folder / "test.csv"))
    prepare(config, tmp_path)
    assert len(read_split(tmp_path, "test")) == 20
    assert fingerprint(config, None) == fingerprint(DataConfig(source=str(folder)), None)


def test_the_synthetic_source_has_no_outside_inputs():
    assert fingerprint(DataConfig(source="synthetic"), None) == []


def test_a_hub_set_is_loaded_with_its_class_names_and_its_dev_part(hub, tmp_path):
    prepare(DataConfig(source="org/set", subset="plus", revision="v1"), tmp_path)
    assert hub == [("org/set", "plus", "v1")]
    assert read_labels(tmp_path) == ("no", "yes")
    assert len(read_split(tmp_path, "validation")) == 10
    assert read_report(tmp_path)["source"] == "org/set"


def test_a_hub_out_of_reach_says_what_was_tried_and_how_to_use_local_files(monkeypatch, tmp_path):
    def load_dataset(source, **_):
        raise ConnectionError(f"Couldn't reach {source}")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError, match=r"(?s)org/set.*hub failed.*Couldn't reach.*--set data\.source=FOLDER"):
        prepare(DataConfig(source="org/set"), tmp_path)


def test_offline_the_hub_fingerprint_is_the_cached_commit(monkeypatch, tmp_path):
    import huggingface_hub

    def dataset_info(*_args, **_kwargs):
        raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    with pytest.raises(DataError, match="no network"):
        fingerprint(DataConfig(source="org/set"), None)
    (tmp_path / "org___set" / "default" / "0.0.0" / "abc123").mkdir(parents=True)
    assert fingerprint(DataConfig(source="org/set"), None) == ["hub:org/set@abc123"]
