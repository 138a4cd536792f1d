"""What runs cost and how a model is laid out: the fit finds planted coefficients, the measurement real ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bento.cost import RunCost
from tasks import serving_cost
from tasks.serving_cost import BATCHES, fit_cost, measure_cost, measure_serving
from tests.tiny import write_tiny_model


@pytest.mark.parametrize("attention_ms", [0.0, 1e-5])
def test_the_fit_finds_the_coefficients_behind_noisy_times(attention_ms: float) -> None:
    planted = RunCost(run_ms=0.1, text_ms=0.02, token_ms=0.01, attention_ms=attention_ms)
    grid = [(size, length) for size in BATCHES for length in (8, 16, 32, 64)]
    noise_G = np.random.default_rng(0).lognormal(0, 0.02, size=len(grid))
    found = fit_cost(grid, np.array([planted.of(*cell) for cell in grid]) * noise_G)
    assert found.run_ms == pytest.approx(planted.run_ms, rel=0.1)
    assert found.token_ms == pytest.approx(planted.token_ms, rel=0.1)
    assert found.batch_tokens() == pytest.approx(planted.batch_tokens(), rel=0.2)
    predicted = np.array([found.of(*cell) / planted.of(*cell) for cell in grid])
    np.testing.assert_allclose(predicted, 1, atol=0.05)


def test_a_real_model_has_a_positive_cost_and_every_length_is_within_its_limit(tmp_path: Path) -> None:
    predictor = serving_cost.Predictor(write_tiny_model(tmp_path / "model", max_tokens=16))
    cost = measure_cost(predictor, np.random.default_rng(0))
    assert cost.of(1, 16) > 0
    assert cost.token_ms > 0


@pytest.mark.parametrize(("speeds", "threads"), [([100.0, 105.0], 1), ([100.0, 120.0], 2)])
def test_more_threads_a_run_have_to_win_by_the_margin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, speeds: list[float], threads: int
) -> None:
    def planted(*_: Any) -> list[float]:
        return speeds

    monkeypatch.setattr(serving_cost, "_tokens_per_s", planted)
    monkeypatch.setattr(serving_cost.os, "cpu_count", lambda: 4)
    found = measure_serving(write_tiny_model(tmp_path / "model"), [1, 2], np.random.default_rng(0))
    assert (found.threads, found.workers) == (threads, 4 // threads)


def test_the_throughput_of_every_layout_is_measured(tmp_path: Path) -> None:
    found = measure_serving(write_tiny_model(tmp_path / "model"), [1, 2], np.random.default_rng(0))
    assert found.workers >= 1
    assert found.batch_tokens == found.cost.batch_tokens()
