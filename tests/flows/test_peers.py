"""Peers: each answers as the teacher does, is made once, and is told of where it cannot be had."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from flows import peers
from flows.peers import Missing, Peer, load_peers, openvino_int8, predict_with
from tasks.data import DataConfig, fingerprint, prepare, read_labels, read_split
from tasks.store import run_step
from tasks.types import Artifact
from tests.small import write_bert, write_colours

MAX_TOKENS = 16


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    config = DataConfig(source=str(write_colours(tmp_path_factory.mktemp("peers") / "rows")), validation=0.3)
    return run_step(
        "data", kind="data", inputs=fingerprint(config, None), config={}, code="tasks.types",
        make=lambda out, work: prepare(config, out),
    ).artifact  # fmt: skip


@pytest.fixture(scope="module")
def teacher() -> Artifact:
    return run_step(
        "teacher", kind="torch", inputs=[], config={"of": __name__}, code="tasks.types",
        make=lambda out, work: write_bert(out),
    ).artifact  # fmt: skip


@pytest.fixture(scope="module")
def loaded(teacher: Artifact, data: Artifact) -> dict[str, Peer]:
    found = load_peers(teacher, data, max_tokens=MAX_TOKENS)
    return {peer.name: peer for peer in found if isinstance(peer, Peer)}


def test_the_references_and_optimum_are_always_there(loaded: dict[str, Peer]) -> None:
    assert list(loaded)[:3] == ["PyTorch eager", "ONNX Runtime float", "optimum int8"]


def test_every_peer_answers_as_pytorch_does(loaded: dict[str, Peer], data: Artifact) -> None:
    texts = list(read_split(data.path, "test").texts[:8])
    expected_NC = loaded["PyTorch eager"].answer(texts)
    assert expected_NC.shape == (8, len(read_labels(data.path)))
    assert np.ptp(expected_NC, axis=0).max() > 0.05
    for name, peer in loaded.items():
        assert np.abs(peer.answer(texts) - expected_NC).max() < (0.05 if "int8" in name else 1e-4), name


def test_int8_ships_fewer_bytes_with_its_tokenizer(loaded: dict[str, Peer]) -> None:
    assert loaded["optimum int8"].size_bytes < 0.6 * loaded["ONNX Runtime float"].size_bytes
    for peer in loaded.values():
        assert peer.size_bytes == sum(path.stat().st_size for path in peer.folder.iterdir())
        assert {"tokenizer.json", "config.json"} <= {path.name for path in peer.folder.iterdir()}
        assert peer.version


def test_answers_are_stored_and_pair_with_the_rows(
    loaded: dict[str, Peer], data: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer, test = loaded["optimum int8"], read_split(data.path, "test")
    found = predict_with(peer, data, max_tokens=MAX_TOKENS)
    assert found.ids == test.ids
    assert np.array_equal(found.probabilities_NC[3], peer.answer([test.texts[3]])[0])
    monkeypatch.setattr(peers, "write_predictions", None)  # a second computation would call it
    assert np.array_equal(predict_with(peer, data, max_tokens=MAX_TOKENS).probabilities_NC, found.probabilities_NC)


@pytest.mark.parametrize("absent", ["openvino", "nncf"])
def test_a_peer_that_is_not_installed_is_said_to_be_missing(
    absent: str, teacher: Artifact, data: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == absent else object())
    found = openvino_int8(teacher, data, MAX_TOKENS)
    assert found == Missing(name="OpenVINO + NNCF int8", packages=("openvino", "nncf"))


def test_pairs_are_tokenised_as_pairs(loaded: dict[str, Peer]) -> None:
    tokens = peers._tokenizer(Path(loaded["optimum int8"].folder), MAX_TOKENS, "np")
    assert tokens([("red", "car"), ("a", "lamp")])["token_type_ids"].max() == 1
    assert tokens(["red car", "a lamp"])["token_type_ids"].max() == 0
