"""Which adapters lie ready for the rows of a batch."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import Tensor

from steerline.inference.row_adapters import RowAdapters, _Stack, tokens_of
from steerline.models.adapter import Adapter, LowRank
from tests.tiny import tiny_model

MODEL = tiny_model("llama", dtype=torch.float64)
PATHS = ["model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj"]


def adapter(seed: int, *paths: str, rank: int | None = None) -> Adapter:
    draws = torch.Generator().manual_seed(seed)
    N, K = MODEL.get_submodule(PATHS[0]).weight.shape

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draws, dtype=torch.float64)

    rank = 2 + seed if rank is None else rank
    return Adapter({path: LowRank(random(K, rank), random(rank, N)) for path in paths})


def outputs(held: RowAdapters, own: list[Adapter | None]) -> list[Tensor]:
    """Of both maps, for a token with each."""
    found = []
    with torch.no_grad(), held.acting(tokens_of(own, [1] * len(own), torch.device("cpu"))):
        for path in PATHS:
            module = MODEL.get_submodule(path)
            found.append(module(torch.ones(len(own), 1, module.weight.shape[1], dtype=torch.float64))[:, 0])
    return found


def test_an_adapter_acts_alike_alone_beside_others_and_after_they_left() -> None:
    first, second = adapter(0, *PATHS), adapter(1, PATHS[0])
    rows = RowAdapters(MODEL)
    rows.hold({first})
    alone, plain = outputs(rows, [first]), outputs(rows, [None])
    rows.hold({first, second})
    beside = outputs(rows, [second, None, first])
    rows.hold({first})
    after = outputs(rows, [None, first])
    rows.hold(set())
    for path in range(len(PATHS)):
        torch.testing.assert_close(beside[path][2], alone[path][0])
        torch.testing.assert_close(after[path][1], alone[path][0])
        assert torch.equal(beside[path][1], plain[path][0])
        assert not torch.allclose(alone[path], plain[path])
    assert torch.equal(beside[1][0], plain[1][0])  # the second does not change this one
    assert not torch.allclose(beside[0][0], plain[0][0])


@pytest.mark.parametrize("needed", [1, 0])
def test_adapters_that_are_needed_no_longer_are_let_go(needed: int) -> None:
    adapters = [adapter(seed, *PATHS) for seed in range(3)]
    rows = RowAdapters(MODEL)
    rows.hold(set(adapters))
    outputs(rows, list(adapters))
    rows.hold(set(adapters[:needed]))
    gone = [weakref.ref(one) for one in adapters[needed:]]
    del adapters[needed:]
    gc.collect()
    assert [one() for one in gone] == [None] * (3 - needed)
    rows.hold(set())
    assert not any(module._forward_hooks for module in MODEL.modules())


def test_an_adapter_that_comes_moves_none_of_those_whose_rows_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    laid: list[int] = []
    lay = _Stack.lay

    def noted(stack: _Stack, place: int, low: LowRank) -> None:
        laid.append(place)
        lay(stack, place, low)

    monkeypatch.setattr(_Stack, "lay", noted)
    a, b, c, d = (adapter(seed, *PATHS, rank=3) for seed in range(4))
    wide, wider = (adapter(rank, *PATHS, rank=rank) for rank in (4, 5))
    rows = RowAdapters(MODEL)
    for needed, places in (
        ([a, b, c], [0, 1, 2]),
        ([a], [0]),  # the others are too many
        ([a, b], [1]),
        ([b], []),
        ([b, a], []),
        ([b, c], [0]),  # over one that has no rows
        ([c, d], [1]),
        ([d, a, b], [0, 2]),
        ([wide, a], [3]),  # over none, whose ranks are others
        ([wide], [0]),
        ([b], [1]),
        ([wider], [0]),  # nor beside these, who are enough
    ):
        laid.clear()
        rows.hold(needed)
        assert sorted(laid) == sorted(2 * places)
        for path, plain, found in zip(PATHS, outputs(rows, [None]), outputs(rows, [*needed]), strict=True):
            for one, own in zip(needed, found, strict=True):
                low = one.maps[path]
                torch.testing.assert_close(own, plain[0] + (low.down @ low.up).sum(0))
    rows.hold(set())
