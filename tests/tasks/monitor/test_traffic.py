"""From the log to a look: texts that the log hashed or dropped are counted and not compared."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bento.redaction import text_rule
from tasks.monitor import traffic
from tasks.monitor.config import MonitorConfig
from tasks.monitor.traffic import Watched, take_window
from tasks.types import Artifact
from tests.logged import row, store

HASHED = text_rule("hash", "a key of 16 characters")("my card")


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RETORT_DATABASE_URL", raising=False)


def artifact(kind: Any) -> Artifact:
    return Artifact(kind=kind, path=Path("nowhere"), sha256="0" * 64, parents=(), made_by="test")


def test_a_window_has_the_texts_that_were_kept_and_the_number_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "embed", lambda _folder, texts: np.zeros((len(texts), 2), dtype=np.float32))
    monkeypatch.setattr(traffic, "describe", lambda texts, _tokenizer: {"length": np.zeros(len(texts))})
    store(row("a", text="where is my card"), row("b", text=HASHED), row("c", text=""), row("d", text="I am [email]"))
    watched = Watched(
        name="tiny", folder=Path("nowhere"), sha256="0" * 64, labels=("refund", "transfer"), data=artifact("data")
    )
    window = take_window(watched, artifact("encoder"), MonitorConfig())
    assert (window.texts, window.num_unreadable) == (["where is my card", "I am [email]"], 2)
