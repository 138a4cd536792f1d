from dataclasses import replace

import numpy as np
import pytest

from bento.errors import DataError, IntegrityError
from tasks.monitor.reference import Reference, fit_reference


def held_out(n=200, seed=0):
    rng = np.random.default_rng(seed)
    probabilities_NC = rng.dirichlet([1, 1, 1], size=n)
    return {
        "embeddings_ND": rng.normal(size=(n, 16)),
        "probabilities_NC": probabilities_NC,
        "descriptors": {"length": rng.normal(size=n), "url": rng.random(n) < 0.1},
        "labels_N": probabilities_NC.argmax(axis=1),
        "class_names": ("a", "b", "größer"),
    }


def fitted(**options):
    return fit_reference(**held_out(), rng=np.random.default_rng(0), **options)


def test_half_of_the_rows_are_kept_and_reduced():
    reference = fitted(num_components=5)
    assert reference.projected_MK.shape == (100, 5)
    assert len(reference.labels_M) == len(reference.descriptors["url"]) == len(reference) == 100


def test_no_more_rows_than_asked_are_kept():
    assert len(fitted(max_rows=30)) == 30


def test_kept_rows_project_to_what_is_stored():
    reference, rows = fitted(num_components=5), held_out()
    projected_NK = reference.project(rows["embeddings_ND"])
    distances = np.abs(projected_NK[:, None] - reference.projected_MK[None]).max(axis=2).min(axis=0)
    assert distances.max() < 1e-5


def test_it_knows_which_held_out_rows_it_keeps():
    rows = held_out()
    reference = fitted()
    assert np.allclose(reference.probabilities_MC, rows["probabilities_NC"][reference.rows_M])
    assert (fitted(rows_N=np.arange(200) + 1_000).rows_M == reference.rows_M + 1_000).all()


def test_it_is_stored_whole_and_without_pickle(tmp_path):
    reference = fitted()
    reference.save(tmp_path)
    loaded = Reference.load(tmp_path)
    assert loaded.sha256 == reference.sha256
    assert (loaded.rows_M == reference.rows_M).all()
    assert loaded.class_names == ("a", "b", "größer")
    assert np.array_equal(loaded.project(np.ones((2, 16))), reference.project(np.ones((2, 16))))


def test_the_same_seed_makes_the_same_file(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        fitted().save(tmp_path / name)
    assert (tmp_path / "one/reference.npz").read_bytes() == (tmp_path / "two/reference.npz").read_bytes()


def test_any_change_changes_the_digest():
    reference = fitted()
    assert replace(reference, labels_M=reference.labels_M[::-1].copy()).sha256 != reference.sha256


def test_too_few_rows_are_refused():
    with pytest.raises(DataError, match="at least 40"):
        fit_reference(**held_out(39), rng=np.random.default_rng(0))


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(IntegrityError, match=r"reference\.npz"):
        Reference.load(tmp_path)
