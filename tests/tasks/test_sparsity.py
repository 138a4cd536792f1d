from itertools import pairwise

import pytest
import torch

from bento.errors import UserError
from tasks.sparsity import (
    Pattern,
    cubic_sparsity,
    group_mask,
    magnitude_masks,
    measured_sparsity,
    parse_pattern,
)


def random_weights(*, seed: int = 0) -> dict[str, torch.Tensor]:
    """Two matrices, the second with magnitudes ten times as large."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "small": torch.randn(24, 16, generator=generator),
        "large": 10 * torch.randn(8, 32, generator=generator),
    }


def num_kept(masks: dict[str, torch.Tensor]) -> int:
    return sum(int(mask.sum()) for mask in masks.values())


@pytest.mark.parametrize("sparsity", [0.0, 0.001, 0.1, 0.5, 0.9, 0.99])
def test_exactly_the_asked_share_is_left_out_and_it_is_the_smallest(sparsity: float) -> None:
    weights = random_weights()
    masks = magnitude_masks(weights, sparsity)
    magnitudes = torch.cat([weight.abs().flatten() for weight in weights.values()])
    kept = torch.cat([masks[name].flatten() for name in weights])
    assert num_kept(masks) == len(magnitudes) - round(sparsity * len(magnitudes))
    if 0 < num_kept(masks) < len(magnitudes):
        assert magnitudes[kept].min() >= magnitudes[~kept].max()


def test_global_magnitude_prunes_the_matrix_of_small_weights_more() -> None:
    masks = magnitude_masks(random_weights(), 0.5)
    assert masks["small"].float().mean() < 0.3
    assert masks["large"].float().mean() > 0.7


def test_in_the_scope_of_a_matrix_each_one_has_the_sparsity() -> None:
    weights = random_weights()
    for name, mask in magnitude_masks(weights, 0.75, scope="matrix").items():
        assert int(mask.sum()) == weights[name].numel() // 4


def test_among_equal_magnitudes_the_count_is_still_exact() -> None:
    weights = {"equal": torch.tensor([[1.0, -1.0, 1.0, -1.0], [0.0, 0.0, 2.0, 1.0]])}
    mask = magnitude_masks(weights, 0.5)["equal"]
    assert mask.tolist() == [[True, True, True, False], [False, False, True, False]]


def test_zeros_are_left_out_first_so_that_none_comes_back_as_sparsity_rises() -> None:
    weights = random_weights()
    for sparsity in (0.2, 0.5, 0.8, 0.9):
        zeros = {name: weight == 0 for name, weight in weights.items()}
        masks = magnitude_masks(weights, sparsity)
        weights = {name: weight * masks[name] for name, weight in weights.items()}
        assert all((weights[name] == 0)[zeros[name]].all() for name in weights)
    assert measured_sparsity(weights) == pytest.approx(0.9, abs=1 / 640)


@pytest.mark.parametrize("text", ["1:2", "2:4", "1:4", "3:8"])
def test_a_pattern_holds_in_every_group_and_keeps_the_largest(text: str) -> None:
    pattern = parse_pattern(text)
    weight = random_weights()["small"]
    groups = weight.abs().reshape(-1, pattern.group)
    kept = group_mask(weight, pattern).reshape(-1, pattern.group)
    assert (kept.sum(dim=1) == pattern.kept).all()
    for magnitudes, mask in zip(groups, kept, strict=True):
        assert magnitudes[mask].min() >= magnitudes[~mask].max()


def test_groups_do_not_reach_over_the_end_of_a_row() -> None:
    with pytest.raises(UserError, match="divide the 6 inputs of a matrix, got groups of 4"):
        group_mask(torch.ones(4, 6), parse_pattern("2:4"))


@pytest.mark.parametrize("text", ["2:4", "1:4"])
def test_a_schedule_towards_a_pattern_prunes_only_what_the_pattern_prunes_and_ends_in_it(text: str) -> None:
    pattern, weights = parse_pattern(text), random_weights()
    final = {name: group_mask(weight, pattern) for name, weight in weights.items()}
    half_way = magnitude_masks(weights, pattern.sparsity / 2, pattern=pattern)
    assert all(half_way[name][final[name]].all() for name in weights)
    end = magnitude_masks(weights, pattern.sparsity, pattern=pattern)
    assert all(torch.equal(end[name], final[name]) for name in weights)


def test_a_pattern_is_read() -> None:
    assert parse_pattern("2:4") == Pattern(kept=2, group=4)
    assert parse_pattern("1:4").sparsity == 0.75


@pytest.mark.parametrize("text", ["4:2", "2:2", "0:4", "2-4", "two:four", "2:4:8", "1:64", ""])
def test_what_is_no_pattern_is_told_what_one_is(text: str) -> None:
    with pytest.raises(ValueError, match="expected N:M"):
        parse_pattern(text)


def test_the_schedule_is_zhu_and_guptas() -> None:
    start, length, final = 0, 100, 0.9
    for step in (0, 10, 50, 99, 100):
        expected = final + (0 - final) * (1 - (step - start) / length) ** 3
        assert cubic_sparsity(step / length, final) == pytest.approx(expected)
    assert cubic_sparsity(0, final) == 0
    assert cubic_sparsity(1, final) == cubic_sparsity(1.5, final) == final


def test_the_schedule_rises_fast_first() -> None:
    values = [cubic_sparsity(at / 10, 0.9) for at in range(11)]
    steps = [after - before for before, after in pairwise(values)]
    assert all(before > after > 0 for before, after in pairwise(steps))
