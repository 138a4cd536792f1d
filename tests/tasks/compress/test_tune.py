import json
from pathlib import Path

import numpy as np
import pytest

from bento.errors import UserError
from bento.manifest import Manifest
from bento.predictor import Predictor
from tasks.compress import tune
from tasks.compress.context import Context
from tasks.compress.tune import Setting, Tune, choose
from tasks.types import Artifact
from tests.tasks.compress.test_distil import MINILM

SETTINGS = [Setting(1, 1, "all"), Setting(2, 1, "all"), Setting(1, 8, "extended")]


def test_a_setting_has_to_win_by_the_margin() -> None:
    assert choose(SETTINGS, [1.0, 0.95, 0.97], 0.1) == SETTINGS[0]
    assert choose(SETTINGS, [1.0, 0.95, 0.80], 0.1) == SETTINGS[2]
    assert choose(SETTINGS, [1.0, 0.85, 0.80], 0.0) == SETTINGS[2]


def test_a_second_thread_has_to_beat_the_best_of_one_thread() -> None:
    one_thread, two = [Setting(1, 1, "all"), Setting(1, 1, "extended")], Setting(2, 1, "all")
    assert choose([*one_thread, two], [1.0, 0.81, 0.80], 0.1) == one_thread[1]
    assert choose([*one_thread, two], [1.0, 0.81, 0.70], 0.1) == two


def test_the_winner_goes_into_the_manifest_and_all_times_into_the_log(
    exported: Artifact, context: Context, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def planted(folder: Path, settings: list[Setting], sentences: list[str]) -> list[float]:
        return [0.5 if setting == Setting(2, 8, "extended") else 1.0 for setting in settings]

    monkeypatch.setattr(tune, "measure", planted)
    caplog.set_level("INFO", logger="retort.tune")
    folder = Tune().run(exported, context).artifact.path
    manifest = Manifest.read(folder)
    manifest.check(folder)
    assert (manifest.threads, manifest.pad_multiple, manifest.graph_level) == (2, 8, "extended")
    assert caplog.text.count(" ms") == 8
    assert "{'threads': 2, 'pad_multiple': 8, 'graph_level': 'extended'}: 0.500 ms, taken" in caplog.text


def test_every_setting_answers_alike(exported: Artifact) -> None:
    texts = ["the car over there is red", "a blue lamp"]
    expected = Predictor(exported.path).predict_logits(texts)
    for setting in SETTINGS:
        found = Predictor(exported.path, **setting.row()).predict_logits(texts)
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_measuring_takes_turns_and_gives_a_time_for_each_setting(exported: Artifact) -> None:
    found = tune.measure(exported.path, SETTINGS, ["the car is red"] * 3)
    assert len(found) == 3
    assert all(milliseconds > 0 for milliseconds in found)


def test_padding_that_batch_invariance_needs_is_not_given_up(exported: Artifact) -> None:
    manifest = Manifest.model_validate(json.loads((exported.path / "retort.json").read_text()) | {"pad_multiple": 16})
    assert {setting.pad_multiple for setting in Tune(pad_multiples=[1, 8])._settings(manifest)} == {16}
    assert {setting.pad_multiple for setting in Tune(pad_multiples=[1, 32])._settings(manifest)} == {32}


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(UserError, match=r"threads: expected numbers from 1 to this machine's .* got \[0, 9999\]"):
        Tune(threads=[0, 1, 9999]).check(MINILM)
    with pytest.raises(UserError, match="pad_multiples"):
        Tune(pad_multiples=[0]).check(MINILM)
