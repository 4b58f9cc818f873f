from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from steerline.analysis.infosteer.histogram import NUM_BINS, KeyHistogram, bin_values, region_counts
from steerline.errors import EvaluationError


def keys(seed: int, scale: float = 1.0, size: int = 40_000) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    gate, up = torch.randn(size, generator=generator), torch.randn(size, generator=generator)
    return torch.nn.functional.silu(gate) * up * scale


def histogram(*layers: torch.Tensor) -> KeyHistogram:
    result = KeyHistogram.empty(range(len(layers)))
    for layer, values in enumerate(layers):
        result.add(layer, values)
    return result


def test_bins_are_all_bfloat16_numbers_in_ascending_order() -> None:
    values = bin_values()
    assert len(values) == NUM_BINS
    finite = values[np.isfinite(values)]
    assert (np.diff(finite) >= 0).all()
    assert (np.diff(bin_values("magnitude")[:-128]) > 0).all()


def test_every_bfloat16_key_is_counted_in_its_own_bin() -> None:
    values = torch.tensor([-2.0, -1.0, -0.0, 0.0, 0.5, 0.5, 3.0], dtype=torch.bfloat16)
    counts = histogram(values).counts[0]
    found = [(float(bin_values()[i]), int(counts[i])) for i in np.flatnonzero(counts)]
    assert found == [(-2.0, 1), (-1.0, 1), (-0.0, 1), (0.0, 1), (0.5, 2), (3.0, 1)]
    by_magnitude = histogram(values).by("magnitude")[0]
    places = np.flatnonzero(by_magnitude)
    assert dict(zip(bin_values("magnitude")[places], by_magnitude[places], strict=True)) == {
        0.0: 2,
        0.5: 2,
        1.0: 1,
        2.0: 1,
        3.0: 1,
    }


@pytest.mark.parametrize("of", ["value", "magnitude"])
def test_quantiles_agree_with_numpy_to_bfloat16_precision(of: str) -> None:
    values = keys(0)
    plain = values.abs() if of == "magnitude" else values
    for q in (0.01, 0.25, 0.5, 0.75, 0.99):
        ours = histogram(values).quantile(q, of)[0]  # type: ignore[arg-type]
        assert ours == pytest.approx(np.quantile(plain.numpy(), q), rel=0.01, abs=1e-3)


@pytest.mark.parametrize("of", ["value", "magnitude"])
def test_regions_agree_with_counting_all_keys_at_once(of: str) -> None:
    base, other = keys(0), keys(1, 1.3)
    counts = region_counts(histogram(base), histogram(other), of=of)[0]  # type: ignore[arg-type]
    a, b = (base.abs(), other.abs()) if of == "magnitude" else (base, other)
    low, high = np.quantile(a.numpy(), [0.25, 0.75])
    expected = [(b < low).sum(), ((b >= low) & (b < high)).sum(), (b >= high).sum()]
    assert counts == pytest.approx([int(n) for n in expected], rel=0.01)
    assert counts.sum() == pytest.approx(len(other))


def test_the_base_lies_in_its_own_regions_exactly_even_with_many_equal_keys() -> None:
    ties = torch.cat([torch.zeros(700), torch.ones(300)])
    counts = region_counts(histogram(ties, keys(0)), histogram(ties, keys(0)))
    assert counts[0] == pytest.approx([250, 500, 250])
    assert counts[1] == pytest.approx([10_000, 20_000, 10_000])


def test_batches_and_workers_add_up(tmp_path: Path) -> None:
    first, second = keys(0), keys(1)
    both = histogram(torch.cat([first, second]))
    assert ((histogram(first) + histogram(second)).counts == both.counts).all()
    both.save(tmp_path / "keys.npz")
    loaded = KeyHistogram.load(tmp_path / "keys.npz")
    assert loaded.layers == (0,)
    assert (loaded.counts == both.counts).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_keys_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(EvaluationError, match="not finite") as caught:
        histogram(torch.tensor([1.0, bad]))
    assert caught.value.where == "layer 0"
    largest = torch.finfo(torch.bfloat16).max
    assert histogram(torch.tensor([largest, -largest])).counts.sum() == 2


def test_empty_and_mismatched_histograms_are_refused() -> None:
    with pytest.raises(EvaluationError, match="no keys"):
        region_counts(KeyHistogram.empty([0]), histogram(keys(0)))
    with pytest.raises(EvaluationError, match="different layers"):
        region_counts(KeyHistogram.empty([1]), histogram(keys(0)))
    with pytest.raises(EvaluationError, match="not a key histogram"):
        KeyHistogram((0, 1), np.zeros((1, NUM_BINS), np.int64))
