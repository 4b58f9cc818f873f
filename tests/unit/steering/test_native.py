"""The compiled kernels pick the same keys as plain torch, and agree with it to rounding."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from steerline.steering import boost_keys, native, rows
from steerline.steering.rows import NORMS, Edit, Norm

DTYPES = [torch.float32, torch.bfloat16]


@pytest.fixture
def no_kernels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("STEERLINE_CACHE", str(tmp_path))
    native.load.cache_clear()
    yield
    native.load.cache_clear()


def keys_of(dtype: torch.dtype, num_keys: int = 1536) -> Tensor:
    """Gated activations, with rows of everything that could go wrong."""
    generator = torch.Generator().manual_seed(0)
    keys = functional.silu(torch.randn(12, num_keys, generator=generator)) * torch.randn(
        12, num_keys, generator=generator
    )
    keys[0] = 0
    keys[1, : num_keys // 2] = 0
    keys[1, 3] = -0.0
    keys[2] = -keys[2].abs()
    keys[3, 5] = torch.nan
    keys[4, 7] = -torch.nan
    keys[5, 1] = torch.inf
    keys[6, 1] = -torch.inf
    keys[7] = (4 * keys[7]).round()
    keys[8] *= 1e-30
    keys[9] *= 1e30
    return keys.to(dtype)


def test_this_machine_builds_the_kernels() -> None:
    assert native.load() is not None
    assert native.handles(torch.ones(2, 2))
    assert not native.handles(torch.ones(2, 2, dtype=torch.float64))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_keys", [8, 65, 1536, 40000])
def test_selections_are_equal_key_by_key(dtype: torch.dtype, num_keys: int) -> None:
    keys = keys_of(dtype, num_keys)
    for n, magnitude, largest in itertools.product(
        {1, num_keys // 100 or 1, num_keys // 2, num_keys}, (False, True), (False, True)
    ):
        expected = rows.select(keys, n, magnitude, largest)
        assert torch.equal(native.select(keys, n, magnitude, largest), expected)
        assert torch.equal(rows.select_by_topk(keys, n, magnitude, largest), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("edit", [Edit(1.7, *flags) for flags in itertools.product((False, True), repeat=3)])
def test_replacements_and_their_gradients_agree(dtype: torch.dtype, edit: Edit) -> None:
    keys = keys_of(dtype)
    grad = torch.randn(12, 1536, generator=torch.Generator().manual_seed(1)).to(dtype)
    picked = rows.select(keys, 15, True, False)
    strengths = torch.tensor([0.0, 1.0, 0.3, 0.7], dtype=torch.float64)
    tolerance = 8e-3 if dtype == torch.bfloat16 else 1e-5
    signs = rows.signs_at(keys, picked)
    mine, plain = (path.replace(keys, picked, signs, strengths, edit) for path in (native, rows))
    for one, other in zip(mine, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=0, equal_nan=True)
    torch.testing.assert_close(
        native.replace_backward(grad, plain.keys, picked, signs, plain.means, strengths, edit),
        rows.replace_backward(grad, plain.keys, picked, signs, plain.means, strengths, edit),
        rtol=tolerance,
        atol=1e-6,
        equal_nan=True,
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", NORMS)
def test_entropies_and_their_gradients_agree(dtype: torch.dtype, norm: Norm) -> None:
    keys = keys_of(dtype)
    weights = torch.linspace(0, 1, 12)
    mine, plain = (path.entropy(keys, weights, norm) for path in (native, rows))
    torch.testing.assert_close(mine.entropy, plain.entropy, rtol=2e-6, atol=2e-6, equal_nan=True)
    for grad in (torch.ones_like(keys), None):
        one = native.entropy_backward(keys, grad, weights, plain, norm).float()
        other = rows.entropy_backward(keys, grad, weights, plain, norm).float()
        # A slope is a difference of two logarithms: its error is relative to the row's largest, not to itself.
        size = other.abs().amax(-1, keepdim=True).clamp(min=1e-4)
        tolerance = 2e-5 if dtype == torch.float32 else 8e-3
        torch.testing.assert_close(one / size, other / size, rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_does_not_depend_on_its_neighbours(dtype: torch.dtype) -> None:
    keys = keys_of(dtype)[7:]
    weights = torch.ones(5)
    whole = native.entropy(keys, weights, "abs_l1").entropy
    alone = [native.entropy(row[None], weights[:1], "abs_l1").entropy for row in keys]
    assert torch.equal(whole, torch.cat(alone))
    assert torch.equal(boost_keys(keys), torch.stack([boost_keys(row) for row in keys]))


def test_a_second_load_finds_the_library_of_the_first(tmp_path: Path, no_kernels: None) -> None:
    assert native.load() is not None
    (library,) = (tmp_path / "kernels").iterdir()
    built = library.stat().st_mtime_ns
    native.load.cache_clear()
    assert native.load() is not None
    assert library.stat().st_mtime_ns == built


def test_without_a_compiler_plain_torch_runs_after_one_line_in_the_log(
    no_kernels: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keys = keys_of(torch.float32)[7:]
    picked = rows.select(keys, 15, False, False)
    edit = Edit(1.0, False, False, False)
    expected = rows.replace(keys, picked, rows.signs_at(keys, picked), torch.ones(1), edit)
    monkeypatch.setenv("CXX", "/no/such/compiler")
    with caplog.at_level(logging.WARNING):
        assert torch.equal(boost_keys(keys), expected.keys)
        boost_keys(keys)
    (record,) = caplog.records
    assert "fast CPU kernels are off" in record.message


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("edit", [Edit(1.7, *flags, False) for flags in itertools.product((False, True), repeat=2)])
def test_the_boost_in_one_kernel_has_the_bits_of_selection_and_replacement(dtype: torch.dtype, edit: Edit) -> None:
    keys = keys_of(dtype)
    strengths = torch.tensor([0.0, 1.0, 0.3, 0.7], dtype=torch.float64)
    for n, magnitude, largest in itertools.product((1, 15, 700), (False, True), (False, True)):
        picked = native.select(keys, n, magnitude, largest)
        wanted = native.replace(keys, picked, rows.signs_at(keys, picked), strengths, edit).keys
        got = native.boost(keys[:, None], n, magnitude, largest, strengths, edit)[:, 0]
        kind = torch.int32 if dtype == torch.float32 else torch.int16
        same = (got.view(kind) == wanted.view(kind)) | (got.isnan() & wanted.isnan())
        assert bool(same.all())
