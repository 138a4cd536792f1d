import importlib.util
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from bento.errors import UserError
from tasks.monitor.config import MonitorConfig
from tasks.monitor.drift import drift_alpha, look
from tasks.monitor.reference import prediction_features
from tasks.stats.budget import alpha_per_look

spec = importlib.util.spec_from_file_location("made_up", Path(__file__).with_name("made_up.py"))
traffic = importlib.util.module_from_spec(spec)
spec.loader.exec_module(traffic)

QUICK = MonitorConfig(false_alarm_budget=0.1, looks=5, permutations=499)
"""Few looks, so that few permutations can alarm."""


def test_half_of_the_budget_is_spent_on_drift():
    assert drift_alpha(MonitorConfig()) == alpha_per_look(0.05, 90)


def test_no_drift_is_quiet():
    rng = np.random.default_rng(0)
    found = look(traffic.make_reference(rng), traffic.make_window(rng), config=QUICK, rng=rng)
    assert found.enough
    assert not found.drifted
    assert found.residual == {}
    assert set(found.tests) == {"embedding", "probabilities", "predicted_labels", "descriptors"}


def test_a_look_without_drift_resamples_no_class_mix(monkeypatch):
    rng = np.random.default_rng(0)
    reference, still, moved = traffic.make_reference(rng), traffic.make_window(rng), traffic.make_window(rng, shift=1.5)
    resampled = []
    monkeypatch.setattr(
        "tasks.stats.prior._resample", lambda *given: resampled.append(given) or np.ones((given[2], given[0]))
    )
    quiet = look(reference, still, config=QUICK, rng=rng)
    assert not quiet.drifted
    assert not resampled
    assert sum(quiet.prior_window.values()) == pytest.approx(1, abs=1e-4)
    assert look(reference, moved, config=QUICK, rng=rng).drifted
    assert len(resampled) == 1


def test_alarms_without_drift_stay_within_the_budget():
    """20 monitored lives of 5 looks, each life with its own reference; 5 % of the lives may alarm."""
    alarms = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        reference = traffic.make_reference(rng, 240)
        windows = (traffic.make_window(rng, 200) for _ in range(QUICK.looks))
        alarms += any(look(reference, window, config=QUICK, rng=rng).drifted for window in windows)
    assert alarms <= 3


def in_stretches(rng, number, length=20, *, shift=0.0):
    """A window whose rows come in stretches that resemble each other, in an order of time."""
    window = traffic.make_window(rng, number, shift=shift)
    common = np.repeat(rng.normal(size=(number // length, window.embeddings_ND.shape[1])), length, axis=0)
    times = np.arange(number) * 30.0
    return replace(window, embeddings_ND=window.embeddings_ND + common, timestamps_s_N=times)


def test_stretches_that_resemble_each_other_are_no_drift():
    """40 windows of 10 stretches against rows of 300 such stretches, at 5 % for all four tests together."""
    config, alarms, blind = QUICK.model_copy(update={"looks": 1, "false_alarm_budget": 0.1}), 0, 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        reference = traffic.make_reference(rng, 240)
        spread = replace(reference, projected_MK=reference.project(_spread(rng, len(reference))))
        window = in_stretches(rng, 200)
        alarms += look(spread, window, config=config, rng=rng).drifted
        blind += look(spread, replace(window, timestamps_s_N=None), config=config, rng=rng).drifted
    assert alarms <= 5
    assert blind > 20


def _spread(rng, number):
    """Embeddings of rows of which no two are of one stretch."""
    window = traffic.make_window(rng, number)
    return window.embeddings_ND + rng.normal(size=window.embeddings_ND.shape)


def test_a_shift_is_found_among_stretches_that_resemble_each_other():
    rng = np.random.default_rng(0)
    reference = traffic.make_reference(rng)
    reference = replace(reference, projected_MK=reference.project(_spread(rng, len(reference))))
    assert look(reference, in_stretches(rng, 400, shift=4.0), config=QUICK, rng=rng).drifted


def test_a_shift_of_the_embeddings_is_found_and_is_not_the_mix():
    rng = np.random.default_rng(0)
    window = traffic.make_window(rng, shift=1.5)
    found = look(traffic.make_reference(rng), window, config=QUICK, rng=rng)
    assert found.drifted
    assert found.tests["embedding"]["p_holm"] <= found.alpha
    assert not found.mix_only


def test_longer_texts_alone_are_found_by_the_descriptors():
    rng = np.random.default_rng(0)
    window = traffic.make_window(rng)
    longer = replace(window, descriptors={"length": window.descriptors["length"] + 0.5})
    found = look(traffic.make_reference(rng), longer, config=QUICK, rng=rng)
    assert found.drifted
    assert not found.mix_only
    assert found.tests["descriptors"]["p_holm"] <= found.alpha < found.tests["embedding"]["p_holm"]


def test_another_mix_of_the_same_classes_is_recognised_and_measured():
    rng = np.random.default_rng(1)
    shares = (0.7, 0.2, 0.1)
    window = traffic.make_window(rng, shares=shares)
    found = look(traffic.make_reference(rng), window, config=QUICK, rng=rng)
    assert found.drifted
    assert found.mix_only
    assert list(found.prior_window.values()) == pytest.approx(shares, abs=0.07)
    assert list(found.prior_check.values()) == pytest.approx(shares, abs=0.07)


def test_another_mix_with_a_shift_is_not_called_mix_only():
    rng = np.random.default_rng(1)
    window = traffic.make_window(rng, shares=(0.7, 0.2, 0.1), shift=1.5)
    found = look(traffic.make_reference(rng), window, config=QUICK, rng=rng)
    assert found.drifted
    assert not found.mix_only


def test_a_class_that_the_reference_lacks_is_not_called_mix_only():
    rng = np.random.default_rng(2)
    reference = traffic.make_reference(rng, shares=(0.5, 0.5, 0.0))
    found = look(reference, traffic.make_window(rng), config=QUICK, rng=rng)
    assert found.drifted
    assert not found.mix_only
    assert found.prior_check is None


def test_too_few_rows_are_no_verdict_and_no_crash():
    rng = np.random.default_rng(0)
    reference = traffic.make_reference(rng)
    for n in (0, 1, QUICK.min_window - 1):
        found = look(reference, traffic.make_window(rng, n, shift=5.0), config=QUICK, rng=rng)
        assert (found.enough, found.drifted, found.num_rows) == (False, False, n)


def test_timestamps_make_blocks_and_a_shift_in_a_busy_hour_is_still_found():
    rng = np.random.default_rng(0)
    window = traffic.make_window(rng, shift=2.0, timestamps_s_N=1.7e9 + np.arange(300.0))
    assert look(traffic.make_reference(rng), window, config=QUICK, rng=rng).drifted


def test_the_evidence_is_json():
    rng = np.random.default_rng(0)
    found = look(traffic.make_reference(rng), traffic.make_window(rng, shift=1.5), config=QUICK, rng=rng)
    assert json.loads(json.dumps(asdict(found), allow_nan=False))["drifted"] is True


def test_the_same_seed_gives_the_same_evidence():
    rng = np.random.default_rng(0)
    reference, window = traffic.make_reference(rng), traffic.make_window(rng)
    first, second = (look(reference, window, config=QUICK, rng=np.random.default_rng(5)) for _ in range(2))
    assert first == second


def test_a_window_of_another_model_is_refused():
    rng = np.random.default_rng(0)
    window = traffic.make_window(rng)
    other = replace(window, probabilities_NC=window.probabilities_NC[:, :2])
    with pytest.raises(UserError, match="3 classes"):
        look(traffic.make_reference(rng), other, config=QUICK, rng=rng)


def test_many_classes_are_compared_by_summaries():
    probabilities_PC = np.random.default_rng(0).dirichlet(np.ones(30), size=50)
    names, features_PF = prediction_features(probabilities_PC, tuple(str(c) for c in range(30)))
    assert names == ["largest probability", "margin", "entropy"]
    assert np.allclose(features_PF[:, 0], probabilities_PC.max(axis=1))
    assert (features_PF[:, 1] >= 0).all()
