"""Placebo draws: even, independent, and a function of their place alone."""

from __future__ import annotations

import dataclasses

import torch

from steerline.data.batch import collate
from steerline.steering.draws import Place, uniform_by_sample
from tests.law.conftest import packed, sample_rows

PLACE = Place(seed=1, control_seed=2, step=3, layer=4)


def test_draws_look_uniform_and_normal() -> None:
    keys = torch.empty(4, 64, 512)
    uniform, normal = PLACE.uniform(keys), PLACE.normal(keys)
    assert uniform.shape == (256, 512)
    assert 0 < uniform.min() < 1e-4 < 1 - 1e-4 < uniform.max() < 1
    assert abs(uniform.mean().item() - 0.5) < 0.003
    assert abs(uniform.var().item() - 1 / 12) < 0.001
    assert abs(normal.mean().item()) < 0.01
    assert abs(normal.var().item() - 1) < 0.01
    correlation = torch.corrcoef(uniform)
    assert (correlation - torch.eye(256)).abs().max() < 0.25
    assert uniform.unique().numel() > 0.99 * uniform.numel()


def test_a_draw_depends_on_its_place_alone() -> None:
    wide = PLACE.uniform(torch.empty(3, 9, 16)).view(3, 9, 16)
    narrow = PLACE.uniform(torch.empty(2, 5, 16)).view(2, 5, 16)
    assert torch.equal(wide[:2, :5], narrow)


def test_every_part_of_the_place_matters() -> None:
    keys = torch.empty(1, 2, 64)
    draws = [PLACE.uniform(keys)]
    draws += [dataclasses.replace(PLACE, **{name: 9}).uniform(keys) for name in dataclasses.asdict(PLACE)]
    draws.append(PLACE.uniform(keys, stream=1))
    assert all((one == other).float().mean() < 0.01 for i, one in enumerate(draws) for other in draws[:i])


def test_a_sample_draws_the_same_numbers_wherever_it_stands() -> None:
    rows = sample_rows()[:4]
    apart, together = collate(rows, 0, 32), collate(packed(rows), 0)
    alone = uniform_by_sample(apart.sample_ids, apart.segment_ids, apart.position_ids, "key", 3)
    shared = uniform_by_sample(together.sample_ids, together.segment_ids, together.position_ids, "key", 3)
    assert torch.equal(alone[2][apart.segment_ids[2] == 1], shared[1][together.segment_ids[1] == 1])
    assert torch.equal(alone[3][apart.segment_ids[3] == 1], shared[1][together.segment_ids[1] == 2])
    others = uniform_by_sample(apart.sample_ids, apart.segment_ids, apart.position_ids, "other", 3)
    assert (alone == others).sum() == 0
    assert alone.unique().numel() == alone.numel()
    assert abs(alone.mean().item() - 0.5) < 0.05
